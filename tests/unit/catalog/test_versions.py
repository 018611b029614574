"""Versions against a model: lists of versions, the newest first, that know nothing of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from flared.catalog import objects, versions
from flared.catalog.buckets import Versioning, remove_bucket, set_versioning
from flared.catalog.totals import Totals
from flared.catalog.version_listing import list_version_page
from flared.catalog.versions import NULL, Changed, Next, find_next
from flared.errors import BucketNotEmpty, IsDeleteMarker, NoSuchObject, NoSuchVersion
from flared.meta.memory import MemoryKV
from tests.support.checkers import recount
from tests.unit.catalog.support import BUCKET, LittleStore, always, object_name

if TYPE_CHECKING:
    from flared.catalog.manifest import Manifest
    from flared.catalog.objects import Deletion
    from flared.meta.kv import KV
    from flared.names import ObjectName

KEYS = ("a", "a/b", "a/c", "b")


@dataclass
class Version:
    number: int
    null: bool
    deletes: bool


@dataclass
class Model:
    """The versions of each key, the newest first."""

    state: Versioning = Versioning.OFF
    kept: dict[str, list[Version]] = field(default_factory=lambda: {key: [] for key in KEYS})

    def add(self, key: str, manifest: Manifest, *, deletes: bool = False) -> None:
        null = self.state is not Versioning.ENABLED
        if null:
            self.kept[key] = [version for version in self.kept[key] if not version.null]
        assert all(manifest.version > version.number for version in self.kept[key])
        self.kept[key].insert(0, Version(manifest.version, null, deletes))

    def remove(self, key: str, number: int) -> None:
        gone = lambda version: version.number == number or (number == NULL and version.null)  # noqa: E731
        self.kept[key] = [version for version in self.kept[key] if not gone(version)]

    def listing(self) -> list[tuple[str, int, bool, bool, bool]]:
        return [
            (key, version.number, version.null, version.deletes, not place)
            for key in sorted(KEYS)
            for place, version in enumerate(self.kept[key])
        ]


async def switch(store: LittleStore, state: Versioning) -> None:
    await store.kv.transact(lambda tx: set_versioning(tx, BUCKET, state, store.now_ms))


async def delete(store: LittleStore, name: ObjectName) -> Deletion:
    return await store.kv.transact(lambda tx: objects.delete_object(tx, name, always, store.now_ms, store.due_ms))


async def remove(store: LittleStore, name: ObjectName, number: int, found: Next | None = None) -> Deletion:
    found = found or await find_next(store.kv, name)
    permit = lambda _manifest: None  # noqa: E731
    decide = partial(objects.delete_version, name=name, number=number, found=found, permit=permit, due_ms=store.due_ms)
    return await store.kv.transact(decide)


async def listed(
    kv: KV, *, prefix: str = "", delimiter: str = "", limit: int = 1000
) -> tuple[list[tuple[str, int, bool, bool, bool]], list[str]]:
    """The listing, put together from its pages."""
    after: tuple[str, int | None] | None = ("", None)
    found, prefixes = [], []
    while after is not None:
        page = await list_version_page(kv, BUCKET, prefix, delimiter, *after, limit)
        assert len(page.versions) + len(page.prefixes) <= limit
        found += [(each.name.key, each.version, each.is_null, each.deletes, newest) for each, newest in page.versions]
        prefixes += page.prefixes
        after = page.next
    return found, prefixes


async def check(store: LittleStore, model: Model, totals: Totals) -> None:
    assert (await listed(store.kv))[0] == model.listing()
    for key in KEYS:
        name, kept = object_name(key), model.kept[key]
        if kept and not kept[0].deletes:
            assert (await objects.find_object(store.kv, name)).version == kept[0].number
        else:
            with pytest.raises(NoSuchObject) as raised:
                await objects.find_object(store.kv, name)
            assert raised.value.delete_marker == ((NULL if kept[0].null else kept[0].number) if kept else 0)
        for version in kept:
            for number in (version.number, NULL) if version.null else (version.number,):
                if version.deletes:
                    with pytest.raises(IsDeleteMarker):
                        await objects.find_object(store.kv, name, number)
                else:
                    found, _ = await objects.find_object_and_chunk(store.kv, name, number)
                    assert found.version == version.number
                    assert found == await objects.find_object(store.kv, name, number)
        with pytest.raises(NoSuchVersion):
            await objects.find_object(store.kv, name, 1)
    assert await recount(store.kv, totals) == []


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["small", "shared", "large", "delete"]), st.sampled_from(KEYS)),
        st.tuples(st.just("remove"), st.sampled_from(KEYS), st.integers(-1, 3)),
        st.tuples(st.sampled_from(["enable", "suspend"])),
        st.tuples(st.just("copy"), st.sampled_from(KEYS), st.integers(0, 3), st.sampled_from(KEYS)),
    ),
    max_size=25,
)


async def run(store: LittleStore, model: Model, operation: tuple[str | int, ...]) -> None:
    what, *arguments = operation
    store.now_ms += 1
    if what in ("enable", "suspend"):
        model.state = Versioning.ENABLED if what == "enable" else Versioning.SUSPENDED
        return await switch(store, model.state)
    key = str(arguments[0])
    name = object_name(key)
    content = b"%d" % store.draw()
    if what == "small":
        model.add(key, await store.put_small(name, content))
    elif what == "shared":
        model.add(key, await store.put_shared(name, b"the same"))
    elif what == "large":
        model.add(key, await store.end_large(name, await store.begin_large([content, content])))
    elif what == "delete":
        done = await delete(store, name)
        if done.marker is not None:
            model.add(key, done.marker, deletes=True)
        else:
            assert model.state is Versioning.OFF
            model.kept[key] = []
    elif what == "remove":
        place, kept = int(arguments[1]), model.kept[key]
        number = NULL if place < 0 else kept[place].number if place < len(kept) else 77
        await remove(store, name, number)
        model.remove(key, number)
    else:
        place, kept = int(arguments[1]), model.kept[key]
        if place < len(kept) and not kept[place].deletes:
            source, target = await objects.find_object(store.kv, name, kept[place].number), str(arguments[2])
            await store.copy_of(source, object_name(target))
            model.add(target, await objects.find_object(store.kv, object_name(target)))
    return None


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, OPERATIONS)
def test_versions_are_those_of_the_model(before, after) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        store, model = LittleStore(MemoryKV()), Model()
        totals = Totals(store.kv)
        await totals.fill()
        await store.open()
        for operation in [*before, ("enable",), *after]:
            await run(store, model, operation)
            await check(store, model, totals)
        for key in KEYS:
            for version in model.kept[key][::-1]:
                await remove(store, object_name(key), version.number)
        assert await recount(store.kv, totals) == []
        await store.sweep_dry()
        assert store.pieces == set()
        assert [key for key, _ in await store.kv.scan(b"", b"\xff", 99) if not key.startswith(b"bucket")] == []

    trio.run(scenario)


@settings(max_examples=50, deadline=None)
@given(OPERATIONS, st.sampled_from(["", "/"]), st.sampled_from(["", "a", "a/"]), st.integers(1, 4))
def test_pages_are_parts_of_the_whole(operations, delimiter: str, prefix: str, limit: int) -> None:  # type: ignore[no-untyped-def]
    async def scenario() -> None:
        store, model = LittleStore(MemoryKV()), Model()
        await store.open()
        for operation in [("enable",), *operations]:
            await run(store, model, operation)
        whole, _ = await listed(store.kv)
        under = [item for item in whole if item[0].startswith(prefix)]
        folded = {item[0][: item[0].index("/", len(prefix)) + 1] for item in under if "/" in item[0][len(prefix) :]}
        plain = [item for item in under if not (delimiter and "/" in item[0][len(prefix) :])]
        expected = (plain, sorted(folded) if delimiter else [])
        assert await listed(store.kv, prefix=prefix, delimiter=delimiter, limit=limit) == expected

    trio.run(scenario)


@pytest.fixture
async def store() -> LittleStore:
    store = LittleStore(MemoryKV())
    await store.open()
    await switch(store, Versioning.ENABLED)
    return store


async def test_a_bucket_with_old_versions_is_not_empty(store: LittleStore) -> None:
    name = object_name("a")
    marker = (await delete(store, name)).marker
    assert marker is not None
    with pytest.raises(BucketNotEmpty):
        await remove_bucket(store.kv, BUCKET, store.now_ms)
    await remove(store, name, marker.version)
    assert await remove_bucket(store.kv, BUCKET, store.now_ms)


async def test_whoever_found_the_next_version_too_early_finds_it_again(store: LittleStore) -> None:
    name = object_name("a")
    first = await store.put_small(name, b"1")
    second = await store.put_small(name, b"2")
    found = await find_next(store.kv, name)
    third = await store.put_small(name, b"3")
    for number in (third.version,):
        with pytest.raises(Changed):
            await remove(store, name, number, found)
    await remove(store, name, first.version)
    found = await find_next(store.kv, name)
    await remove(store, name, second.version)
    with pytest.raises(Changed):
        await remove(store, name, third.version, found)
    await remove(store, name, third.version)
    assert await recount(store.kv) == []
    assert await listed(store.kv) == ([], [])


async def test_a_damaged_version_can_be_replaced(store: LittleStore) -> None:
    assert versions.NULL < 0, "no version has its number"
    name = object_name("a")
    first = await store.put_small(name, b"1")
    await delete(store, name)
    with pytest.raises(IsDeleteMarker):
        await objects.find_object(store.kv, name, (await find_next(store.kv, name)).newest)
    assert (await objects.find_object(store.kv, name, first.version)).version == first.version
