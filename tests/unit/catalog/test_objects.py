from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from flared.catalog import manifest as manifests
from flared.catalog import objects
from flared.catalog.chunks import ChunkRecord, find_chunk
from flared.catalog.chunks import decode as decode_chunk
from flared.catalog.chunks import encode as encode_chunk
from flared.catalog.lister import SEEK_PAGE
from flared.catalog.manifest import ExtentId, ExtentRef, Manifest
from flared.catalog.objects import Listing, find_object, find_object_and_chunk, list_page, read_object
from flared.errors import ManifestCorrupt, NoSuchBucket, NoSuchObject, PreconditionFailed
from flared.meta.keys import object_
from flared.meta.kv import KV
from flared.meta.memory import MemoryKV
from flared.names import BucketName, ChunkId, NodeName, ObjectKey, ObjectName
from tests.unit.catalog.support import BUCKET, LittleStore, draft, object_name

NOWHERE = ObjectName(BucketName("nowhere"), ObjectKey("a"))
CHUNK = ChunkId("ab" * 32 + "." + "0" * 16)


@pytest.fixture
async def store() -> LittleStore:
    store = LittleStore(MemoryKV())
    await store.open()
    return store


def refuse(_current: Manifest | None) -> None:
    raise PreconditionFailed("no")


async def test_versions_grow_even_if_the_clock_does_not(store: LittleStore) -> None:
    name = object_name("a")
    versions = []
    for step in (0, 0, -500, 2000):
        store.now_ms += step
        versions.append((await store.put_small(name, b"x")).version)
    assert versions == [1_000_000, 1_000_001, 1_000_002, 1_001_500]


async def test_what_was_put_is_found(store: LittleStore) -> None:
    name = object_name("a")
    written = await store.put_small(name, b"x")
    assert await find_object(store.kv, name) == written
    assert written.chunk is not None
    assert await find_object_and_chunk(store.kv, name) == (written, await find_chunk(store.kv, written.chunk))


async def test_what_is_not_there_is_said_precisely(store: LittleStore) -> None:
    for find in (find_object, find_object_and_chunk):
        with pytest.raises(NoSuchObject):
            await find(store.kv, object_name("a"))
        with pytest.raises(NoSuchBucket):
            await find(store.kv, NOWHERE)
    assert await store.kv.view(lambda snapshot: read_object(snapshot, NOWHERE)) is None
    assert not await store.delete(object_name("a"))
    with pytest.raises(NoSuchBucket):
        await store.delete(NOWHERE)
    with pytest.raises(NoSuchBucket):
        await store.kv.transact(lambda tx: store.put_version(tx, draft(NOWHERE)))


async def test_conditions_see_the_newest_version_and_stop_everything(store: LittleStore) -> None:
    name = object_name("a")
    written = await store.put_small(name, b"x")
    seen: list[Manifest | None] = []
    with pytest.raises(PreconditionFailed):
        await store.kv.transact(lambda tx: objects.put_version(tx, draft(name), refuse, 1, 1))
    with pytest.raises(PreconditionFailed):
        await store.kv.transact(lambda tx: objects.delete_object(tx, name, refuse, 1, 1))
    await store.kv.transact(lambda tx: objects.put_version(tx, draft(name), seen.append, 1, 1))
    assert seen[-1] == written


# Records

strings = st.text(max_size=20)
refs = st.builds(ExtentRef, st.just(ExtentId("e" * 32)), st.integers(0), st.integers(0), st.integers(0))


@given(
    st.builds(
        Manifest,
        st.just(object_name("ä")),
        st.integers(0, 2**60),
        st.integers(0, 2**60),
        strings,
        st.floats(allow_nan=False, allow_infinity=False),
        strings,
        st.dictionaries(strings, strings, max_size=3),
        st.sampled_from([None, CHUNK]),
        st.lists(refs, max_size=3).map(tuple),
    )
)
def test_a_manifest_is_decoded_as_it_was(manifest: Manifest) -> None:
    value = manifests.encode(manifest, manifest.version)
    assert manifests.decode(manifest.name, value) == manifest


nodes = st.lists(st.sampled_from([None, NodeName("data1"), NodeName("data2")]), max_size=4).map(tuple)


@given(
    st.builds(
        ChunkRecord,
        st.just(CHUNK),
        st.integers(0),
        st.integers(0),
        st.integers(0, 1),
        st.just("replica:3"),
        st.integers(0),
        nodes,
        st.lists(st.integers(0, 9), max_size=3).map(tuple),
        st.integers(0),
    )
)
def test_a_chunk_record_is_decoded_as_it_was(record: ChunkRecord) -> None:
    assert decode_chunk(CHUNK, encode_chunk(record)) == record


@pytest.mark.parametrize("value", [b"", b"1", b"2{}", b"1{}", b"1[]", b'1{"s":', b"\xff", b"1\xff", b"1null"])
def test_what_is_no_record_is_refused(value: bytes) -> None:
    with pytest.raises(ManifestCorrupt):
        manifests.decode(object_name("a"), value)
    with pytest.raises(ManifestCorrupt):
        decode_chunk(CHUNK, value)


# Listings


def naive(
    keys: list[str], prefix: str, delimiter: str, after: str, limit: int
) -> tuple[list[str], list[str], str | None]:
    """Return the expected listing: entries in the order of their bytes, those after ``after``, the first ``limit``."""
    entries: dict[bytes, bool] = {}
    for key in keys:
        if key.startswith(prefix):
            found = key.find(delimiter, len(prefix)) if delimiter else -1
            entries[(key if found < 0 else key[: found + len(delimiter)]).encode()] = found < 0
    shown = [entry for entry in sorted(entries) if entry > after.encode()]
    page = shown[:limit]
    return (
        [entry.decode() for entry in page if entries[entry]],
        [entry.decode() for entry in page if not entries[entry]],
        page[-1].decode() if page and len(shown) > limit else None,
    )


def shape(listing: Listing) -> tuple[list[str], list[str], str | None]:
    return [manifest.name.key for manifest in listing.objects], list(listing.prefixes), listing.next


async def fill(kv: KV, keys: list[str]) -> None:
    store = LittleStore(kv)
    await store.open()
    record = manifests.encode(draft(object_name("x")), 1)
    await kv.commit({}, {object_(BUCKET, key): record for key in keys})
    # Neighbours of the bucket that must never show.
    await kv.commit({}, {object_("buckes", "z"): record, object_("bucket2", "a"): record, b"object0": b""})


letters = st.text(st.sampled_from("ab/-ä\U0001f600\uffff"), max_size=6)
keys = st.lists(letters.filter(bool), unique=True, max_size=25)
delimiters = st.sampled_from(["", "/", "-", "ab", "ä"])


@settings(max_examples=400, deadline=None)
@given(keys, letters, delimiters, letters, st.integers(1, 6))
def test_a_listing_is_what_a_naive_one_would_be(
    keys: list[str], prefix: str, delimiter: str, after: str, limit: int
) -> None:
    async def main() -> None:
        kv = MemoryKV()
        await fill(kv, keys)
        listing = await list_page(kv, BUCKET, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        assert shape(listing) == naive(keys, prefix, delimiter, after, limit)

    trio.run(main)


@settings(max_examples=100, deadline=None)
@given(keys, letters, delimiters, st.integers(1, 6))
def test_paging_shows_everything_exactly_once(keys: list[str], prefix: str, delimiter: str, limit: int) -> None:
    async def main() -> None:
        kv = MemoryKV()
        await fill(kv, keys)
        found: list[str] = []
        prefixes: list[str] = []
        after: str | None = ""
        while after is not None:
            listing = await list_page(kv, BUCKET, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
            found += [manifest.name.key for manifest in listing.objects]
            prefixes += listing.prefixes
            after = listing.next
        assert (found, prefixes, None) == naive(keys, prefix, delimiter, "", 1000)

    trio.run(main)


async def test_a_listing_seeks_past_a_common_prefix() -> None:
    class CountingKV(MemoryKV):
        rows = 0

        def _page(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
            page = super()._page(start, end, limit)
            self.rows += len(page)
            return page

    kv = CountingKV()
    await fill(kv, [f"{folder}/{number}" for folder in "abc" for number in range(3000)])
    kv.rows = 0
    assert shape(await list_page(kv, BUCKET, delimiter="/")) == ([], ["a/", "b/", "c/"], None)
    assert kv.rows <= 3 * SEEK_PAGE


async def test_a_listing_of_no_bucket_or_nothing() -> None:
    kv = MemoryKV()
    await fill(kv, ["a"])
    with pytest.raises(NoSuchBucket):
        await list_page(kv, NOWHERE.bucket)
    assert shape(await list_page(kv, BUCKET, limit=0)) == ([], [], None)
    assert shape(await list_page(kv, BUCKET, prefix="b")) == ([], [], None)
