"""Copy: a new name for the same chunks, by reference; read and written again where the target's bucket keeps its
objects differently."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from flared.catalog.buckets import find_bucket
from flared.catalog.details import EMPTY, Details, some
from flared.catalog.manifest import Manifest
from flared.catalog.objects import add_references, find_object, put_version
from flared.errors import Busy, NotModified, PreconditionFailed
from flared.names import ObjectName
from flared.objects.commit import ObjectHeaders, PutResult
from flared.objects.conditions import ALWAYS, UNCONDITIONAL, Conditions, ReadConditions, check_read, check_write
from flared.objects.digests import Digests
from flared.objects.put import put_object
from flared.objects.reading_source import open_source
from flared.objects.store import Store, due_ms, now_ms

if TYPE_CHECKING:
    from flared.meta.kv import Transaction

ATTEMPTS_MAX = 5
"""Each one that fails means that the source was replaced meanwhile and its garbage collected."""


async def copy_object(
    store: Store,
    source: ObjectName,
    target: ObjectName,
    *,
    headers: ObjectHeaders | None = None,
    tags: dict[str, str] | None = None,
    acl: str = "",
    when: Conditions = UNCONDITIONAL,
    source_version: int | None = None,
    only: ReadConditions = ALWAYS,
    checksum: str = "",
) -> PutResult:
    """Make ``target`` the same as the newest version of ``source``, or that of a number, with new ``headers`` and
    ``tags`` if given; of the details ``headers`` replaces the response fields. ETag and checksums stay. An ACL is never
    copied: the copy has ``acl``.

    ``when`` is about the target, ``only`` about the source. A ``checksum`` (of ``digests.CHECKSUMS``) that the source
    lacks is computed, for which its bytes are read and written.

    Raises NoSuchBucket, NoSuchObject, PreconditionFailed and what a put raises.
    """
    theirs, ours = await find_bucket(store.kv, source.bucket), await find_bucket(store.kv, target.bucket)
    asked = _Asked(target, headers, tags, acl, when, only, checksum)
    lacking = checksum and not _has_checksum(await find_object(store.kv, source, source_version), checksum)
    if lacking or (theirs.scheme, theirs.chunk_size, theirs.compress) != (ours.scheme, ours.chunk_size, ours.compress):
        return await _rewrite(store, source, source_version, asked)
    for _ in range(ATTEMPTS_MAX):
        manifest = await find_object(store.kv, source, source_version)
        check_source(manifest, only)
        result = await _reference(store, manifest, asked)
        if result is not None:
            return result
    raise Busy(f"{source.key!r} changes faster than it can be copied")


class _Asked(NamedTuple):
    """Where a copy goes, and what of it is not as in the source."""

    target: ObjectName
    headers: ObjectHeaders | None
    tags: dict[str, str] | None
    acl: str
    when: Conditions
    only: ReadConditions
    checksum: str


def _has_checksum(manifest: Manifest, algorithm: str) -> bool:
    details = manifest.details or EMPTY
    return algorithm in details.checksums and not details.composite


def check_source(manifest: Manifest, only: ReadConditions) -> None:
    """Raise PreconditionFailed if the conditions on the source of a copy do not hold."""
    try:
        check_read(only, manifest.etag, manifest.modified)
    except NotModified as error:
        raise PreconditionFailed(f"the source: {error}") from None


async def _rewrite(store: Store, source: ObjectName, version: int | None, asked: _Asked) -> PutResult:
    """Read and write at once."""
    async with open_source(store, source, version=version) as body:
        manifest = body.reading.manifest
        check_source(manifest, asked.only)
        wanted = (asked.checksum,) if asked.checksum and not _has_checksum(manifest, asked.checksum) else ()
        said, kept = _headers_of(manifest, asked), Digests(etag=manifest.etag, wanted=wanted)
        return await put_object(store, asked.target, body, headers=said, when=asked.when, digests=kept)


class _Gone(Exception):  # a signal inside this file, never an error
    """The chunks of the manifest were released in the meantime."""


async def _reference(store: Store, manifest: Manifest, asked: _Asked) -> PutResult | None:
    now, moment, due = store.now(), now_ms(store), due_ms(store)
    said = _headers_of(manifest, asked)

    def check(current: Manifest | None) -> None:
        check_write(asked.when, current.etag if current else None)

    def decide(tx: Transaction) -> PutResult:
        store.chunks.nodes.refuse_while_halted()
        # The references first: what was released meanwhile must not be named again.
        if not add_references(tx, manifest):
            raise _Gone
        draft = Manifest(
            asked.target,
            0,
            manifest.size,
            manifest.etag,
            now,
            said.content_type,
            said.user,
            manifest.chunk,
            manifest.extents,
            details=said.details,
        )
        written, replaced = put_version(tx, draft, check, moment, due)
        return PutResult(written, replaced is None)

    try:
        return await store.kv.transact(decide)
    except _Gone:
        return None


def _headers_of(source: Manifest, asked: _Asked) -> ObjectHeaders:
    """Return what the copy carries beside the bytes."""
    kept = source.details or EMPTY
    # What keeps one version (its id, retention, legal hold) is not of the copy.
    tags = kept.tags if asked.tags is None else asked.tags
    kept = Details(kept.fields, kept.checksums, kept.composite, tags, acl=asked.acl)
    if asked.headers is None:
        return ObjectHeaders(source.content_type, source.user, some(kept))
    chosen = asked.headers.details or EMPTY
    return replace(asked.headers, details=some(kept._replace(fields=chosen.fields)))
