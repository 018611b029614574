"""Random clients: they put (whole or in parts), get, delete and copy a few objects, and note what each may hold."""

from __future__ import annotations

import random

import trio

from flared.errors import NoSuchObject, NoSuchVersion, Unavailable
from flared.objects.commit import ObjectHeaders
from flared.objects.complete_upload import NamedPart, complete_upload
from flared.objects.copy import copy_object
from flared.objects.delete import delete_object, delete_version
from flared.objects.upload_part import upload_part
from flared.objects.uploads import abort_upload, create_upload
from tests.support.cluster import CHUNK, PART_SIZE_MIN, Cluster, name
from tests.support.piece_nodes import MemorySource

KEYS = [f"key{number}" for number in range(12)]
SIZES = [0, 1, 4096, 100_000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]
PART_SIZES = [PART_SIZE_MIN, CHUNK, 2 * CHUNK + 5]
CLIENTS = 4
STEPS = 40
ABSENT = None


class Ledger:
    """The possible values of each key: those that an acknowledged or an unfinished write can have left there."""

    def __init__(self) -> None:
        self._possible: dict[str, set[bytes | None]] = {key: {ABSENT} for key in KEYS}
        self._busy: set[str] = set()
        self.kept: dict[str, dict[int, bytes]] = {key: {} for key in KEYS}
        """Versions, by their numbers, that were acknowledged while they had ids of their own, and not removed since."""

    def claim(self, rng: random.Random) -> str | None:
        """A key that no other client works on, so that the order of its writes is known."""
        free = [key for key in KEYS if key not in self._busy]
        if not free:
            return None
        key = rng.choice(free)
        self._busy.add(key)
        return key

    def release(self, key: str) -> None:
        self._busy.discard(key)

    def attempt(self, key: str, value: bytes | None) -> None:
        self._possible[key].add(value)

    def acknowledge(self, key: str, value: bytes | None) -> None:
        self._possible[key] = {value}

    def possible(self, key: str) -> set[bytes | None]:
        return self._possible[key]

    def restore(self, key: str, values: set[bytes | None]) -> None:
        self._possible[key] = set(values)

    def certain(self, key: str) -> bytes | None:
        """The value to copy, if there is only one that it can be."""
        values = self._possible[key]
        return next(iter(values)) if len(values) == 1 else None


async def client(
    cluster: Cluster,
    ledger: Ledger,
    seed: int,
    pause_seconds: float,
    *,
    versioned: bool = False,
    in_parts: bool = False,
) -> None:
    rng = random.Random(seed)
    operations = [write, write, read, read, erase, duplicate]
    if in_parts:
        operations += [write_in_parts, write_in_parts]
    if versioned:
        operations += [read_old, remove_old, undelete]
    for _ in range(STEPS):
        await trio.sleep(rng.random() * pause_seconds)
        key = ledger.claim(rng)
        if key is None:
            continue
        try:
            await rng.choice(operations)(cluster, ledger, key, rng)
        except* Unavailable:  # of a large object it comes out of a nursery
            pass
        finally:
            ledger.release(key)


async def write(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    # Few different bodies, so that chunks are shared, released and put again all the time.
    value = random.Random(rng.randrange(6)).randbytes(rng.choice(SIZES))
    ledger.attempt(key, value)
    with trio.move_on_after(rng.choice([0.005, 60, 60, 60])) as scope:
        written = (await cluster.put(key, value, known=rng.random() < 0.8)).manifest
    if not scope.cancelled_caught:
        ledger.acknowledge(key, value)
        if not written.is_null:
            ledger.kept[key][written.version] = value


async def write_in_parts(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    """Some parts are put again, some left out; some uploads are aborted, or left for the clean-up."""
    with trio.move_on_after(rng.choice([0.05, 60, 60, 60])):
        upload = (await create_upload(cluster.store, name(key), headers=ObjectHeaders())).id
        parts: dict[int, tuple[NamedPart, bytes]] = {}
        for _ in range(rng.randrange(1, 5)):
            number = rng.randrange(1, 4)
            value = random.Random(rng.randrange(6)).randbytes(rng.choice(PART_SIZES))
            source = MemorySource(value, known=rng.random() < 0.8)
            part = (await upload_part(cluster.store, name(key), upload, number, source)).part
            parts[number] = NamedPart(number, part.etag), value
        ending = rng.random()
        if ending < 0.2:
            await abort_upload(cluster.store, name(key), upload)
        elif ending < 0.8:
            named = [parts[number] for number in sorted(rng.sample(sorted(parts), rng.randrange(1, len(parts) + 1)))]
            value = b"".join(value for _, value in named)
            ledger.attempt(key, value)
            written = (await complete_upload(cluster.store, name(key), upload, [part for part, _ in named])).manifest
            ledger.acknowledge(key, value)
            if not written.is_null:
                ledger.kept[key][written.version] = value


async def read(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    try:
        got: bytes | None = await cluster.get(key)
    except NoSuchObject:
        got = ABSENT
    assert got in ledger.possible(key), f"{key} holds {len(got or b'')} bytes that no client put there last"


async def erase(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    ledger.attempt(key, ABSENT)
    await delete_object(cluster.store, name(key))
    ledger.acknowledge(key, ABSENT)


async def duplicate(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    source = ledger.claim(rng)
    if source is None:
        return
    try:
        value = ledger.certain(source)
        if value is not None:
            ledger.attempt(key, value)
            await copy_object(cluster.store, name(source), name(key))
            ledger.acknowledge(key, value)
    finally:
        ledger.release(source)


async def read_old(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    """No write takes a version away from under its number."""
    if ledger.kept[key]:
        version = rng.choice(sorted(ledger.kept[key]))
        assert await cluster.get(key, version) == ledger.kept[key][version]


async def remove_old(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    """Remove a version that is not the newest."""
    older = sorted(ledger.kept[key])[:-1]
    if older:
        version = rng.choice(older)
        del ledger.kept[key][version]
        await delete_version(cluster.store, name(key), version)
        try:
            await cluster.get(key, version)
        except NoSuchVersion:
            return
        raise AssertionError(f"version {version} of {key} is still there")


async def undelete(cluster: Cluster, ledger: Ledger, key: str, rng: random.Random) -> None:
    """Delete, and remove the delete marker: what was there before comes back."""
    before = set(ledger.possible(key))
    ledger.attempt(key, ABSENT)
    marker = (await delete_object(cluster.store, name(key))).marker
    assert marker is not None
    await delete_version(cluster.store, name(key), marker.version)
    ledger.restore(key, before)
