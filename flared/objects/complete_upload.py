"""Complete upload: parts become an object, and no byte is written again.

The order is: the upload notes a new parent, which is opened; the parts that the client names are listed and copied into
the parent's pages, which count nothing; then, in one transaction, the parent is sealed, the manifest that names it is
put, and the upload retired. If a part was put, or another completion began, in between, the last transaction finds
another note and everything begins anew. A crash leaves a draft, which expires, and the upload as it was.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from flared.catalog.buckets import find_bucket
from flared.catalog.details import EMPTY
from flared.catalog.extents import seal
from flared.catalog.manifest import ExtentId
from flared.catalog.objects import find_current, read_object
from flared.catalog.parents import PAGE_CHILDREN, Child, append_page, open_parent, read_children
from flared.catalog.uploads import PART_NUMBER_MAX, begin_assembly, list_parts, read_upload, retire
from flared.errors import BadDigest, BadPart, BadPartOrder, BadRequest, Busy, NoSuchUpload, PartTooSmall
from flared.meta.kv import Transaction
from flared.objects.commit import ObjectHeaders, PutResult, Target, check_size, put_manifest
from flared.objects.conditions import UNCONDITIONAL, Conditions, check_write
from flared.objects.digests import composite, full_object
from flared.objects.extent_writer import give_up_soon
from flared.objects.store import Store, due_ms, now_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.catalog.manifest import Manifest
    from flared.catalog.uploads import Part, Upload, UploadId
    from flared.names import ObjectName

ATTEMPTS_MAX = 8
"""Each one that fails means that a part was put, or another completion begun, meanwhile."""
REST_SECONDS = 0.02
"""Before the second attempt at most, doubled for each further one: completions at once would else go on undoing each
other."""


class NamedPart(NamedTuple):
    """A part as the client names it."""

    number: int
    etag: str
    checksum: str = ""
    """In base64, by the upload's algorithm; empty: it says none."""


class Promise(NamedTuple):
    """What the client says of the object; what is empty or None it does not say."""

    algorithm: str = ""
    checksum: str = ""
    """In base64, by this algorithm, which has to be the upload's."""
    full_object: bool | None = None
    """Which of the two the upload was begun with."""
    size: int | None = None


NO_PROMISE = Promise()


class _Assembled(NamedTuple):
    parent: ExtentId
    upload: Upload
    size: int
    etag: str
    checksum: str


class _Changed(Exception):  # a signal inside this file, never an error
    """What was assembled is not what is there now."""


async def complete_upload(
    store: Store,
    name: ObjectName,
    upload: UploadId,
    parts: Sequence[NamedPart],
    *,
    when: Conditions = UNCONDITIONAL,
    promise: Promise = NO_PROMISE,
) -> PutResult:
    """Make the named parts, in ascending order of their numbers, the newest version of ``name``.

    Parts not named become garbage. A repeated call that was answered before is answered again, as long as the object
    is the newest version. Raises NoSuchBucket, NoSuchUpload, BadPart, BadPartOrder, PartTooSmall, TooLarge, BadDigest,
    BadRequest, PreconditionFailed (also at the last moment) and Busy; then the upload is as it was.
    """
    _check_order(parts)
    for attempt in range(ATTEMPTS_MAX):
        try:
            return await _attempt(store, name, upload, parts, when, promise)
        except _Changed:
            await trio.sleep(REST_SECONDS * 2**attempt * store.random_bits(16) / 2**16)
        except NoSuchUpload:
            done = await _find_completed(store, name, upload, parts)
            if done is None:
                raise
            return PutResult(done, created=False)
    raise Busy(f"the parts of the upload {upload} change faster than they can be assembled")


async def _attempt(
    store: Store,
    name: ObjectName,
    upload: UploadId,
    parts: Sequence[NamedPart],
    when: Conditions,
    promise: Promise,
) -> PutResult:
    parent = ExtentId(f"{store.random_bits(128):032x}")
    in_flight = store.chunks.in_flight
    in_flight.pin([parent])  # the sweep gives up no draft that is being written
    try:
        begun = await store.kv.transact(partial(_begin, store, name, upload, parent, when))
        try:
            chosen = await _assemble(store, begun, parent, parts)
            assembled = await _sum_up(store, begun, parent, chosen, promise)
            return await store.kv.transact(await _completing(store, assembled, parts, when))
        except BaseException:
            await give_up_soon(store, parent)
            raise
    finally:
        in_flight.unpin([parent])


def _begin(
    store: Store, name: ObjectName, upload: UploadId, parent: ExtentId, when: Conditions, tx: Transaction
) -> Upload:
    store.chunks.nodes.refuse_while_halted()
    begun = begin_assembly(tx, name, upload, parent)
    if not when.empty:
        current = read_object(tx, name)
        check_write(when, current.etag if current else None)
    open_parent(tx, parent, upload, now_ms(store) + int(store.upload_ttl_seconds * 1000))
    return begun


async def _assemble(store: Store, upload: Upload, parent: ExtentId, named: Sequence[NamedPart]) -> list[Part]:
    """Copy the named parts into the pages of the parent; return them."""
    chosen: list[Part] = []
    page: list[Child] = []
    found: dict[int, Part] = {}
    listed_to, size = 0, 0
    for place, wanted in enumerate(named):
        if wanted.number > listed_to:
            rows = await list_parts(store.kv, upload.id, wanted.number - 1, PAGE_CHILDREN)
            found = {part.number: part for part in rows}
            listed_to = rows[-1].number if len(rows) == PAGE_CHILDREN else PART_NUMBER_MAX
        part = _check_part(wanted, found.get(wanted.number))
        size += part.extent.size
        if place < len(named) - 1 and part.extent.size < store.limits.part_size_min:
            raise PartTooSmall(
                f"part {part.number} has {part.extent.size} bytes; every part but the last has at least "
                f"{store.limits.part_size_min}"
            )
        check_size(store, size)
        chosen.append(part)
        page.append(Child(part.extent, part.number, part.checksum))
        if len(page) == PAGE_CHILDREN or place == len(named) - 1:
            await store.kv.transact(partial(append_page, parent=parent, page=tuple(page)))
            page = []
    return chosen


def _check_order(named: Sequence[NamedPart]) -> None:
    if not named:
        raise BadRequest("an object has at least one part")
    before = 0
    for part in named:
        if part.number <= before:
            raise BadPartOrder(f"part {part.number} is listed behind part {before}; list parts in ascending order")
        before = part.number
    if before > PART_NUMBER_MAX:
        raise BadPart(f"a part has a number from 1 to {PART_NUMBER_MAX}, not {before}")


def _check_part(wanted: NamedPart, part: Part | None) -> Part:
    if part is None:
        raise BadPart(f"part {wanted.number} was not uploaded")
    if part.etag != wanted.etag:
        raise BadPart(f"part {wanted.number} has the etag {part.etag}, not {wanted.etag[:80]!r}")
    if wanted.checksum and wanted.checksum != part.checksum:
        raise BadPart(f"part {wanted.number} has the checksum {part.checksum!r}, not {wanted.checksum[:80]!r}")
    return part


async def _sum_up(
    store: Store, upload: Upload, parent: ExtentId, parts: Sequence[Part], promise: Promise
) -> _Assembled:
    """Compute what the object has of all parts together, and compare it with what the client promised."""
    size = sum(part.extent.size for part in parts)
    if promise.size not in {None, size}:
        raise BadRequest(f"the object has {size} bytes, not the {promise.size} that were promised")
    if promise.algorithm not in {"", upload.algorithm}:
        raise BadRequest(f"the checksum of the upload is {upload.algorithm or 'none'}, not {promise.algorithm}")
    if promise.full_object not in {None, upload.full_object}:
        raise BadRequest("the type of the checksum is not the one that the upload was begun with")
    # Joining ten thousand CRCs takes longer than others may wait for the loop.
    checksum = await store.chunks.threads.run(_checksum, upload, parts) if upload.algorithm else ""
    promised = promise.checksum if upload.full_object else promise.checksum.partition("-")[0]
    if promised and promised != (checksum if upload.full_object else checksum.partition("-")[0]):
        raise BadDigest(
            f"the {upload.algorithm.upper()} of the object is {checksum}, not the one promised",
            algorithm=upload.algorithm,
        )
    return _Assembled(parent, upload, size, make_upload_etag([part.etag for part in parts]), checksum)


def _checksum(upload: Upload, parts: Sequence[Part]) -> str:
    digests = [base64.b64decode(part.checksum) for part in parts]
    if upload.full_object:
        return full_object(upload.algorithm, zip(digests, (part.extent.size for part in parts), strict=True))
    return composite(upload.algorithm, digests)


def make_upload_etag(etags: Sequence[str]) -> str:
    """The MD5 of the parts' MD5s, and how many there are, as S3 has it."""
    joined = b"".join(bytes.fromhex(etag) for etag in etags)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(etags)}"


async def _completing(
    store: Store, assembled: _Assembled, named: Sequence[NamedPart], when: Conditions
) -> Callable[[Transaction], PutResult]:
    """The decision that makes the parent an object, if the upload still notes it."""
    upload = assembled.upload
    bucket = await find_bucket(store.kv, upload.name.bucket)
    target = Target(store, bucket, upload.name, _headers_of(assembled), when)
    now, due, numbers = store.now(), due_ms(store), [part.number for part in named]

    def decide(tx: Transaction) -> PutResult:
        if read_upload(tx, upload.name, upload.id).parent != assembled.parent:
            raise _Changed
        extent = seal(tx, assembled.parent)
        retire(tx, upload, numbers, due)
        return put_manifest(tx, target, assembled.size, assembled.etag, now, extents=(extent,))

    return decide


def _headers_of(assembled: _Assembled) -> ObjectHeaders:
    upload, details = assembled.upload, assembled.upload.details
    if assembled.checksum:
        checksums = {upload.algorithm: assembled.checksum}
        details = (details or EMPTY)._replace(checksums=checksums, composite=not upload.full_object)
    return ObjectHeaders(upload.content_type, upload.user, details)


async def _find_completed(
    store: Store, name: ObjectName, upload: UploadId, named: Sequence[NamedPart]
) -> Manifest | None:
    """The newest version, if this upload made it, of these parts."""
    manifest = find_current(store.kv, name)
    if manifest is None or not any(extent.is_parent for extent in manifest.extents):
        return None
    children = await read_children(store.kv, manifest.extents[0].id)
    try:
        etag = make_upload_etag([part.etag for part in named])
    except ValueError:
        return None
    return manifest if (children.upload, manifest.etag) == (upload, etag) else None
