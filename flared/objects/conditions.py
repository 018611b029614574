"""Conditions of a request as values: decide whether they hold (RFC 9110, section 13).

Entity tags are compared without their quotes; ``*`` stands for any object that is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from flared.errors import NotModified, PreconditionFailed

ANY = "*"
MATCH, NONE_MATCH, UNMODIFIED = "If-Match", "If-None-Match", "If-Unmodified-Since"


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a write, at the moment it commits."""

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None

    @property
    def empty(self) -> bool:
        return self.if_match is None and self.if_none_match is None


UNCONDITIONAL = Conditions()


@dataclass(frozen=True, slots=True)
class ReadConditions:
    """The conditions of a read. Times are seconds since the epoch, whole as HTTP dates are."""

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None
    if_modified_since: int | None = None
    if_unmodified_since: int | None = None


ALWAYS = ReadConditions()


def check_write(when: Conditions, etag: str | None) -> None:
    """Raise PreconditionFailed unless ``when`` holds for an object with this tag (None: not there)."""
    if when.if_match is not None and not _matches(when.if_match, etag):
        raise PreconditionFailed("the object is not the one named by If-Match", condition=MATCH, absent=etag is None)
    if when.if_none_match is not None and _matches(when.if_none_match, etag):
        raise PreconditionFailed("an object named by If-None-Match is there already", condition=NONE_MATCH)


def check_read(when: ReadConditions, etag: str, modified: float) -> None:
    """Raise PreconditionFailed or NotModified unless the object is to be sent; in the order of RFC 9110, 13.2.2."""
    if when.if_match is not None:
        if not _matches(when.if_match, etag):
            raise PreconditionFailed("the object is not the one named by If-Match", condition=MATCH)
    elif when.if_unmodified_since is not None and int(modified) > when.if_unmodified_since:
        raise PreconditionFailed("the object was modified after If-Unmodified-Since", condition=UNMODIFIED)
    if when.if_none_match is not None:
        if _matches(when.if_none_match, etag):
            raise NotModified("the object is the one named by If-None-Match")
    elif when.if_modified_since is not None and int(modified) <= when.if_modified_since:
        raise NotModified("the object was not modified after If-Modified-Since")


def _matches(tags: tuple[str, ...], etag: str | None) -> bool:
    return etag is not None and (etag in tags or ANY in tags)
