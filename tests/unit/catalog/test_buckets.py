from __future__ import annotations

import pytest
import trio

from flared.access.bucket_access import CLOSED, Acl, Blocks, BucketAccess
from flared.catalog.access import find_access
from flared.catalog.buckets import (
    REMOVAL_MS,
    Bucket,
    change_access,
    create_bucket,
    find_bucket,
    list_buckets,
    remove_bucket,
)
from flared.errors import BucketNotEmpty, Busy, ManifestCorrupt, NoSuchBucket
from flared.meta import keys
from flared.meta.memory import MemoryKV
from flared.names import BucketName
from tests.support.checkers import recount
from tests.unit.catalog.support import BUCKET, LittleStore, object_name


class PausingKV(MemoryKV):
    """Lets a test act between the mark of a removal and its look."""

    def __init__(self) -> None:
        super().__init__()
        self.looking = trio.Event()
        self.go_on = trio.Event()
        self.go_on.set()

    async def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        self.looking.set()
        await self.go_on.wait()
        return await super().scan(start, end, limit)


@pytest.fixture
async def store() -> LittleStore:
    store = LittleStore(PausingKV())
    await store.open()
    return store


async def try_to_remove(store: LittleStore, outcomes: list[str], now_ms: int) -> None:
    try:
        outcomes.append("removed" if await remove_bucket(store.kv, BUCKET, now_ms) else "none")
    except (Busy, BucketNotEmpty) as error:
        outcomes.append(error.code)


def pause(store: LittleStore) -> PausingKV:
    assert isinstance(store.kv, PausingKV)
    store.kv.looking, store.kv.go_on = trio.Event(), trio.Event()
    return store.kv


async def test_a_bucket_keeps_what_it_was_created_with(store: LittleStore) -> None:
    bucket = Bucket(BucketName("other"), 5, "xor:4+1", 65536, True)
    assert await store.kv.transact(lambda tx: create_bucket(tx, bucket))
    again = Bucket(BucketName("other"), 6, "replica:3", 1, False)
    assert not await store.kv.transact(lambda tx: create_bucket(tx, again))
    assert await find_bucket(store.kv, BucketName("other")) == bucket
    assert [bucket.name for bucket in await list_buckets(store.kv)] == ["bucket", "other"]
    assert [bucket.name for bucket in await list_buckets(store.kv, "bucket", 1)] == ["other"]


async def test_an_empty_bucket_is_removed_once(store: LittleStore) -> None:
    assert await remove_bucket(store.kv, BUCKET, store.now_ms)
    assert not await remove_bucket(store.kv, BUCKET, store.now_ms)
    with pytest.raises(NoSuchBucket):
        await find_bucket(store.kv, BUCKET)
    with pytest.raises(NoSuchBucket):
        await store.put_small(object_name("a"), b"x")


async def test_a_bucket_with_objects_stays_usable(store: LittleStore) -> None:
    await store.put_small(object_name("a"), b"x")
    with pytest.raises(BucketNotEmpty):
        await remove_bucket(store.kv, BUCKET, store.now_ms)
    await store.put_small(object_name("b"), b"x")
    assert not (await find_bucket(store.kv, BUCKET)).removing


async def test_no_put_slips_into_a_bucket_that_is_removed(store: LittleStore) -> None:
    kv = pause(store)
    outcomes: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(try_to_remove, store, outcomes, store.now_ms)
        await kv.looking.wait()
        with pytest.raises(Busy):
            await store.put_small(object_name("a"), b"x")
        kv.go_on.set()
    assert outcomes == ["removed"]
    assert [key for key, _ in await kv.scan(b"", b"\xff", 9)] == []


async def test_a_removal_that_died_holds_up_puts_only_for_a_while(store: LittleStore) -> None:
    kv = pause(store)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remove_bucket, kv, BUCKET, store.now_ms)
            await kv.looking.wait()
            scope.cancel()
    kv.go_on.set()
    assert (await find_bucket(kv, BUCKET)).removing
    store.now_ms += REMOVAL_MS
    await store.put_small(object_name("a"), b"x")
    assert not (await find_bucket(kv, BUCKET)).removing
    assert await recount(kv) == []


async def test_a_removal_that_is_too_slow_loses_to_a_put(store: LittleStore) -> None:
    kv = pause(store)
    outcomes: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(try_to_remove, store, outcomes, store.now_ms)
        await kv.looking.wait()
        store.now_ms += REMOVAL_MS
        await store.put_small(object_name("a"), b"x")
        await store.delete(object_name("a"))
        kv.go_on.set()
    assert outcomes == ["Busy"]
    await find_bucket(kv, BUCKET)


async def test_two_removals_at_once_remove_it_once(store: LittleStore) -> None:
    kv = pause(store)
    outcomes: list[str] = []
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(try_to_remove, store, outcomes, store.now_ms)
        await trio.testing.wait_all_tasks_blocked()
        kv.go_on.set()
    assert sorted(outcomes) == ["Busy", "removed"]


async def test_creating_it_calls_a_removal_off(store: LittleStore) -> None:
    kv = pause(store)
    outcomes: list[str] = []
    bucket = await find_bucket(kv, BUCKET)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(try_to_remove, store, outcomes, store.now_ms)
        await kv.looking.wait()
        assert not await kv.transact(lambda tx: create_bucket(tx, bucket))
        kv.go_on.set()
    assert outcomes == ["Busy"]
    assert await find_bucket(kv, BUCKET) == bucket


async def test_what_a_bucket_says_about_access_is_kept(store: LittleStore) -> None:
    assert find_access(store.kv, BUCKET) is CLOSED
    assert find_access(store.kv, BucketName("nowhere")) is CLOSED
    for access in (
        BucketAccess("laptop"),
        BucketAccess(public=True, acl=Acl.PUBLIC_READ_WRITE),
        BucketAccess("laptop", acl=Acl.AUTHENTICATED_READ),
        BucketAccess(blocks=Blocks(0)),
        BucketAccess(blocks=Blocks.ACLS | Blocks.POLICY),
        CLOSED,
    ):
        await store.kv.transact(lambda tx, access=access: change_access(tx, BUCKET, lambda _: access))
        assert find_access(store.kv, BUCKET) == access
        assert (await find_bucket(store.kv, BUCKET)).access == access
    assert find_access(store.kv, BUCKET) is CLOSED, "which is asked by identity"
    with pytest.raises(NoSuchBucket):
        await store.kv.transact(lambda tx: change_access(tx, BucketName("nowhere"), lambda now: now))


async def test_a_bucket_with_an_acl_of_a_newer_flare_is_not_guessed_at(store: LittleStore) -> None:
    await store.kv.commit({}, {keys.bucket(BUCKET): b'1{"t":1,"m":"replica:2","k":100,"z":0,"a":"aws-exec-read"}'})
    with pytest.raises(ManifestCorrupt):
        find_access(store.kv, BUCKET)
