"""The calls on objects, as docs/http-api.md has them, each with all its cases. Each parses, calls one verb, answers."""

from __future__ import annotations

import json
from collections.abc import Mapping

from flared.access.authorize import Action
from flared.api.callers import authorize_also
from flared.api.fields import range_request, read_conditions
from flared.api.forms import FormFile, parse_boundary
from flared.api.native.answers import parse_number, send_json
from flared.api.native.headers import (
    check_content_type,
    manifest_head,
    object_headers,
    promised_digests,
    write_conditions,
)
from flared.api.native.routes import BUCKET, OBJECT
from flared.api.sending import send_reading
from flared.api.signed import once_of
from flared.api.signed_body import body_to_put
from flared.catalog.manifest import Manifest
from flared.catalog.objects import Deletion
from flared.catalog.once import claim
from flared.chunks.codec import CODEC_NAMES
from flared.errors import BadRequest, NotModified
from flared.http.messages import Reply, Request
from flared.http.percent import decode, encode_key, parse_query
from flared.log import format_time
from flared.names import BucketName, ObjectName, chunk_digest, parse_bucket, parse_key
from flared.objects.commit import ObjectHeaders, PutResult
from flared.objects.conditions import ALWAYS, ReadConditions, check_read
from flared.objects.copy import copy_object
from flared.objects.delete import delete_object, delete_version
from flared.objects.get import find_object, open_object
from flared.objects.listing import list_chunks
from flared.objects.put import put_object
from flared.objects.store import Store

CHUNK_LIMIT_MAX = 1000
VERSION_MAX = 10**15 - 2
"""What the keys of the metadata have room for."""
COPY_SOURCE = "x-flare-copy-source"


class ObjectCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, request: Request, reply: Reply, name: ObjectName) -> None:
        query = parse_query(request.query, "version", "chunks", "after", "limit")
        if query and query.keys() != {"version"}:
            return await self._get_chunks(request, reply, name, query)
        version, when = parse_version(query), read_conditions(request.fields)
        if when is not ALWAYS and await self._is_known(reply, name, when, version):
            return None
        wanted = range_request(request.fields)
        async with open_object(self._store, name, when=when, range=wanted, version=version) as reading:
            head = manifest_head(reading.manifest)
            if wanted is None or not wanted.applies(reading.manifest.etag, reading.manifest.modified):
                await reply.start(200, head, reading.length)
            else:
                end = reading.start + reading.length - 1
                head += b"content-range: bytes %d-%d/%d\r\n" % (reading.start, end, reading.manifest.size)
                await reply.start(206, head, reading.length)
            await send_reading(reply, reading)
        return None

    async def head(self, request: Request, reply: Reply, name: ObjectName) -> None:
        version = parse_version(parse_query(request.query, "version"))
        when = read_conditions(request.fields)
        manifest = await find_object(self._store, name, version=version)
        try:
            check_read(when, manifest.etag, manifest.modified)
        except NotModified:
            return await reply.send(304, manifest_head(manifest))
        return await reply.start(200, manifest_head(manifest), manifest.size)

    async def put(self, request: Request, reply: Reply, name: ObjectName) -> None:
        parse_query(request.query)
        fields = request.fields
        if COPY_SOURCE in fields:
            return await self._copy(request, reply, name)
        if "content-range" in fields:
            raise BadRequest("an object is put as a whole: Content-Range is not possible")
        body, digests = body_to_put(request, promised_digests(fields))
        result = await put_object(
            self._store,
            name,
            body,
            headers=object_headers(fields),
            when=write_conditions(fields),
            digests=digests,
            once=once_of(request),
        )
        return await _answer_put(reply, result)

    async def post(self, request: Request, reply: Reply, name: ObjectName) -> None:
        """A form with one file: its bytes become the object; its file name is ignored."""
        await self._put_form(request, reply, name.bucket, name)

    async def post_form(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        """A form with one file: its file name becomes the key."""
        await self._put_form(request, reply, bucket, None)

    async def delete(self, request: Request, reply: Reply, name: ObjectName) -> None:
        version = parse_version(parse_query(request.query, "version"))
        when, once = write_conditions(request.fields), once_of(request)
        if version is None:
            done = await delete_object(self._store, name, when, once=once)
        else:
            done = await delete_version(self._store, name, version, when, once=once)
        await reply.send(204, deletion_head(done))

    async def _put_form(self, request: Request, reply: Reply, bucket: BucketName, name: ObjectName | None) -> None:
        parse_query(request.query)
        fields = request.fields
        form = FormFile(request.body, parse_boundary(fields.get("content-type", "")))
        when, digests, user = write_conditions(fields), promised_digests(fields), object_headers(fields).user
        part = await form.open()
        if name is None:
            name = ObjectName(bucket, parse_key(part.filename or ""))
            authorize_also(request, Action.WRITE, name)  # the bucket as a whole was asked for before
        result = await put_object(
            self._store,
            name,
            form,
            headers=ObjectHeaders(check_content_type(part.content_type), user),
            when=when,
            digests=digests,
            once=once_of(request),
        )
        # The client may not know the key, which was a file's name.
        await _answer_put(reply, result, name)

    async def _copy(self, request: Request, reply: Reply, target: ObjectName) -> None:
        if request.body.length != 0:
            raise BadRequest(f"a PUT with {COPY_SOURCE} has no body")
        source = parse_copy_source(request.fields[COPY_SOURCE])
        authorize_also(request, Action.READ, source)
        # What the request says of the copy replaces all that the source says.
        said = object_headers(request.fields)
        headers = said if said.user or said.details or "content-type" in request.fields else None
        when = write_conditions(request.fields)
        if (once := once_of(request)) is not None:
            await claim(self._store.kv, once)
        result = await copy_object(self._store, source, target, headers=headers, when=when)
        await _answer_put(reply, result)

    async def _get_chunks(self, request: Request, reply: Reply, name: ObjectName, query: Mapping[str, str]) -> None:
        if query.get("chunks") != "":
            raise BadRequest("an object can be asked for its ?chunks, with &after= and &limit=, and for a ?version=")
        after = parse_number(query, "after", 0, 0, 1 << 62)
        limit = parse_number(query, "limit", CHUNK_LIMIT_MAX, 1, CHUNK_LIMIT_MAX)
        page = await list_chunks(self._store, name, first=after, limit=limit, version=parse_version(query))
        manifest = page.manifest
        check_read(read_conditions(request.fields), manifest.etag, manifest.modified)
        chunks = [
            {
                "digest": chunk_digest(chunk.id).hex(),
                "size": chunk.size,
                "id": chunk.id,
                "codec": CODEC_NAMES.get(chunk.codec, str(chunk.codec)),
                "scheme": chunk.scheme,
                "nodes": list(chunk.nodes),
                "missing": list(chunk.missing),
            }
            for chunk in page.chunks
        ]
        answer = describe(name, manifest) | {"first": page.first, "chunks": chunks, "next": page.next}
        await send_json(reply, 200, answer)

    async def _is_known(self, reply: Reply, name: ObjectName, when: ReadConditions, version: int | None) -> bool:
        """Answer 304 if the client has the object already.

        Asked of the manifest that the answer's ETag comes from: with another one, the client would take what it
        has for what it has not.
        """
        manifest = await find_object(self._store, name, version=version)
        try:
            check_read(when, manifest.etag, manifest.modified)
        except NotModified:
            await reply.send(304, manifest_head(manifest))
            return True
        return False


def parse_version(query: Mapping[str, str]) -> int | None:
    """Return the number of the version that a query names. Raises BadRequest."""
    return parse_number(query, "version", 0, 1, VERSION_MAX) or None


def deletion_head(done: Deletion) -> bytes:
    """Return the field lines about the delete marker that a delete made, or deleted."""
    if done.marker is None:
        return b""
    return b"x-flare-delete-marker: true\r\nx-flare-version: %d\r\n" % done.marker.version


def describe(name: ObjectName, manifest: Manifest) -> dict[str, object]:
    """Return what is known of an object, for JSON."""
    return {
        "bucket": name.bucket,
        "key": name.key,
        "version": manifest.version,
        "size": manifest.size,
        "etag": manifest.etag,
        "modified": format_time(manifest.modified),
        "content_type": manifest.content_type,
        "user": manifest.user,
    }


def parse_copy_source(path: str) -> ObjectName:
    """``/bucket/{bucket}/object/{key}``, percent-encoded as in a request; raises BadRequest or BadName."""
    head, middle, raw_key = path.partition(OBJECT)
    if not middle or not head.startswith(BUCKET):
        raise BadRequest(f"{COPY_SOURCE} is a path as in a request: /bucket/BUCKET/object/KEY")
    return ObjectName(parse_bucket(decode(head.removeprefix(BUCKET))), parse_key(decode(raw_key)))


async def _answer_put(reply: Reply, result: PutResult, named: ObjectName | None = None) -> None:
    await reply.send(*put_reply(result, named))


def put_reply(result: PutResult, named: ObjectName | None = None) -> tuple[int, bytes, bytes]:
    """Status, field lines and body; ``named`` if the client may not know what its object is called."""
    manifest = result.manifest
    etag, version = manifest.etag, manifest.version
    head = f'content-type: application/json\r\netag: "{etag}"\r\nx-flare-version: {version}\r\n'
    body = f'"etag":"{etag}","size":{manifest.size},"version":{version}}}\n'
    if named is not None:
        head += f"location: {BUCKET}{named.bucket}{OBJECT}{encode_key(named.key)}\r\n"
        body = f'"bucket":{json.dumps(named.bucket)},"key":{json.dumps(named.key, ensure_ascii=False)},{body}'
    return 201 if result.created else 200, head.encode(), f"{{{body}".encode()
