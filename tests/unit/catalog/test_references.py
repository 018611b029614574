"""Random puts, overwrites, copies, deletes, uploads and sweeps: nothing named is ever deleted, nothing else stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from unittest.mock import patch

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from flared.catalog import chunks, extents, parents
from flared.catalog.garbage import Garbage
from flared.catalog.manifest import ExtentId, Manifest
from flared.catalog.objects import read_object
from flared.catalog.totals import Totals
from flared.catalog.uploads import UploadId
from flared.errors import Conflict, NoSuchUpload
from flared.meta.memory import MemoryKV
from flared.names import ObjectName, piece_name
from tests.support.checkers import recount
from tests.unit.catalog.support import GRACE_MS, NODES, LittleStore, object_name

names = st.sampled_from([object_name(key) for key in ("a", "b", "c")])
contents = st.sampled_from([b"x", b"y", b"z"])
bodies = st.lists(contents, max_size=8)
numbers = st.integers(0, 20)
part_numbers = st.integers(1, 5)
operations = st.one_of(
    st.tuples(st.just("put_small"), names, contents),
    st.tuples(st.just("put_shared"), names, contents),
    st.tuples(st.just("put_shared_degraded"), names, contents),
    st.tuples(st.just("put_large"), names, bodies),
    st.tuples(st.just("leave_large"), bodies),
    st.tuples(st.just("copy"), names, names),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("begin_upload"), names),
    st.tuples(st.just("upload_in_parts"), names, st.lists(st.tuples(part_numbers, bodies), max_size=8)),
    st.tuples(st.just("put_part"), numbers, part_numbers, bodies),
    st.tuples(st.just("assemble"), numbers, st.sets(part_numbers)),
    st.tuples(st.just("complete"), numbers),
    st.tuples(st.just("abort"), numbers),
    st.tuples(st.just("pass_time"), st.integers(1, 3 * GRACE_MS)),
    st.tuples(st.just("move_piece"), numbers),
    st.tuples(
        st.just("look"),
    ),
    st.tuples(st.just("sweep"), numbers),
    st.tuples(st.just("sweep_seen_before"), numbers),
)


@pytest.fixture(autouse=True, scope="module")
def short_pages() -> Iterator[None]:
    with patch.object(extents, "PAGE_CHUNKS", 3), patch.object(parents, "PAGE_CHILDREN", 2):
        yield


def as_clients_see(manifest: Manifest) -> Manifest:
    """Without where its bytes are."""
    return manifest._replace(packed=None)


@dataclass
class Begun:
    """An upload, and what it would make."""

    name: ObjectName
    id: UploadId
    parts: dict[int, list[bytes]] = field(default_factory=dict)
    parent: ExtentId | None = None
    named: dict[int, list[bytes]] = field(default_factory=dict)
    """What the parent was assembled from."""
    changed: bool = False
    """Some part was put since."""
    ended: bool = False


@contextmanager
def refused_once_ended(upload: Begun) -> Iterator[None]:
    ended = upload.ended
    try:
        yield
    except NoSuchUpload:
        assert ended, "an upload is there until it is completed or aborted"
    else:
        assert not ended, "nothing is done to an upload that ended"


class Machine:
    """Applies operations to the store and to a model of what every reader must find."""

    def __init__(self) -> None:
        self.store = LittleStore(MemoryKV())
        self.totals = Totals(self.store.kv)
        self.objects: dict[ObjectName, list[bytes]] = {}
        self.manifests: dict[ObjectName, Manifest] = {}
        self.seen: list[Garbage] = []
        self.uploads: list[Begun] = []

    async def apply(self, operation: str, *arguments: object) -> None:
        await getattr(self, operation)(*arguments)

    async def put_small(self, name: ObjectName, content: bytes) -> None:
        self._now(name, [content], await self.store.put_small(name, content))

    async def put_shared(self, name: ObjectName, content: bytes) -> None:
        self._now(name, [content], await self.store.put_shared(name, content))

    async def put_shared_degraded(self, name: ObjectName, content: bytes) -> None:
        self._now(name, [content], await self.store.put_shared(name, content, missing=(1,)))

    async def put_large(self, name: ObjectName, body: list[bytes]) -> None:
        self._now(name, body, await self.store.end_large(name, await self._upload(body)))

    async def leave_large(self, body: list[bytes]) -> None:
        await self._upload(body)

    async def begin_upload(self, name: ObjectName) -> None:
        self.uploads.append(Begun(name, await self.store.begin_upload(name)))

    async def upload_in_parts(self, name: ObjectName, parts: list[tuple[int, list[bytes]]]) -> None:
        await self.begin_upload(name)
        number = len(self.uploads) - 1
        for part, body in parts:
            await self.put_part(number, part, body)
        await self.assemble(number, set(range(1, 6)))
        await self.complete(number)

    async def put_part(self, number: int, part: int, body: list[bytes]) -> None:
        for upload in self._any_upload(number):
            with refused_once_ended(upload):
                await self.store.put_part(upload.name, upload.id, part, body)
                upload.parts[part], upload.changed = body, True

    async def assemble(self, number: int, wanted: set[int]) -> None:
        for upload in self._any_upload(number):
            named = {part: upload.parts[part] for part in sorted(wanted & upload.parts.keys())}
            if not named:
                continue
            with refused_once_ended(upload):
                upload.parent = await self.store.assemble(upload.name, upload.id, [*named])
                upload.named, upload.changed = named, False

    async def complete(self, number: int) -> None:
        for upload in self._any_upload(number):
            if upload.parent is None:
                continue
            with refused_once_ended(upload), suppress(Conflict):  # given up, if it took too long
                manifest = await self.store.complete(upload.name, upload.id, upload.parent, [*upload.named])
                assert (manifest is None) == upload.changed, "what is completed is what was there when it was assembled"
                if manifest is not None:
                    upload.ended = True
                    self._now(upload.name, [content for body in upload.named.values() for content in body], manifest)

    async def abort(self, number: int) -> None:
        for upload in self._any_upload(number):
            with refused_once_ended(upload):
                await self.store.abort(upload.name, upload.id)
                upload.ended = True

    async def copy(self, source: ObjectName, target: ObjectName) -> None:
        if await self.store.copy(source, target):
            manifest = await self.store.kv.view(lambda snapshot: read_object(snapshot, target))
            assert manifest is not None
            self._now(target, self.objects[source], manifest)

    async def delete(self, name: ObjectName) -> None:
        assert await self.store.delete(name) == (self.objects.pop(name, None) is not None)
        self.manifests.pop(name, None)

    async def move_piece(self, number: int) -> None:
        """Repair finds a piece missing, or has written it to another node."""
        records = await chunks.list_chunks(self.store.kv, None, 100)
        if not records:
            return
        record = records[number % len(records)]
        moved = record._replace(nodes=(*record.nodes[:1], NODES[number % 2]), missing=(1,) * (number % 2))
        assert await self.store.kv.transact(lambda tx: chunks.update_placement(tx, record.id, record, moved))

    async def pass_time(self, passed_ms: int) -> None:
        self.store.now_ms += passed_ms
        await self.store.give_up_expired()

    async def look(self) -> None:
        """A sweep that takes its items now and acts on them only after much else has happened."""
        self.seen += await self.store.due()

    async def sweep(self, number: int) -> None:
        items = await self.store.due()
        if items:
            await self.store.sweep_item(items[number % len(items)])

    async def sweep_seen_before(self, number: int) -> None:
        if self.seen:
            await self.store.sweep_item(self.seen[number % len(self.seen)])

    async def check(self) -> None:
        assert await recount(self.store.kv, self.totals) == []
        for name, body in self.objects.items():
            manifest = await self.store.kv.view(lambda look, name=name: read_object(look, name))
            assert manifest is not None
            assert as_clients_see(manifest) == as_clients_see(self.manifests[name])
            held = await self.store.chunks_of(manifest)
            assert len(held) == len(body)
            for chunk in held:
                assert {piece_name(chunk, 0), piece_name(chunk, 1)} <= self.store.pieces, "a piece in use was deleted"

    async def check_empty_after_sweeping(self) -> None:
        for number in range(len(self.uploads)):
            await self.abort(number)
        for name in list(self.objects):
            await self.delete(name)
        await self.store.sweep_dry()
        assert await recount(self.store.kv, self.totals) == []
        assert [key for key, _ in await self.store.kv.scan(b"", b"\xff", 99)] == [b"bucket/bucket"]
        assert self.store.pieces == set()

    def _any_upload(self, number: int) -> list[Begun]:
        return [self.uploads[number % len(self.uploads)]] if self.uploads else []

    async def _upload(self, body: list[bytes]) -> ExtentId:
        return await self.store.begin_large(body)

    def _now(self, name: ObjectName, body: list[bytes], manifest: Manifest) -> None:
        old = self.manifests.get(name)
        assert old is None or manifest.version > old.version
        self.objects[name] = body
        self.manifests[name] = manifest


@settings(max_examples=150, deadline=None)
@given(st.lists(operations, max_size=40))
def test_references_are_right_after_any_events(steps: list[tuple[str, ...]]) -> None:
    async def main() -> None:
        machine = Machine()
        await machine.store.open()
        await machine.totals.fill()
        for operation, *arguments in steps:
            await machine.apply(operation, *arguments)
            await machine.check()
        await machine.check_empty_after_sweeping()

    trio.run(main)


async def test_a_condemned_generation_is_never_referenced_again() -> None:
    machine = Machine()
    await machine.store.open()
    name = object_name("a")
    await machine.put_shared(name, b"x")
    (old,) = await machine.store.chunks_of(machine.manifests[name])
    await machine.delete(name)
    machine.store.now_ms += 2 * GRACE_MS
    (item,) = await machine.store.due()
    await machine.store.sweep_item(item)
    (condemned,) = await machine.store.due()
    await machine.put_shared(name, b"x")
    (new,) = await machine.store.chunks_of(machine.manifests[name])
    assert new != old
    for _ in range(2):
        await machine.store.sweep_item(condemned)
    assert await recount(machine.store.kv) == []
    assert {piece_name(new, 0), piece_name(new, 1)} <= machine.store.pieces


async def test_a_chunk_that_is_wanted_again_starts_its_grace_anew() -> None:
    machine = Machine()
    await machine.store.open()
    name = object_name("a")
    await machine.put_shared(name, b"x")
    await machine.delete(name)
    machine.store.now_ms += 2 * GRACE_MS
    (seen,) = await machine.store.due()
    await machine.put_shared(name, b"x")
    await machine.delete(name)
    await machine.store.sweep_item(seen)
    assert await recount(machine.store.kv) == []
    # Only the second put's own pieces are condemned, since it referenced the first one's chunk.
    (due,) = await machine.store.due()
    assert (due.kind, due.id == seen.id) == ("condemned", False)


async def test_two_creators_of_a_chunk_end_with_one() -> None:
    machine = Machine()
    await machine.store.open()
    await machine.put_shared(object_name("a"), b"x")
    await machine.put_shared(object_name("b"), b"x")
    (chunk,) = {machine.manifests[object_name(key)].chunk for key in "ab"}
    assert chunk is not None
    await machine.store.sweep_dry()
    assert machine.store.pieces == {piece_name(chunk, 0), piece_name(chunk, 1)}
