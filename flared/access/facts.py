"""Facts: what the conditions of a bucket policy may ask about a request. Pure; found only when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flared.access.bucket_access import AUTHENTICATED_READ, PRIVATE, PUBLIC_READ, PUBLIC_READ_WRITE, Acl
from flared.access.conditions import (
    EXISTING_TAG,
    HEAD_KEYS,
    PRINCIPAL_NAME,
    QUERY_KEYS,
    REQUEST_TAG,
    SECURE,
    SOURCE_IP,
    UnknownValue,
)
from flared.errors import BadRequest
from flared.http.percent import decode
from flared.names import ObjectName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VERSIONS = frozenset({"versionId", "version"})
"""Names of a query that name a version of the object: S3's, and the native face's."""
TAGGING = "x-amz-tagging"
COPY_SOURCE = "s3:x-amz-copy-source"

_NONE: Mapping[str, str] = {}


class ObjectAccess(NamedTuple):
    """What an object itself says about access."""

    acl: Acl = PRIVATE
    tags: Mapping[str, str] = _NONE

    def may_read(self, *, has_key: bool) -> bool:
        """Return whether everybody may, or everybody with an access key."""
        acl = self.acl
        return acl is PUBLIC_READ or acl is PUBLIC_READ_WRITE or (has_key and acl is AUTHENTICATED_READ)


NO_OBJECT = ObjectAccess()
"""Of one that does not exist."""

if TYPE_CHECKING:
    FindObject = Callable[[ObjectName], ObjectAccess]


def no_object(_: ObjectName) -> ObjectAccess:
    """Where objects cannot be looked up."""
    raise UnknownValue


class RequestFacts:
    """Of one request. ``query`` is as it was sent; of ``fields`` the names are in lower case."""

    __slots__ = ("_fields", "_find_object", "_name", "_peer", "_query", "_resource", "_secure")

    def __init__(
        self,
        name: str,
        resource: ObjectName | str,
        peer: str,
        fields: Mapping[str, str],
        query: str,
        *,
        secure: bool,
        find_object: FindObject,
    ) -> None:
        """``name`` is that of the caller's access key, empty without one."""
        self._name = name
        self._resource = resource
        self._peer = peer
        self._fields = fields
        self._query = query
        self._secure = secure
        self._find_object = find_object

    def value(self, key: str) -> str | None:
        """As ``conditions.Facts`` has it."""
        if key == SOURCE_IP:
            return self._peer.rpartition(":")[0].strip("[]").partition("%")[0]
        if key == SECURE:
            return "true" if self._secure else "false"
        if key == PRINCIPAL_NAME:
            return self._name or None
        if key in QUERY_KEYS:
            return parse_values(self._query).get(QUERY_KEYS[key])
        if key in HEAD_KEYS:
            found = self._fields.get(HEAD_KEYS[key])
            return _decode(found.lstrip("/")) if key == COPY_SOURCE and found is not None else found
        if key.startswith(REQUEST_TAG):
            return parse_values(self._fields.get(TAGGING, "")).get(key.removeprefix(REQUEST_TAG))
        if key.startswith(EXISTING_TAG):
            return self._tags().get(key.removeprefix(EXISTING_TAG))
        raise UnknownValue

    def _tags(self) -> Mapping[str, str]:
        if not isinstance(self._resource, ObjectName) or names_version(self._query):
            raise UnknownValue  # an older version may have other tags
        return self._find_object(self._resource).tags


def names_version(query: str) -> bool:
    """Return whether a query names a version of the object, or may be read so."""
    if not query:
        return False
    try:
        return not VERSIONS.isdisjoint(parse_values(query))
    except UnknownValue:
        return True


def parse_values(query: str) -> dict[str, str]:
    """Return names and values, decoded; ``+`` is a space. Raises UnknownValue if two programs might differ on them."""
    values: dict[str, str] = {}
    for part in query.split("&") if query else ():
        raw_name, _, value = part.replace("+", "%20").partition("=")
        name = _decode(raw_name)
        if name in values:
            raise UnknownValue
        values[name] = _decode(value)
    return values


def _decode(text: str) -> str:
    try:
        return decode(text)
    except (BadRequest, UnicodeEncodeError):
        raise UnknownValue from None
