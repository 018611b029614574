"""A little store on the catalog: what the verbs and the sweep do, without nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from flared.catalog import chunks, extents, garbage, objects, parents
from flared.catalog.buckets import Bucket, create_bucket
from flared.catalog.chunks import ChunkRecord, condemn_chunk, create_packed_chunk, create_shared_chunk
from flared.catalog.extents import append_chunk, give_up, list_open_extents, open_extent, release_extent_page, seal
from flared.catalog.garbage import CHUNK, EXTENT, PARENT, UPLOAD, Garbage, list_due, mark_deleted
from flared.catalog.manifest import ExtentId, Manifest
from flared.catalog.parents import Child, append_page, open_parent, release_parent_page
from flared.catalog.uploads import (
    Part,
    Upload,
    UploadId,
    begin_assembly,
    create_upload,
    list_parts,
    put_part,
    read_upload,
    release_parts,
    retire,
)
from flared.errors import NoSuchUpload
from flared.meta.kv import KV, Transaction
from flared.names import BucketName, ChunkId, NodeName, ObjectKey, ObjectName, PieceName, chunk_id, piece_name

BUCKET = BucketName("bucket")
NODES = (NodeName("data1"), NodeName("data2"))
SCHEME = "replica:2"
CHUNK_SIZE = 100
GRACE_MS = 1000
UPLOAD_TTL_MS = 5000


def always(_current: Manifest | None) -> None:
    pass


def object_name(key: str) -> ObjectName:
    return ObjectName(BUCKET, ObjectKey(key))


def draft(name: ObjectName, size: int = 0, chunk: ChunkId | None = None) -> Manifest:
    return Manifest(name, 0, size, "etag-1", 1.5, "text/plain", {}, chunk)


class LittleStore:
    """``pieces`` is what the nodes hold: written before the metadata, deleted when the sweep says so."""

    def __init__(self, kv: KV) -> None:
        self.kv = kv
        self.now_ms = 1_000_000
        self.pieces: set[PieceName] = set()
        self._drawn = 0

    async def open(self, bucket: BucketName = BUCKET, created_ms: int = 1) -> None:
        await self.kv.transact(lambda tx: create_bucket(tx, Bucket(bucket, created_ms, SCHEME, CHUNK_SIZE, False)))

    def draw(self) -> int:
        self._drawn += 1
        return self._drawn

    def store_pieces(self, content: bytes, size: int = CHUNK_SIZE, missing: tuple[int, ...] = ()) -> ChunkRecord:
        chunk = chunk_id(hashlib.sha256(content).digest(), self.now_ms, self.draw())
        self.pieces.update(piece_name(chunk, number) for number in range(len(NODES)))
        return ChunkRecord(chunk, size, size, 0, SCHEME, 1, NODES, missing)

    @property
    def due_ms(self) -> int:
        return self.now_ms + GRACE_MS

    def put_version(self, tx: Transaction, manifest: Manifest) -> Manifest:
        return objects.put_version(tx, manifest, always, self.now_ms, self.due_ms)[0]

    async def put_small(self, name: ObjectName, content: bytes) -> Manifest:
        record = self.store_pieces(content)

        def decide(tx: Transaction) -> Manifest:
            create_packed_chunk(tx, record)
            return self.put_version(tx, draft(name, record.size, record.id)._replace(packed=record))

        return await self.kv.transact(decide)

    async def put_shared(self, name: ObjectName, content: bytes, missing: tuple[int, ...] = ()) -> Manifest:
        record = self.store_pieces(content, missing=missing)

        def decide(tx: Transaction) -> Manifest:
            used = create_shared_chunk(tx, record, self.now_ms)
            return self.put_version(tx, draft(name, used.size, used.id))

        return await self.kv.transact(decide)

    async def begin_large(self, contents: Sequence[bytes]) -> ExtentId:
        extent = ExtentId(f"{self.draw():032x}")
        expires = self.now_ms + UPLOAD_TTL_MS
        await self.kv.transact(lambda tx: open_extent(tx, extent, CHUNK_SIZE, expires))
        for content in contents:
            await self.append(extent, self.store_pieces(content))
        return extent

    async def append(self, extent: ExtentId, record: ChunkRecord) -> None:
        def decide(tx: Transaction) -> None:
            append_chunk(tx, extent, create_shared_chunk(tx, record, self.now_ms).id, record.size)

        await self.kv.transact(decide)

    async def end_large(self, name: ObjectName, extent: ExtentId) -> Manifest:
        def decide(tx: Transaction) -> Manifest:
            ref = seal(tx, extent)
            return self.put_version(tx, Manifest(name, 0, ref.size, "e", 1.5, "text/plain", {}, None, (ref,)))

        return await self.kv.transact(decide)

    async def copy(self, source: ObjectName, target: ObjectName) -> bool:
        manifest = await self.kv.view(lambda look: objects.read_object(look, source))
        if manifest is None:
            return False
        await self.copy_of(manifest, target)
        return True

    async def copy_of(self, manifest: Manifest, target: ObjectName) -> None:
        def decide(tx: Transaction) -> None:
            assert objects.add_references(tx, manifest)
            copied = Manifest(target, 0, manifest.size, manifest.etag, 1.5, "a/b", {}, manifest.chunk, manifest.extents)
            self.put_version(tx, copied)

        await self.kv.transact(decide)

    async def delete(self, name: ObjectName) -> bool:
        decide = lambda tx: objects.delete_object(tx, name, always, self.now_ms, self.due_ms)  # noqa: E731
        return (await self.kv.transact(decide)).deleted is not None

    async def begin_upload(self, name: ObjectName) -> UploadId:
        upload = UploadId(f"{self.now_ms:012x}{self.draw():020x}")
        begun = Upload(name, upload, self.now_ms, 0, "a/b", {})
        await self.kv.transact(lambda tx: create_upload(tx, begun, self.now_ms))
        return upload

    async def put_part(self, name: ObjectName, upload: UploadId, number: int, contents: Sequence[bytes]) -> None:
        """Raises NoSuchUpload; then what was stored is given up."""
        extent = await self.begin_large(contents)

        def decide(tx: Transaction) -> None:
            part = Part(number, seal(tx, extent), "e", self.now_ms)
            put_part(tx, name, upload, part, self.now_ms, self.due_ms)

        try:
            await self.kv.transact(decide)
        except NoSuchUpload:
            await self.kv.transact(lambda tx: give_up(tx, extent, self.due_ms))
            raise

    async def assemble(self, name: ObjectName, upload: UploadId, numbers: Sequence[int]) -> ExtentId:
        """Do everything of a completion but its last transaction."""
        parent = ExtentId(f"{self.draw():032x}")
        expires = self.now_ms + UPLOAD_TTL_MS

        def begin(tx: Transaction) -> None:
            begin_assembly(tx, name, upload, parent)
            open_parent(tx, parent, upload, expires)

        await self.kv.transact(begin)
        found = [part for part in await list_parts(self.kv, upload, 0, 10_000) if part.number in numbers]
        for start in range(0, len(found), parents.PAGE_CHILDREN):
            page = [Child(part.extent, part.number) for part in found[start : start + parents.PAGE_CHILDREN]]
            await self.kv.transact(lambda tx, page=page: append_page(tx, parent, page))
        return parent

    async def complete(
        self, name: ObjectName, upload: UploadId, parent: ExtentId, numbers: Sequence[int]
    ) -> Manifest | None:
        """The last transaction. None if parts have changed since they were assembled."""

        def decide(tx: Transaction) -> Manifest | None:
            now = read_upload(tx, name, upload)
            if now.parent != parent:
                return None
            ref = seal(tx, parent)
            retire(tx, now, numbers, self.due_ms)
            return self.put_version(tx, Manifest(name, 0, ref.size, "e", 1.5, "text/plain", {}, None, (ref,)))

        return await self.kv.transact(decide)

    async def abort(self, name: ObjectName, upload: UploadId) -> None:
        await self.kv.transact(lambda tx: retire(tx, read_upload(tx, name, upload), (), self.due_ms))

    async def give_up_expired(self) -> None:
        for _, extent in await list_open_extents(self.kv, self.now_ms, 10):
            assert await self.kv.transact(lambda tx, extent=extent: give_up(tx, extent, self.due_ms))

    async def due(self, limit: int = 100) -> list[Garbage]:
        return await list_due(self.kv, self.now_ms, limit)

    async def sweep_item(self, item: Garbage, portion: int = 2) -> None:
        """One transaction's worth of work on an item."""
        if item.kind == EXTENT:
            await self.kv.transact(lambda tx: release_extent_page(tx, item, self.due_ms, portion))
        elif item.kind == PARENT:
            await self.kv.transact(lambda tx: release_parent_page(tx, item, self.due_ms, portion))
        elif item.kind == UPLOAD:
            await release_parts(self.kv, item, self.due_ms, portion)
        elif item.kind == CHUNK:
            await self.kv.transact(lambda tx: condemn_chunk(tx, item, self.now_ms))
        else:
            _, node = item.pieces[0]
            self.pieces.difference_update(
                piece_name(ChunkId(item.id), number) for number, holder in item.pieces if holder == node
            )
            await self.kv.transact(lambda tx: mark_deleted(tx, item, node))

    async def sweep_dry(self) -> None:
        for _ in range(1000):
            self.now_ms += GRACE_MS + UPLOAD_TTL_MS
            await self.give_up_expired()
            for item in await self.due():
                await self.sweep_item(item, 100)
            if not await self.kv.scan(b"garbage/", b"garbage0", 1):
                return
        raise AssertionError("garbage does not end")

    async def chunks_of(self, manifest: Manifest) -> list[ChunkId]:
        if manifest.chunk is not None:
            return [manifest.chunk]
        refs = []
        for ref in manifest.extents:
            if not ref.is_parent:
                refs.append(ref)
                continue
            for page in range(-(-ref.children // parents.PAGE_CHILDREN)):
                refs += [child.extent for child in await parents.read_page(self.kv, ref.id, page)]
        found = []
        for ref in refs:
            for page in range(-(-ref.chunks // extents.PAGE_CHUNKS)):
                found += [chunk for chunk, _ in await extents.read_page(self.kv, ref.id, page)]
        return found


__all__ = ["GRACE_MS", "LittleStore", "always", "chunks", "draft", "garbage", "object_name"]
