"""Grants: what an access key may do, and where. Pure.

    grant   = permission ":" scope | "admin"
    scope   = bucket ["/" prefix]
    bucket  = "*" | name | beginning of names "*"

``read``, ``write``, ``list`` and ``delete`` are about the objects of a bucket whose keys begin with the prefix.
``create`` is about buckets to be made, and takes no prefix. ``admin`` is about everything, and takes no scope.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from flared.errors import BadRequest
from flared.names import KEY_BYTES_MAX, parse_bucket

if TYPE_CHECKING:
    from collections.abc import Iterable

GRANTS_MAX = 64
"""Of one key: they are read one after the other at each call."""

_BEGINNING = re.compile(r"[a-z0-9][a-z0-9.-]{0,61}")


class Permission(StrEnum):
    """The kinds of grants."""

    READ = "read"
    WRITE = "write"
    LIST = "list"
    DELETE = "delete"
    CREATE = "create"
    """Make buckets. The key that makes a bucket owns it, and may do everything in it."""
    ADMIN = "admin"
    """Everything that the cluster's secret may do at an api node, except what would give the secret away."""


OF_OBJECTS = frozenset({Permission.READ, Permission.WRITE, Permission.LIST, Permission.DELETE})


class Grant(NamedTuple):
    """One permission in one scope."""

    permission: Permission
    bucket: str = ""
    """``*``, the name of a bucket, or the beginning of names with ``*`` behind it; of ADMIN empty."""
    prefix: str = ""

    def __str__(self) -> str:
        if self.permission is Permission.ADMIN:
            return self.permission
        return f"{self.permission}:{self.bucket}/{self.prefix}" if self.prefix else f"{self.permission}:{self.bucket}"

    def touches(self, bucket: str) -> bool:
        """Return whether it is about this bucket, or about some part of it."""
        pattern = self.bucket
        return pattern == bucket or (pattern.endswith("*") and bucket.startswith(pattern[:-1]))

    def covers(self, permission: Permission, bucket: str, key: str) -> bool:
        """Return whether it allows this for all keys of the bucket that begin with ``key``."""
        return self.permission is permission and key.startswith(self.prefix) and self.touches(bucket)


def parse_grant(text: str) -> Grant:
    """Return the grant in a text of the form above. Raises BadRequest."""
    word, colon, scope = text.partition(":")
    if word not in tuple(Permission):
        raise BadRequest(f"{word[:80]!r} is not a permission; use one of {', '.join(Permission)}")
    permission = Permission(word)
    if permission is Permission.ADMIN:
        if colon:
            raise BadRequest("admin is about the whole cluster: write it without a bucket")
        return Grant(permission)
    return parse_scope(permission, scope)


def parse_scope(permission: Permission, scope: str) -> Grant:
    """Return the grant of ``permission`` in ``BUCKET[/PREFIX]``. Raises BadRequest and BadName."""
    bucket, slash, prefix = scope.partition("/")
    if bucket.endswith("*"):
        if bucket != "*" and not _BEGINNING.fullmatch(bucket[:-1]):
            raise BadRequest(f"{bucket[:80]!r} is not the beginning of bucket names: write '*' or, say, 'logs-*'")
    else:
        parse_bucket(bucket)
    if slash and permission is Permission.CREATE:
        raise BadRequest(f"{scope[:80]!r}: buckets are created as a whole: leave '/' and what follows it out")
    if len(prefix.encode("utf-8", "surrogatepass")) > KEY_BYTES_MAX or not _is_text(prefix):
        raise BadRequest(f"the prefix of a grant is UTF-8 of at most {KEY_BYTES_MAX} bytes, without NUL")
    if prefix.endswith("*"):
        raise BadRequest(f"{scope[:80]!r}: a prefix is the beginning of keys already: leave the '*' at its end out")
    return Grant(permission, bucket, prefix)


def parse_grants(texts: Iterable[str]) -> tuple[Grant, ...]:
    """Return the grants, each once. Raises BadRequest and BadName."""
    grants = tuple(dict.fromkeys(map(parse_grant, texts)))
    if len(grants) > GRANTS_MAX:
        raise BadRequest(f"these are {len(grants)} grants; a key has at most {GRANTS_MAX}")
    return grants


def allows(grants: Iterable[Grant], permission: Permission, bucket: str, key: str = "") -> bool:
    """Return whether one of the grants allows this for all keys of the bucket that begin with ``key``."""
    for grant in grants:  # noqa: SIM110  # a third of the time of any(): every signed call comes by here
        if grant.permission is permission and grant.covers(permission, bucket, key):
            return True
    return False


def _is_text(prefix: str) -> bool:
    return "\0" not in prefix and not any("\ud800" <= letter <= "\udfff" for letter in prefix)
