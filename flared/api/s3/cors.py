"""CORS: the rules of a bucket, the answers to browsers that ask, and the fields that every reply to a page gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.cors import METHODS, RULES_MAX, CorsGrant, CorsRule, decode_rules, encode_rules, find_rule
from flared.api.face import on_bucket
from flared.api.s3.answers import send, send_xml
from flared.api.s3.errors import S3Error
from flared.api.s3.operations import PREFLIGHT
from flared.api.s3.xml import MalformedXml, document, element, group, parse_xml
from flared.catalog.bucket_documents import DOCUMENT_BYTES_MAX, Kind
from flared.errors import FlareError
from flared.http.messages import encode_fields
from flared.http.percent import decode
from flared.names import parse_bucket
from flared.objects.bucket_documents import find_document, put_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.api.face import Handler
    from flared.api.router import Route
    from flared.api.s3.xml import Element
    from flared.http.messages import Reply, Request
    from flared.names import BucketName
    from flared.objects.store import Store

ORIGIN = "origin"
ASKED_METHOD = "access-control-request-method"
ASKED_HEADERS = "access-control-request-headers"

VALUE_BYTES_MAX = 255
ID_BYTES_MAX = 255


def cors_handlers(store: Store) -> dict[str, Handler]:
    calls = CorsCalls(store)
    return {
        "GetBucketCors": on_bucket(calls.get),
        "PutBucketCors": on_bucket(calls.put),
        "DeleteBucketCors": on_bucket(calls.delete),
        PREFLIGHT.name: on_bucket(calls.preflight),
    }


class CorsCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        rules = find_rules(self._store, bucket)
        if not rules:
            raise S3Error("NoSuchCORSConfiguration", "The CORS configuration does not exist")
        await send_xml(reply, document("CORSConfiguration", map(_format_rule, rules)))

    async def put(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        rules = parse_rules(await request.body.read_all(DOCUMENT_BYTES_MAX))
        await put_document(self._store, bucket, Kind.CORS, encode_rules(rules))
        await send(reply, 200)

    async def delete(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        await put_document(self._store, bucket, Kind.CORS, None)
        await send(reply, 204)

    async def preflight(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        if ORIGIN not in request.fields or ASKED_METHOD not in request.fields:
            raise S3Error("BadRequest", "Insufficient information: Origin and Access-Control-Request-Method needed.")
        if not reply.extra:
            raise S3Error("AccessForbidden", "CORSResponse: This CORS request is not allowed.")
        await send(reply, 200)


class CorsLines:
    """Finds the field lines that a reply to a web page gets: what the bucket's rules grant to its origin."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, request: Request, route: Route) -> bytes:
        fields = request.fields
        origin = fields.get(ORIGIN)
        if origin is None or not route.raw_bucket:
            return b""
        try:
            rules = find_rules(self._store, parse_bucket(decode(route.raw_bucket)))
        except FlareError:
            return b""  # the call itself meets it, too, and answers
        grant = find_rule(rules, origin, fields.get(ASKED_METHOD, request.method), _asked_headers(fields))
        return b"" if grant is None else _format_grant(grant)


def find_rules(store: Store, bucket: BucketName) -> tuple[CorsRule, ...]:
    """Return the rules of a bucket. Raises NoSuchBucket, and ManifestCorrupt."""
    found = find_document(store, bucket, Kind.CORS)
    return () if found is None else decode_rules(found)


def parse_rules(body: bytes) -> list[CorsRule]:
    """Return the rules of a CORSConfiguration. Raises MalformedXml and S3Error."""
    root = parse_xml(body, "CORSConfiguration")
    rules = [_parse_rule(rule) for rule in root.find_all("CORSRule")]
    if not rules or len(rules) > RULES_MAX or len(rules) != len(root.children):
        raise MalformedXml(f"a CORSConfiguration holds 1 to {RULES_MAX} CORSRule, and nothing else")
    return rules


def _parse_rule(rule: Element) -> CorsRule:
    origins, methods = _texts(rule, "AllowedOrigin"), _texts(rule, "AllowedMethod")
    headers, exposed = _texts(rule, "AllowedHeader"), _texts(rule, "ExposeHeader")
    if not origins or not methods:
        raise MalformedXml("a CORSRule needs an AllowedOrigin and an AllowedMethod")
    for method in methods:
        if method not in METHODS:
            raise S3Error(
                "InvalidRequest", f"Found unsupported HTTP method in CORS config. Unsupported method is {method[:80]}"
            )
    for pattern in (*origins, *headers):
        if pattern.count("*") > 1:
            raise S3Error("InvalidRequest", f"{pattern[:80]!r} can not have more than one wildcard.")
    if any("*" in name for name in exposed):
        raise S3Error("InvalidRequest", "ExposeHeader contains wildcard. We currently do not support wildcard for it.")
    age = rule.text_of("MaxAgeSeconds")
    if age and not (age.isascii() and age.isdigit() and len(age) <= 10):
        raise MalformedXml("MaxAgeSeconds is a number of seconds")
    identity = rule.text_of("ID")
    if len(identity.encode()) > ID_BYTES_MAX:
        raise S3Error("InvalidRequest", f"the ID of a CORSRule has at most {ID_BYTES_MAX} bytes")
    return CorsRule(origins, methods, headers, exposed, int(age) if age else None, identity)


def _texts(rule: Element, name: str) -> tuple[str, ...]:
    """Return the texts of these children. They stand in field lines later, so they are printable ASCII."""
    found = tuple(child.text for child in rule.find_all(name))
    for text in found:
        if not text or len(text) > VALUE_BYTES_MAX or not text.isascii() or not text.isprintable():
            raise MalformedXml(f"{name} has 1 to {VALUE_BYTES_MAX} printable characters of ASCII")
    return found


def _format_rule(rule: CorsRule) -> str:
    inside = [element("ID", rule.id)] if rule.id else []
    inside += [element("AllowedOrigin", text) for text in rule.origins]
    inside += [element("AllowedMethod", text) for text in rule.methods]
    inside += [element("AllowedHeader", text) for text in rule.headers]
    inside += [element("ExposeHeader", text) for text in rule.exposed]
    if rule.max_age_seconds is not None:
        inside.append(element("MaxAgeSeconds", rule.max_age_seconds))
    return group("CORSRule", inside)


def _asked_headers(fields: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in fields.get(ASKED_HEADERS, "").split(",") if name.strip()]


def _format_grant(grant: CorsGrant) -> bytes:
    return encode_fields(grant.fields())
