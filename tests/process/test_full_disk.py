"""A full disk refuses what needs room and goes on with the rest."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flared.errors import MetadataFull
from flared.meta.kv import KV, Transaction
from flared.meta.open import open_kv
from tests.support.bodies import body
from tests.support.client import Client, object_path
from tests.support.daemons import API, Cluster, Start
from tests.support.pieces import data_fields

MIB = 1024 * 1024
DISK_MEBIBYTES = 96
OBJECT_SIZE = MIB
RESERVE = "4MiB"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")


@pytest.fixture
def small_disk(directory: Path) -> Iterator[Path]:
    """An ext4 of its own, on a file: syncs and O_DIRECT work on it as on any disk."""
    image, mounted = directory / "image", directory / "small"
    with open(image, "wb") as file:
        file.truncate(DISK_MEBIBYTES * MIB)
    mounted.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-m0", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=False).returncode:
        pytest.skip("no loop devices here")
    try:
        yield mounted
    finally:
        # Lazily: the test's cluster is stopped by now, but a test that failed may have left something.
        subprocess.run(["umount", "-l", str(mounted)], check=True)


def put_until_refused(client: Client, *, most: int) -> tuple[int, int]:
    """How many objects went in, and the status that refused the next one."""
    for number in range(most):
        status = client.put(f"object-{number}", body(number, OBJECT_SIZE)).status
        if status != 201:
            return number, status
    raise AssertionError("the disk does not fill up")


def test_a_full_data_node_refuses_puts_and_goes_on_with_reads_and_deletes(small_disk: Path, start: Start) -> None:
    cluster = start(
        volumes={"data1": [small_disk / "volume"]},
        data={"storage": {"reserve": RESERVE}},
        api={"cluster": {"garbage_grace": "1s"}},
    )
    client = cluster.client()
    stored, status = put_until_refused(client, most=2 * DISK_MEBIBYTES)
    assert status in (503, 507)
    assert stored > DISK_MEBIBYTES // 4, "too little of the disk could be used"
    assert small_put_status(cluster) in (201, 507)

    cluster.check_alive()
    for number in range(stored):
        assert client.get(f"object-{number}").body == body(number, OBJECT_SIZE)
    assert client.get(f"object-{stored}").status == 404

    for number in range(stored):
        assert client.delete(f"object-{number}").status == 204
    cluster.wait_until(
        lambda: client.put("again", body("again", OBJECT_SIZE)).status in (200, 201), "no space comes back"
    )
    assert client.get("again").body == body("again", OBJECT_SIZE)

    cluster.terminate("data1")
    cluster.start()
    assert client.get("again").body == body("again", OBJECT_SIZE)


def small_put_status(cluster: Cluster) -> int:
    client = cluster.client("data1")
    fields = data_fields(cluster, "data1")
    return client.call("PUT", f"/chunk/{'0' * 64}.{'0' * 16}.0", body("one more", 300_000), fields).status


def test_a_full_disk_under_the_metadata_lets_deletes_through(small_disk: Path, start: Start) -> None:
    cluster = start(metadata=small_disk / "meta.db")
    client = cluster.client()
    keys = [f"{'long name ' * 90}{number}" for number in range(200)]
    for key in keys:
        assert client.put(key, b"x").status == 201
    filler = small_disk / "somebody else's file"
    with open(filler, "wb", buffering=0) as file:
        while True:
            try:
                if not file.write(bytes(MIB)):
                    break
            except OSError:
                break
    statuses = set()
    for number in range(20_000):
        statuses.add(client.put(f"{'more ' * 180}{number}", b"x").status)
        if not statuses <= {201}:
            break
    assert statuses & {503, 507}, "the metadata never noticed that its disk is full"
    status = client.call("GET", "/status").json()
    assert status["health"] == "down"
    assert any("the disk of the metadata is full" in reason for reason in status["reasons"])
    assert any("df -h" in line for line in status["advice"])
    ready = client.call("GET", "/readyz")
    assert ready.status == 503
    assert b"the disk of the metadata is full: make room" in ready.body

    for key in keys:
        assert client.get(key).body == b"x"
    for key in keys:
        assert client.delete(key).status == 204
    assert client.get(keys[0]).status == 404
    cluster.check_alive()

    filler.unlink()
    cluster.wait_until(lambda: cluster.health() == "ok", "the health does not notice that there is room")
    cluster.wait_until(lambda: client.put("room again", b"x").status in (200, 201), "puts stay refused")
    cluster.terminate(API)
    cluster.start()
    assert client.get(keys[0]).status == 404
    assert client.call("GET", object_path("room again")).body == b"x"


@pytest.mark.parametrize("log_rows", [0, 1500])
async def test_on_a_full_disk_every_delete_commits(small_disk: Path, log_rows: int) -> None:
    """Each dirties pages all over the trees, as deletes of chunks do: without begun anew logs some 500 of them fit.

    ``log_rows`` are in the log, and not in the file yet, when somebody else fills the disk.
    """
    chance = random.Random(1)
    keys = [chance.randbytes(32) for _ in range(6000)]
    path = small_disk / "meta.db"
    async with open_kv(str(path)) as kv:
        for start in range(0, len(keys), 100):
            await kv.commit({}, dict.fromkeys(keys[start : start + 100], bytes(200)))
    async with open_kv(str(path)) as kv:
        for _ in range(0, log_rows, 10):
            await kv.commit({}, {chance.randbytes(32): bytes(200) for _ in range(10)})
        fill(small_disk / "somebody else's file")
        with pytest.raises(MetadataFull):
            await put_until_full(kv, chance)
        assert kv.health().full

        def delete(key: bytes) -> Callable[[Transaction], None]:
            def decide(tx: Transaction) -> None:
                tx.reclaim()
                tx.delete(key)
                for number in range(3):  # and the garbage that a delete leaves
                    tx.put(b"garbage/%b/%d" % (key, number), b"1{}")

            return decide

        for key in keys[:3000]:
            await kv.transact(delete(key))
        assert await kv.get(keys[0]) is None
        assert await kv.get(keys[-1]) is not None


async def put_until_full(kv: KV, chance: random.Random) -> None:
    while True:
        await kv.commit({}, {chance.randbytes(32): bytes(3000) for _ in range(10)})


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(MIB)):
            pass
