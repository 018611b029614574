"""Checkers of the metadata: count everything again, and say in sentences what does not agree."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from flared.catalog import buckets, chunks, extents, garbage, manifest, packed, parents, uploads
from flared.catalog.garbage import CHUNK, CONDEMNED, EXTENT, PARENT, UPLOAD, Garbage
from flared.catalog.manifest import ExtentId, Manifest
from flared.catalog.totals import Totals, TotalsNow
from flared.catalog.uploads import UploadId
from flared.names import BucketName, ChunkId, ObjectKey, ObjectName, chunk_digest

if TYPE_CHECKING:
    from flared.catalog.chunks import ChunkRecord
    from flared.catalog.extents import Extent
    from flared.catalog.manifest import ExtentRef
    from flared.meta.kv import KV

Rows = list[tuple[bytes, bytes]]


async def recount(kv: KV, totals: Totals | None = None) -> list[str]:
    """Everything in the metadata that contradicts something else in it; nothing, if all is well."""
    metadata = _Metadata(await kv.scan(b"", b"\xff", 10**9))
    problems = [
        *metadata.check_objects(),
        *metadata.check_versions(),
        *metadata.check_extents(),
        *metadata.check_parents(),
        *metadata.check_uploads(),
        *metadata.check_chunks(),
        *metadata.check_garbage(),
    ]
    if totals is not None and totals.now() != metadata.totals():
        problems.append(f"the totals are {totals.now()}, counted: {metadata.totals()}")
    return problems + (metadata.check_buckets(totals) if totals is not None else [])


class _Metadata:
    """All records, decoded."""

    def __init__(self, rows: Rows) -> None:
        self.buckets: set[str] = set()
        self.objects: dict[ObjectName, Manifest] = {}
        self.versions: dict[ObjectName, dict[str, Manifest]] = {}
        """Those that are not in ``object/``, by what ends their keys: nothing for the newest."""
        self.nulls: dict[ObjectName, int] = {}
        self.extents: dict[ExtentId, Extent] = {}
        self.pages: dict[ExtentId, dict[int, list[extents.PageEntry]]] = {}
        self.children: dict[ExtentId, dict[int, list[parents.Child]]] = {}
        self.uploads: dict[UploadId, uploads.Upload] = {}
        self.parts: dict[UploadId, dict[int, uploads.Part]] = {}
        self.retired: dict[UploadId, frozenset[int]] = {}
        self.open: dict[ExtentId, int] = {}
        self.chunks: dict[ChunkId, ChunkRecord] = {}
        self.shared: dict[tuple[str, str], ChunkId] = {}
        self.repairs: set[ChunkId] = set()
        self.garbage: list[Garbage] = []
        for key, value in rows:
            table, *rest = key.decode().split("/")
            getattr(self, f"_take_{table}")(key, value, *rest)

    def check_buckets(self, totals: Totals) -> list[str]:
        counted = {bucket: [0, 0] for bucket in self.buckets}
        for name, stored in self.objects.items():
            counted[name.bucket][0] += 1
            counted[name.bucket][1] += stored.size
        told, others = totals.buckets()
        for bucket, objects, size in told:
            objects_there, size_there = counted.pop(bucket, [0, 0])
            if (objects, size) != (objects_there, size_there):
                return [
                    f"bucket {bucket} is told to have {objects} objects, {size} bytes: {objects_there}, {size_there}"
                ]
        rest = [sum(objects for objects, _ in counted.values()), sum(size for _, size in counted.values())]
        return [] if [others.objects, others.bytes] == rest else [f"the others are told as {others}, counted: {rest}"]

    def check_objects(self) -> list[str]:
        problems = [f"{name} is in no bucket" for name in self.objects if name.bucket not in self.buckets]
        for version in self._every_version():
            name = version.name
            for ref in version.extents:
                extent = self.extents.get(ref.id)
                if extent is None or extent.expires_ms or extent.released:
                    problems.append(f"{name} names the extent {ref.id}, which is {extent}")
                elif extent.ref != ref:
                    problems.append(f"{name} says {ref}, the extent says {extent.ref}")
            if version.chunk is not None and version.chunk not in self.chunks:
                problems.append(f"{name} names the chunk {version.chunk}, which is gone")
            if version.size and version.chunk is None and sum(ref.size for ref in version.extents) != version.size:
                problems.append(f"{name} has {version.size} bytes, its extents have others")
        return problems

    def check_versions(self) -> list[str]:
        problems = []
        for name, others in self.versions.items():
            newest = self.objects.get(name) or others.get("")
            if newest is None or ("" in others and name in self.objects):
                problems.append(f"{name} has {sorted(others)} and the newest version {newest}")
                continue
            if "" in others and not others[""].deletes:
                problems.append(f"{name} has a newest version {others['']} in the place of a delete marker")
            below = [version for end, version in others.items() if end]
            for end, version in others.items():
                if end and (end != f"{10**15 - 1 - version.version:015}" or version.version >= newest.version):
                    problems.append(f"{version} stands at {end}, and {newest} is the newest")
            nulls = [version.version for version in below if version.is_null]
            noted = [self.nulls[name]] if name in self.nulls else []
            if nulls != noted or (nulls and newest.is_null):
                problems.append(f"{name} has versions without an id: {nulls}, noted {noted}, {newest}")
        problems += [f"{name} has a null version and no others" for name in self.nulls.keys() - self.versions.keys()]
        return problems + [f"{name} is a delete marker" for name, found in self.objects.items() if found.deletes]

    def _every_version(self) -> list[Manifest]:
        return [*self.objects.values(), *(version for found in self.versions.values() for version in found.values())]

    def check_extents(self) -> list[str]:
        named = Counter(ref.id for version in self._every_version() for ref in version.extents)
        named.update(ref.id for ref in self._owned_by_parents() + self._held_by_parts())
        paged = self.pages.keys() | self.children.keys()
        problems = [f"there are pages of {extent}, which is gone" for extent in paged - self.extents.keys()]
        for extent in self.extents.values():
            if extent.references != named[extent.id]:
                problems.append(f"{named[extent.id]} manifests, parents and parts name the extent {extent}")
            if extent.expires_ms != self.open.get(extent.id, 0):
                problems.append(f"the extent {extent} has the open key {self.open.get(extent.id)}")
            wanted = bool(not extent.references and not extent.expires_ms)
            problems += self._check_items(extent.garbage.kind, extent.id, extent.due_ms, wanted=wanted)
            if not extent.released and extent.children is None:
                entries = [entry for _, page in sorted(self.pages.get(extent.id, {}).items()) for entry in page]
                if (len(entries), sum(size for _, size in entries)) != (extent.chunks, extent.size):
                    problems.append(f"the pages of {extent} hold {len(entries)} chunks")
        return problems

    def check_parents(self) -> list[str]:
        """Their pages are what their records say, and what a parent owns is as it says."""
        problems = []
        for extent in self.extents.values():
            if extent.children is None or extent.released:
                continue
            pages = [page for _, page in sorted(self.children.get(extent.id, {}).items())]
            counted = [
                (sum(child.extent.size for child in page), sum(child.extent.chunks for child in page), page[0].number)
                for page in pages
            ]
            if counted != list(extent.children.pages) or sum(map(len, pages)) != extent.children.total:
                problems.append(f"the pages of the parent {extent} hold {counted}")
            if (extent.size, extent.chunks) != (
                sum(size for size, *_ in counted),
                sum(count for _, count, _ in counted),
            ):
                problems.append(f"the parent {extent} holds {counted}")
            numbers = [child.number for page in pages for child in page]
            if numbers != sorted(set(numbers)):
                problems.append(f"the parts of the parent {extent.id} are in the order {numbers}")
        for ref in self._owned_by_parents():
            child = self.extents.get(ref.id)
            if child is None or child.expires_ms or child.released or child.ref != ref:
                problems.append(f"a parent says {ref}, the extent is {child}")
        return problems

    def check_uploads(self) -> list[str]:
        """Every part belongs to an upload, or to one that is being swept."""
        problems = [f"the upload {upload} is there and retired" for upload in self.uploads.keys() & self.retired.keys()]
        for upload, parts in self.parts.items():
            if upload not in self.uploads and upload not in self.retired:
                problems.append(f"there are parts of the upload {upload}, which is gone")
            for part in parts.values():
                extent = self.extents.get(part.extent.id)
                held = part.number not in self.retired.get(upload, ())
                if held and (extent is None or extent.expires_ms or extent.ref != part.extent):
                    problems.append(f"{part} of the upload {upload} names an extent which is {extent}")
        return problems

    def _owned_by_parents(self) -> list[ExtentRef]:
        """Return the references of parents: all children of those that were sealed, but the released ones."""
        return [
            child.extent
            for extent in self.extents.values()
            if extent.children is not None and extent.children.owned
            for number, page in self.children.get(extent.id, {}).items()
            for place, child in enumerate(page)
            if number * parents.PAGE_CHILDREN + place >= extent.released
        ]

    def _held_by_parts(self) -> list[ExtentRef]:
        """Return the references of parts: all but those whose extent a parent owns now."""
        return [
            part.extent
            for upload, parts in self.parts.items()
            for part in parts.values()
            if part.number not in self.retired.get(upload, ())
        ]

    def check_chunks(self) -> list[str]:
        named = Counter(version.chunk for version in self._every_version() if version.chunk is not None)
        for extent, chunk in self._listed():
            if chunk not in self.chunks:
                return [f"the extent {extent} names the chunk {chunk}, which is gone"]
            named[chunk] += 1
        problems = []
        for chunk, record in self.chunks.items():
            if record.references != named[chunk]:
                problems.append(f"{named[chunk]} manifests and extents name the chunk {record}")
            if bool(record.missing) != (chunk in self.repairs):
                problems.append(f"the repair key is wrong for the chunk {record}")
            problems += self._check_items(CHUNK, chunk, record.due_ms, wanted=not record.references)
        problems += [f"{chunk} is to be repaired and gone" for chunk in self.repairs - self.chunks.keys()]
        for (digest, scheme), chunk in self.shared.items():
            shared = self.chunks.get(chunk)
            if shared is None or (chunk_digest(chunk).hex(), shared.scheme) != (digest, scheme):
                problems.append(f"{digest}/{scheme} is shared as {chunk}, which is {shared}")
        return problems

    def check_garbage(self) -> list[str]:
        problems = []
        for item in self.garbage:
            if item.kind == UPLOAD:
                continue
            tables = {EXTENT: self.extents, PARENT: self.extents, CHUNK: self.chunks, CONDEMNED: self.chunks}
            table = tables[item.kind]
            if (item.id in table) == (item.kind == CONDEMNED):
                problems.append(f"{item} stands for what is {'there' if item.id in table else 'gone'}")
        return problems

    def totals(self) -> TotalsNow:
        return TotalsNow(
            len(self.objects),
            sum(version.size for version in self.objects.values()),
            len(self.chunks),
            sum(record.stored for record in self.chunks.values()),
            True,
            sum(map(len, self.versions.values())),
            sum(version.size for others in self.versions.values() for version in others.values()),
        )

    def _check_items(self, kind: str, identity: str, due_ms: int, *, wanted: bool) -> list[str]:
        items = [item.due_ms for item in self.garbage if (item.kind, item.id) == (kind, identity)]
        if items != ([due_ms] if wanted else []) or bool(due_ms) != wanted:
            return [f"the {kind} {identity} is due at {due_ms} and has the garbage items {items}"]
        return []

    def _listed(self) -> list[tuple[ExtentId, ChunkId]]:
        """Return the references of extents: all their chunks but those that the sweep has released."""
        return [
            (extent.id, chunk)
            for extent in self.extents.values()
            for number, page in self.pages.get(extent.id, {}).items()
            for place, (chunk, _) in enumerate(page)
            if number * extents.PAGE_CHUNKS + place >= extent.released
        ]

    def _take_cluster(self, key: bytes, value: bytes) -> None:
        pass

    def _take_restored(self, _key: bytes, _value: bytes) -> None:
        pass

    def _take_damage(self, _key: bytes, _value: bytes, *_rest: str) -> None:
        pass

    def _take_orphans(self, _key: bytes, _value: bytes, *_rest: str) -> None:
        pass

    def _take_node(self, key: bytes, value: bytes, name: str) -> None:
        pass

    def _take_removed(self, key: bytes, value: bytes, name: str) -> None:
        pass

    def _take_orphans(self, _key: bytes, _value: bytes, _node: str) -> None:
        pass

    def _take_bucketdoc(self, key: bytes, _value: bytes, bucket: str, kind: str) -> None:
        assert bucket in self.buckets, f"{key!r} is a document of no bucket"

    def _take_bucket(self, _key: bytes, value: bytes, name: str) -> None:
        self.buckets.add(buckets.decode(BucketName(name), value).name)

    def _take_object(self, _key: bytes, value: bytes, bucket: str, *key: str) -> None:
        name = ObjectName(BucketName(bucket), ObjectKey("/".join(key)))
        found = self.objects[name] = manifest.decode(name, value)
        if found.packed is not None:
            self._take_packed(found.packed)

    def _take_version(self, _key: bytes, value: bytes, bucket: str, *key: str) -> None:
        path, _, end = "/".join(key).partition("\0")
        name = ObjectName(BucketName(bucket), ObjectKey(path))
        found = self.versions.setdefault(name, {})[end] = manifest.decode(name, value)
        if found.packed is not None:
            self._take_packed(found.packed)

    def _take_null(self, _key: bytes, value: bytes, bucket: str, *key: str) -> None:
        self.nulls[ObjectName(BucketName(bucket), ObjectKey("/".join(key)))] = json.loads(value[1:])["v"]

    def _take_extent(self, _key: bytes, value: bytes, name: str, page: str = "") -> None:
        extent = ExtentId(name)
        record = self.extents.get(extent)  # it comes before its pages
        if not page:
            self.extents[extent] = extents.decode(extent, value)
        elif record is None or record.children is None:
            self.pages.setdefault(extent, {})[int(page)] = extents.decode_page(extent, value)
        else:
            self.children.setdefault(extent, {})[int(page)] = parents.decode_page(extent, value)

    def _take_upload(self, key: bytes, value: bytes, *_rest: str) -> None:
        upload = uploads.decode(key, value)
        self.uploads[upload.id] = upload

    def _take_part(self, _key: bytes, value: bytes, upload: str, number: str) -> None:
        identity = UploadId(upload)
        self.parts.setdefault(identity, {})[int(number)] = uploads.decode_part(identity, int(number), value)

    def _take_open(self, _key: bytes, _value: bytes, expires: str, extent: str) -> None:
        self.open[ExtentId(extent)] = int(expires)

    def _take_chunk(self, _key: bytes, value: bytes, name: str) -> None:
        assert ChunkId(name) not in self.chunks, f"the chunk {name} has two records"
        self.chunks[ChunkId(name)] = chunks.decode(ChunkId(name), value)

    def _take_shared(self, _key: bytes, value: bytes, digest: str, scheme: str) -> None:
        self.shared[digest, scheme] = ChunkId(value.decode())

    def _take_repair(self, _key: bytes, _value: bytes, name: str) -> None:
        self.repairs.add(ChunkId(name))

    def _take_garbage(self, key: bytes, value: bytes, *_rest: str) -> None:
        item = garbage.decode(key, value)
        self.garbage.append(item)
        if item.kind == UPLOAD:
            self.retired[UploadId(item.id)] = uploads.decode_owned(key, value)
        if packed.is_packed(value):
            self._take_packed(chunks.record_of(packed.decode(value), 0, item.due_ms))

    def _take_packed(self, record: ChunkRecord) -> None:
        assert record.id not in self.chunks, f"the chunk {record.id} has two records"
        self.chunks[record.id] = record
