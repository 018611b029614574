"""The failures of flarectl. Each class carries its exit code; the man page and --help list the same codes.

Foreign errors become a Failure here: a reply of the server, a FlareError, an OSError.
"""

from __future__ import annotations

import errno
import os
import re
from enum import IntEnum
from typing import ClassVar

from flared import errors
from flared.errors import FlareError
from flared.http.error_body import parse_error

MESSAGE_CHARS_MAX = 500
"""Longest message shown; the answer of a server that is not Flare's may be long, and its beginning is enough."""


class ExitCode(IntEnum):
    """Exit codes: rclone's, where it has one for the case."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_BUCKET = 3
    NOT_FOUND = 4
    TEMPORARY = 5
    REFUSED = 6
    DAMAGED = 7
    NOTHING_DONE = 9
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "several things failed for different reasons, or an unexpected error",
    ExitCode.USAGE: "the command line or the configuration is wrong",
    ExitCode.NO_BUCKET: "no such bucket, or no such local directory",
    ExitCode.NOT_FOUND: "no such object or access key, or no such local file",
    ExitCode.TEMPORARY: "the cluster cannot be reached or cannot serve this now: try again",
    ExitCode.REFUSED: "refused by the cluster or this machine: trying again will not help",
    ExitCode.DAMAGED: "bytes are not what was stored or sent: data is at risk",
    ExitCode.NOTHING_DONE: "nothing was transferred, because everything exists already (--if-not-exists)",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C or SIGTERM",
    ExitCode.OUTPUT_CLOSED: "the reader of standard output went away",
}


class Failure(Exception):
    """The command failed; the message is one sentence for a person."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(
        self, message: str, *, code: str = "", request_id: str = "", hints: tuple[str, ...] | list[str] = ()
    ) -> None:
        super().__init__(message)
        self.code = code or type(self).__name__
        self.request_id = request_id
        self.hints = tuple(hints)
        """Commands to type next, one line each."""

    def sentence(self) -> str:
        return f"{self} (request {self.request_id})" if self.request_id else str(self)


class Usage(Failure):
    """The command line or the configuration is wrong."""

    exit_code = ExitCode.USAGE


class NoBucket(Failure):
    """The bucket or local directory does not exist."""

    exit_code = ExitCode.NO_BUCKET


class NotFound(Failure):
    """The object, access key or local file does not exist."""

    exit_code = ExitCode.NOT_FOUND


class Temporary(Failure):
    """It may work later. ``retry_after`` is the time that the server asked for, in seconds."""

    exit_code = ExitCode.TEMPORARY
    retry_after = 0.0


class Unreachable(Temporary):
    """The endpoint does not accept connections."""


class Refusal(Failure):
    """The cluster or this machine refused it."""

    exit_code = ExitCode.REFUSED


class Exists(Refusal):
    """A condition of the request does not hold: the object exists already, or it has changed."""


class Existing(Failure):
    """Skipped, because it exists already and may not be replaced. The message is its name. Not a failure."""

    exit_code = ExitCode.NOTHING_DONE


class Damage(Failure):
    """Bytes are not what was stored or sent."""

    exit_code = ExitCode.DAMAGED


class OutputClosed(Failure):
    """The reader of standard output went away."""

    exit_code = ExitCode.OUTPUT_CLOSED


class Interrupted(Failure):
    """Ctrl-C or SIGTERM."""

    exit_code = ExitCode.INTERRUPTED


_CLASSES: tuple[tuple[type[FlareError], type[Failure]], ...] = (
    (errors.NoSuchBucket, NoBucket),
    (errors.NoSuchObject, NotFound),
    (errors.NoSuchKey, NotFound),
    (errors.IsDeleteMarker, NotFound),
    (errors.PreconditionFailed, Exists),
    (errors.Refused, Refusal),
    (errors.Unavailable, Temporary),
    (errors.Damaged, Damage),
    (errors.ConnectionLost, Temporary),
    (errors.BodyTruncated, Temporary),
    (errors.ConfigError, Usage),
)

_STATUSES = {412: Exists, 408: Temporary, 429: Temporary}
_MISSING = (NoBucket, NotFound)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_MISSING_BUCKET = re.compile(r"there is no bucket ([a-z0-9.-]+)")
_HINTS = {
    "ClockSkewed": ("timedatectl says whether this machine keeps its time; perhaps it is the api host that does not",),
    "BadSignature": ("flarectl config show says which key is used; has it ended? An admin sees that: flarectl key ls",),
    "NoSuchBucket": ("flarectl bucket ls lists the buckets; flarectl bucket create NAME creates one",),
    "VolumeFull": ("flarectl node ls shows how full the nodes are; add a disk or a node, or remove objects",),
    "MetadataFull": ("the disk of the api node's metadata is full: make room there, or remove objects",),
    "NoPlacement": ("flarectl status says which nodes are away or full",),
    "ENOSPC": ("make room there; then the same command with --if-not-exists goes on",),
    "EDQUOT": ("make room there; then the same command with --if-not-exists goes on",),
}


def from_flare(error: FlareError, *, request_id: str = "") -> Failure:
    """Return the Failure for an error of Flare's own tree."""
    return _class_of(type(error))(str(error), code=error.code, request_id=request_id)


def from_reply(endpoint: str, status: int, body: bytes, *, retry_after: str = "") -> Failure:
    """Return the Failure for a reply: by its code if it is one of Flare's, else by its status."""
    code, message, request_id = parse_error(body)
    known = getattr(errors, code, None)
    if isinstance(known, type) and issubclass(known, FlareError):
        kind = _class_of(known)
    else:
        kind = _STATUSES.get(status, Temporary if status >= 500 else Refusal)
    if status == 404 and kind not in _MISSING:
        # Any web server answers 404 for a path that it does not know: that does not show that an object is missing.
        kind, message = Refusal, f"{endpoint} is not an api node of Flare; is the endpoint right?"
    message = message[:MESSAGE_CHARS_MAX] or f"{endpoint} answered with HTTP status {status}, not as Flare would"
    failure = kind(message, code=code, request_id=request_id, hints=_hints(code, message))
    if isinstance(failure, Temporary) and retry_after.isascii() and retry_after.isdigit():
        failure.retry_after = float(retry_after)
    return failure


def _hints(code: str, message: str) -> tuple[str, ...]:
    """Return the commands to type after an error of the server."""
    if code == "NoSuchBucket" and (found := _MISSING_BUCKET.search(message)):
        return (f"flarectl bucket ls lists the buckets; flarectl bucket create {found[1]} creates this one",)
    return _HINTS.get(code, ())


def from_os(error: OSError, path: str) -> Failure:
    """Return the Failure for an operating system error about ``path``."""
    reason = (os.strerror(error.errno) if error.errno else str(error) or type(error).__name__).lower()
    kind: type[Failure] = Refusal
    if isinstance(error, FileNotFoundError):
        kind = NotFound
    elif error.errno in (errno.EIO, errno.EUCLEAN):
        kind = Damage
    code = errno.errorcode.get(error.errno or 0, "") if error.errno in _NO_ROOM else ""
    return kind(f"{path}: {reason}", code=code, hints=_HINTS.get(code, ()))


def _class_of(kind: type[FlareError]) -> type[Failure]:
    return next((ours for theirs, ours in _CLASSES if issubclass(kind, theirs)), Failure)
