"""Uploads in parts: what becomes of each part, at the edges that random events seldom reach."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.catalog import extents, parents, uploads
from flared.catalog.buckets import remove_bucket
from flared.catalog.details import Details
from flared.catalog.extents import Children, PageTotals
from flared.catalog.garbage import EXTENT, PARENT, UPLOAD
from flared.catalog.manifest import ExtentId, ExtentRef
from flared.catalog.parents import Child, Place, find_byte, find_chunk, find_part
from flared.catalog.uploads import (
    Part,
    Upload,
    UploadId,
    decode_owned,
    encode_owned,
    find_upload,
    list_all_uploads,
    list_parts,
    list_uploads,
)
from flared.errors import ManifestCorrupt, NoSuchBucket, NoSuchUpload
from flared.meta import keys
from flared.meta.kv import DAMAGED
from flared.meta.memory import MemoryKV
from tests.support.checkers import recount
from tests.unit.catalog.support import BUCKET, GRACE_MS, LittleStore, object_name

NAME = object_name("a")


@pytest.fixture(autouse=True)
def short_pages() -> Iterator[None]:
    with patch.object(extents, "PAGE_CHUNKS", 3), patch.object(parents, "PAGE_CHILDREN", 4):
        yield


@pytest.fixture
async def store() -> LittleStore:
    store = LittleStore(MemoryKV())
    await store.open()
    return store


async def uploaded(store: LittleStore, count: int) -> UploadId:
    upload = await store.begin_upload(NAME)
    for number in range(1, count + 1):
        await store.put_part(NAME, upload, number, [b"%d" % number, b"x%d" % number])
    return upload


async def completed(store: LittleStore, count: int) -> ExtentId:
    upload, numbers = await uploaded(store, count), range(1, count + 1)
    parent = await store.assemble(NAME, upload, numbers)
    assert await store.complete(NAME, upload, parent, numbers) is not None
    return parent


async def due_kinds(store: LittleStore) -> list[str]:
    store.now_ms += 2 * GRACE_MS
    return sorted(item.kind for item in await store.due())


async def test_a_part_that_is_replaced_gives_up_its_extent(store: LittleStore) -> None:
    upload = await uploaded(store, 1)
    (old,) = await list_parts(store.kv, upload, 0, 10)
    await store.put_part(NAME, upload, 1, [b"y"])
    (new,) = await list_parts(store.kv, upload, 0, 10)
    assert (new.extent.size, old.extent.size) == (100, 200)
    assert await recount(store.kv) == []
    store.now_ms += 2 * GRACE_MS
    assert [(item.kind, item.id) for item in await store.due()] == [(EXTENT, old.extent.id)]


async def test_a_part_that_comes_while_they_are_assembled_is_not_lost(store: LittleStore) -> None:
    upload = await uploaded(store, 2)
    parent = await store.assemble(NAME, upload, [1, 2])
    await store.put_part(NAME, upload, 2, [b"new"])
    assert await store.complete(NAME, upload, parent, [1, 2]) is None
    assert await recount(store.kv) == []
    again = await store.assemble(NAME, upload, [1, 2])
    manifest = await store.complete(NAME, upload, again, [1, 2])
    assert manifest is not None
    assert manifest.size == 300
    assert await recount(store.kv) == []


async def test_of_two_completions_the_later_one_counts(store: LittleStore) -> None:
    upload = await uploaded(store, 2)
    first = await store.assemble(NAME, upload, [1, 2])
    second = await store.assemble(NAME, upload, [1])
    assert await store.complete(NAME, upload, first, [1, 2]) is None
    assert await store.complete(NAME, upload, second, [1]) is not None
    with pytest.raises(NoSuchUpload):
        await store.complete(NAME, upload, first, [1, 2])
    with pytest.raises(NoSuchUpload):
        await store.abort(NAME, upload)
    with pytest.raises(NoSuchUpload):
        await store.put_part(NAME, upload, 3, [b"late"])
    assert await recount(store.kv) == []
    await store.delete(NAME)
    await store.sweep_dry()
    assert store.pieces == set()
    assert [key for key, _ in await store.kv.scan(b"", b"\xff", 99)] == [b"bucket/bucket"]


async def test_a_draft_that_was_left_releases_nothing(store: LittleStore) -> None:
    upload = await uploaded(store, 9)
    await store.assemble(NAME, upload, range(1, 10))
    store.now_ms += 100_000
    await store.give_up_expired()
    assert await due_kinds(store) == [PARENT]
    for item in await store.due():
        for _ in range(3):
            await store.sweep_item(item, 2)
            assert await recount(store.kv) == []
    assert not await store.kv.scan(b"garbage/", b"garbage0", 1)
    assert len(await list_parts(store.kv, upload, 0, 100)) == 9


async def test_a_parent_is_released_in_portions_and_goes_on_after_each(store: LittleStore) -> None:
    parent = await completed(store, 9)
    await store.delete(NAME)
    assert await due_kinds(store) == [PARENT, UPLOAD]
    rounds = 0
    while await store.kv.view(lambda look: extents.read_extent(look, parent)) is not None:
        for item in await store.due():
            if item.kind == PARENT:
                await store.sweep_item(item, 3)
                rounds += 1
        assert await recount(store.kv) == []
    assert rounds == 5  # four children of each page in two portions, then the one of the last page
    await store.sweep_dry()
    assert store.pieces == set()


async def test_parts_go_in_portions_and_those_not_named_are_released(store: LittleStore) -> None:
    upload = await uploaded(store, 5)
    parent = await store.assemble(NAME, upload, [1, 3, 4])
    manifest = await store.complete(NAME, upload, parent, [1, 3, 4])
    assert manifest is not None
    assert await due_kinds(store) == [UPLOAD]
    (item,) = await store.due()
    left = []
    while await store.kv.get(item.key) is not None:
        await store.sweep_item(item, 2)
        left.append([part.number for part in await list_parts(store.kv, upload, 0, 10)])
        assert await recount(store.kv) == []
    assert left == [[3, 4, 5], [5], [], []]
    await store.sweep_dry()
    assert len(await store.chunks_of(manifest)) == 6


async def test_uploads_of_a_bucket_that_was_removed_are_not_of_the_next(store: LittleStore) -> None:
    upload = await uploaded(store, 1)
    store.now_ms += 1
    assert await remove_bucket(store.kv, BUCKET, store.now_ms), "uploads do not keep a bucket"
    with pytest.raises(NoSuchBucket):
        await find_upload(store.kv, NAME, upload)
    await store.open(created_ms=2)
    with pytest.raises(NoSuchUpload):
        await find_upload(store.kv, NAME, upload)
    with pytest.raises(NoSuchUpload):
        await store.put_part(NAME, upload, 2, [b"x"])
    assert (await list_uploads(store.kv, BUCKET)).uploads == ()
    assert [found.id for _, found in await list_all_uploads(store.kv, b"", 10)] == [upload]


async def test_parts_are_not_listed_without_one_that_cannot_be_read(store: LittleStore) -> None:
    upload = await uploaded(store, 2)
    await store.kv.commit({}, {keys.part(upload, 1): b"9{}"})
    with pytest.raises(ManifestCorrupt):
        await list_parts(store.kv, upload, 0, 10)


def listed(page: uploads.UploadPage) -> list[str]:
    return [upload.name.key for upload in page.uploads]


async def test_uploads_are_listed_by_key_then_by_age(store: LittleStore) -> None:
    begun = []
    for key in ["a/b", "a", "a-", "a", "c/d/e", "ä"]:
        store.now_ms += 1
        begun.append(await store.begin_upload(object_name(key)))
    assert listed(await list_uploads(store.kv, BUCKET)) == ["a", "a", "a-", "a/b", "c/d/e", "ä"]
    first = await list_uploads(store.kv, BUCKET, limit=1)
    assert ([upload.id for upload in first.uploads], first.next) == ([begun[1]], ("a", begun[1]))
    assert first.next is not None
    second = await list_uploads(store.kv, BUCKET, after=first.next, limit=1)
    assert [upload.id for upload in second.uploads] == [begun[3]]
    assert listed(await list_uploads(store.kv, BUCKET, after=("a", ""))) == ["a-", "a/b", "c/d/e", "ä"]
    assert listed(await list_uploads(store.kv, BUCKET, prefix="a/")) == ["a/b"]
    folded = await list_uploads(store.kv, BUCKET, delimiter="/", limit=4)
    assert (listed(folded), folded.prefixes, folded.next) == (["a", "a", "a-"], ("a/",), ("a/", ""))
    rest = await list_uploads(store.kv, BUCKET, delimiter="/", after=("a/", ""))
    assert (listed(rest), rest.prefixes, rest.next) == (["ä"], ("c/",), None)
    # A delimiter that is a hex digit is not found in the ids.
    assert listed(await list_uploads(store.kv, BUCKET, delimiter="0")) == ["a", "a", "a-", "a/b", "c/d/e", "ä"]
    assert listed(await list_uploads(store.kv, BUCKET, limit=0)) == []


refs = st.builds(ExtentRef, st.just(ExtentId("e" * 32)), st.integers(0), st.integers(0), st.integers(1), st.just(0))
texts = st.text(st.characters(blacklist_categories=["Cs"]))


@given(st.builds(Part, st.integers(1, 10_000), refs, texts, st.integers(0), texts))
def test_a_part_is_decoded_as_it_was(part: Part) -> None:
    assert uploads.decode_part(UploadId("u"), part.number, uploads.encode_part(part)) == part


names = st.builds(
    object_name, st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)
)


@given(
    st.builds(
        Upload,
        names,
        st.just(UploadId("u" * 32)),
        st.integers(0),
        st.integers(0),
        texts,
        st.dictionaries(texts, texts),
        st.sampled_from([None, Details({"expires": "never"}, tags={"a": "b"})]),
        texts,
        st.sampled_from(["", "crc32", "sha256"]),
        st.booleans(),
        st.sampled_from([None, ExtentId("p" * 32)]),
    )
)
def test_an_upload_is_decoded_as_it_was(upload: Upload) -> None:
    assert uploads.decode(keys.upload(*upload.name, upload.id), uploads.encode(upload)) == upload


@given(st.sets(st.integers(1, uploads.PART_NUMBER_MAX)))
def test_the_owned_parts_are_decoded_as_they_were(numbers: set[int]) -> None:
    value = encode_owned([*numbers])
    assert decode_owned(b"garbage/1/upload/u", value) == numbers
    assert len(value) < 3000


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=20))
def test_a_page_is_found_by_byte_by_chunk_and_by_part(sizes: list[tuple[int, int]]) -> None:
    """Against counting all children one by one."""
    children = [
        Child(ExtentRef(ExtentId("e"), size, chunks, 5), 2 * number + 1) for number, (size, chunks) in enumerate(sizes)
    ]
    pages = [children[start : start + 4] for start in range(0, len(children), 4)]
    totals = tuple(
        PageTotals(sum(child.extent.size for child in page), sum(child.extent.chunks for child in page), page[0].number)
        for page in pages
    )
    held = Children(len(children), True, "u", totals)
    places = []
    size = chunks = 0
    for number, page in enumerate(pages):
        place = Place(number, size, chunks)
        for child in page:
            assert find_part(held, child.number) == find_part(held, child.number + 1) == place
            places.append(place)
            assert find_byte(held, size) == find_byte(held, size + child.extent.size - 1) == place
            assert find_chunk(held, chunks) == find_chunk(held, chunks + child.extent.chunks - 1) == place
            size, chunks = size + child.extent.size, chunks + child.extent.chunks
    for find, end in ((find_byte, size), (find_chunk, chunks)):
        with pytest.raises(ManifestCorrupt):
            find(held, end)


async def test_a_page_of_children_is_decoded_as_it_was() -> None:
    page = [
        Child(ExtentRef(ExtentId("e" * 32), 5, 1, 100), 3, "AAAA"),
        Child(ExtentRef(ExtentId("f" * 32), 0, 0, 9), 4),
    ]
    assert parents.decode_page(ExtentId("p"), parents.encode_page(page)) == page
    with pytest.raises(ManifestCorrupt):
        parents.decode_page(ExtentId("p"), DAMAGED)
