"""Bits flip in the metadata while it is stopped: what is answered, and what is deleted?

``python -m tests.hostile.metadata``. Each flip is made on a copy of the file, and every object is looked up in it: its
manifest and its chunk's record must be what they were, or an error. A name that is not found, or not listed, must be
found by the check of the file. Flips in the log are in ``test_metadata``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from collections import Counter
from typing import TYPE_CHECKING

import trio

from flared.catalog.objects import find_object_and_chunk, list_page
from flared.errors import ConfigError, Damaged, FlareError, NoSuchBucket, NoSuchObject
from flared.meta.check import FileChecker
from flared.meta.open import open_kv
from flared.names import DEFAULT_BUCKET, ObjectKey, ObjectName
from tests.hostile.lost_records import fill
from tests.support.daemons import API, Cluster, running
from tests.support.scratch import scratch_directory

if TYPE_CHECKING:
    from pathlib import Path

    from flared.catalog.chunks import ChunkRecord
    from flared.catalog.manifest import Manifest
    from flared.meta.kv import KV

Found = dict[str, tuple["Manifest", "ChunkRecord"]]
SIZE = 600


def flip(path: Path, bit: int) -> None:
    """Change one bit of a file."""
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        (old,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([old ^ 1 << bit % 8]))


def size_of(path: Path) -> int:
    return path.stat().st_size


async def look_up(kv: KV, names: list[str]) -> tuple[Found, Counter[str]]:
    """The answer for each name, and how often there were others."""
    found: Found = {}
    said: Counter[str] = Counter()
    for name in names:
        try:
            manifest, chunk = await find_object_and_chunk(kv, ObjectName(DEFAULT_BUCKET, ObjectKey(name)))
            if chunk is None:  # a GET says that its record is lost
                said["lost"] += 1
            else:
                found[name] = manifest, chunk
        except (NoSuchObject, NoSuchBucket):
            said["absent"] += 1
        except Damaged:
            said["error"] += 1
    return found, said


async def attack(database: Path, copy: Path, bit: int, truth: Found) -> Counter[str]:
    """Flip one bit on a copy; what came of it. Raise AssertionError for anything wrong that no check would find."""
    shutil.copyfile(database, copy)
    flip(copy, bit)
    outcome: Counter[str] = Counter()
    try:
        async with open_kv(str(copy)) as kv:
            found, said = await look_up(kv, list(truth))
            outcome += said
            outcome["wrong"] += sum(truth[name] != answer for name, answer in found.items())
            if said["absent"] == len(truth):
                outcome["refused"] += 1  # the bucket's own row: an error for every name of it
            try:
                listed = await list_page(kv, DEFAULT_BUCKET, limit=10 * len(truth))
                gaps = truth.keys() - {manifest.name.key for manifest in listed.objects}
                outcome["gap"] += len(gaps)
                outcome["wrong"] += sum(
                    manifest.is_readable and truth[manifest.name.key][0] != manifest
                    for manifest in listed.objects
                    if manifest.name.key in truth
                )
            except FlareError:
                outcome["listing refused"] += 1
    except (ConfigError, Damaged):
        outcome["start refused"] += 1
        return outcome
    checker = FileChecker(copy, lambda _key: None)
    try:
        while checker.step():
            pass
    finally:
        checker.close()
    if outcome["absent"] or outcome["lost"] or outcome["gap"]:
        assert checker.problems, f"bit {bit}: {dict(outcome)} and the check finds nothing"
    outcome["found by the check"] += bool(checker.problems)
    return outcome


async def attack_many(database: Path, flips: int, seed: int) -> Counter[str]:
    """So many flips, each on a copy. The file belongs to a node that was stopped in order."""
    chance = random.Random(seed)
    copy = database.with_name("flipped.db")
    async with open_kv(str(database)) as kv:
        listed = await list_page(kv, DEFAULT_BUCKET, limit=10_000)
        truth, said = await look_up(kv, [manifest.name.key for manifest in listed.objects])
    assert not said
    total: Counter[str] = Counter()
    bits = 8 * size_of(database)
    for _ in range(flips):
        bit = chance.randrange(bits)
        outcome = await attack(database, copy, bit, truth)
        assert not outcome["wrong"], f"bit {bit}: {dict(outcome)}"
        total += outcome
    for path in copy.parent.glob("flipped.db*"):
        path.unlink()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=120)
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"--seed {options.seed}", flush=True)
    with scratch_directory() as directory, running(Cluster(directory)) as cluster:
        fill(cluster, options.objects, SIZE)
        assert cluster.terminate(API) == 0
        database = cluster.directory / "meta.db"
        total = trio.run(attack_many, database, options.flips, options.seed)
    print(f"{options.flips} flips, {options.objects} objects each: {dict(total)}")


if __name__ == "__main__":
    sys.exit(main())
