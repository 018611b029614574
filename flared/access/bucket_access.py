"""Bucket access: what a bucket itself says about who may do what in it. Pure.

Its *owner* is the name of the access key that made it, empty for the cluster itself; who has that key may do everything
in it. It may have a *policy* (``policy``), which counts more than all else. What everybody may do is in two settings,
which mean the same on every face:

    public    every object may be read
    acl       as S3's canned ACLs of buckets: list its objects, or list, put and delete them; ``authenticated-read``
              is for holders of any access key
"""

from __future__ import annotations

from enum import Flag, StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from flared.access.policy import BucketPolicy


class Acl(StrEnum):
    """The canned ACLs of a bucket; a bucket's own ACL is never about reading its objects."""

    PRIVATE = "private"
    PUBLIC_READ = "public-read"
    PUBLIC_READ_WRITE = "public-read-write"
    AUTHENTICATED_READ = "authenticated-read"


PRIVATE, PUBLIC_READ, PUBLIC_READ_WRITE, AUTHENTICATED_READ = Acl


class Blocks(Flag):
    """What a bucket's public access block forbids, as S3 has it."""

    PUT_ACLS = 1
    """ACLs that let everybody in are refused."""
    ACLS = 2
    """What ACLs and ``public`` let everybody do does not count."""
    PUT_POLICY = 4
    """A policy that lets everybody in is refused."""
    POLICY = 8
    """A policy that lets everybody in lets in only holders of access keys."""


class BucketAccess(NamedTuple):
    """Of one bucket."""

    owner: str = ""
    public: bool = False
    acl: Acl = PRIVATE
    blocks: Blocks | None = None
    """None: it has no public access block."""
    policy: BucketPolicy | None = None

    def is_blocked(self, block: Blocks) -> bool:
        return self.blocks is not None and block in self.blocks

    def is_owned_by(self, name: str) -> bool:
        """Return whether the access key of this name owns it; the cluster itself has no name."""
        return bool(name) and self.owner == name

    def may_list(self, *, has_key: bool) -> bool:
        """Return whether everybody may, or everybody with an access key."""
        acl = self.acl
        return acl is PUBLIC_READ or acl is PUBLIC_READ_WRITE or (has_key and acl is AUTHENTICATED_READ)

    @property
    def may_write(self) -> bool:
        return self.acl is PUBLIC_READ_WRITE


CLOSED = BucketAccess()
"""Nothing is allowed by the bucket itself; so it is for one that does not exist."""
