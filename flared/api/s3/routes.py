"""Routes: from a request to the operation that it asks for, or to why there is none. Pure.

The bucket stands in the path (path-style), or before ``[s3] domain`` in the Host field (virtual-hosted). Then method,
names in the query and one field of the head tell the operation (``operations.py``). Names of the query that S3 does
not know are ignored by reads, as S3 does; a write with one is refused, because it might do something else than meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.api.router import Refusal, Route, unknown_action
from flared.api.s3.errors import NOT_IMPLEMENTED, S3Error
from flared.api.s3.operations import CALLS, COPY_SOURCE, OPERATIONS, PREFLIGHT, On, Operation
from flared.api.s3.query import parse_query
from flared.errors import BadMethod, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.http.exchange import Exchange
    from flared.http.messages import Request

STREAMING = "STREAMING-"
"""A body in chunks of their own (aws-chunked) is of unknown form until it is read."""

PARAMETERS = frozenset(
    {
        "versionid", "prefix", "delimiter", "marker", "max-keys", "encoding-type", "start-after", "continuation-token",
        "fetch-owner", "list-type", "key-marker", "version-id-marker", "upload-id-marker", "max-uploads",
        "part-number-marker", "max-parts", "max-buckets", "bucket-region", "optionalobjectattributes", "id",
        "response-content-type", "response-content-language", "response-expires", "response-cache-control",
        "response-content-disposition", "response-content-encoding", "partnumber", "uploadid", "select-type",
        "annotationname", "awsaccesskeyid", "signature", "expires",
    }
)  # fmt: skip
"""Names of a query, in lower case, that say more about an operation; besides all that begin with ``x-``."""


def _index() -> tuple[dict[tuple[On, str], list[Operation]], dict[On, frozenset[str]]]:
    by_place: dict[tuple[On, str], list[Operation]] = {}
    for operation in OPERATIONS:
        by_place.setdefault((operation.on, operation.method), []).append(operation)
    for rows in by_place.values():
        rows.sort(key=lambda row: -len(row.query) - bool(row.header))  # the one that asks for most comes first
    subresources = {
        place: frozenset(row.query[0].partition("=")[0] for row in OPERATIONS if row.on is place and row.query)
        for place in On
    }
    return by_place, subresources


_BY_PLACE, _SUBRESOURCES = _index()
_PLAIN = {
    place: next((row for row in rows if not row.query and not row.header), None) for place, rows in _BY_PLACE.items()
}


class S3Router:
    """The Finder of the S3 face."""

    def __init__(self, domain: str = "") -> None:
        """``domain``: buckets may stand before it in the Host field; empty for none."""
        self._ending = f".{domain.lower()}" if domain else ""

    def find_call(self, request: Request | Exchange) -> Route | Refusal:
        method, path, fields = request.method, request.path, request.fields
        bucket = bucket_of_host(fields.get("host", "").lower(), self._ending) if self._ending else ""
        if bucket:
            key = path[1:]
        else:
            bucket, _, key = path[1:].partition("/")
        if method == "OPTIONS" and bucket:
            return Route(PREFLIGHT, bucket, "")
        place = On.OBJECT if key else On.BUCKET if bucket else On.SERVICE
        try:
            operation = find_operation(method, place, request.query, fields)
            if operation.action is None:
                raise S3Error(NOT_IMPLEMENTED, f"{operation.name} is not implemented")
        except Refused as error:
            return Refusal(unknown_action(method, ()), error)
        return Route(CALLS[operation.name], bucket or None, key)

    def fits_turn(self, exchange: Exchange) -> bool:
        fields = exchange.fields
        return (
            not exchange.query
            and "origin" not in fields  # its reply gets lines by the rules of the bucket
            and not fields.get("x-amz-content-sha256", "").startswith(STREAMING)
        )


def bucket_of_host(host: str, ending: str) -> str:
    """Return the bucket that stands before ``ending`` in a Host field; empty if none does. Both in lower case."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    return name.removesuffix(ending) if name.endswith(ending) else ""


def find_operation(method: str, place: On, raw_query: str, fields: Mapping[str, str]) -> Operation:
    """Raises BadMethod, and S3Error for a query that means nothing, or two things."""
    if not raw_query and COPY_SOURCE not in fields:
        plain = _PLAIN.get((place, method))
        if plain is not None:
            return plain
    query = parse_query(raw_query)
    rows = _BY_PLACE.get((place, method), ())
    named = {name for name in query if name in _SUBRESOURCES[place]} - {"list-type"}
    if method in ("GET", "HEAD"):
        named -= {"partNumber"}  # says which bytes are read
    found = next((row for row in rows if _fits(row, query, fields)), None)
    used = {part.partition("=")[0] for part in found.query} if found is not None else set()
    if found is None or named - used:
        if found is not None and used & named:
            raise S3Error("InvalidArgument", f"the query names two things: {', '.join(sorted(named))[:200]}")
        raise _no_method(method, place)
    if method not in ("GET", "HEAD"):
        _check_names(query, used)
    return found


def _fits(row: Operation, query: Mapping[str, str], fields: Mapping[str, str]) -> bool:
    for part in row.query:
        name, equals, value = part.partition("=")
        if name not in query or (equals and query[name] != value):
            return False
    return not row.header or row.header in fields


def _check_names(query: Mapping[str, str], used: set[str]) -> None:
    for name in query:
        low = name.lower()
        if name not in used and low not in PARAMETERS and not low.startswith("x-"):
            raise S3Error(NOT_IMPLEMENTED, f"the query parameter {name[:80]!r} is not implemented")


def _no_method(method: str, place: On) -> BadMethod:
    allowed = tuple(dict.fromkeys(row.method for row in OPERATIONS if row.on is place))
    return BadMethod("the method is not allowed against this resource", allowed=allowed)
