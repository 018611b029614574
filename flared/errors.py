"""Every error Flare raises on purpose.

The tree answers three questions: whose fault, may one retry, is data at risk.

    FlareError
    ├─ Refused       the request cannot be right; do not retry
    │    BadName BadRange BadDigest BadRequest BadMethod TooLarge TooSmall NoSuchBucket NoSuchObject
    │    NoSuchPath NoSuchPiece NoSuchKey NoSuchUpload BadPart BadPartOrder PartTooSmall
    │    Conflict BucketNotEmpty DuplicateNode PreconditionFailed NotModified Unauthenticated Forbidden
    │    BadSignature ClockSkewed Replayed
    ├─ Unavailable   right, but not now; retry later
    │    QuorumNotReached PiecesUnreachable NodeUnreachable NoPlacement VolumeFull MetadataFull MetadataOlder
    │    SlowDown Busy TransactionConflict
    ├─ Damaged       bytes are not what was written; data is at risk
    │    PieceCorrupt SegmentCorrupt ChunkLost ManifestCorrupt RowCorrupt LogCorrupt
    │    VolumeFailed
    ├─ ProtocolError LocalProtocolError (we broke HTTP) RemoteProtocolError (they did)
    │                BodyTruncated (the peer promised more than it sent) ConnectionLost
    └─ ConfigError   every mistake of a file at once

``code`` is the stable word a client sees and may branch on; the message is one sentence for a person.
Foreign exceptions become one of these at the edge (disk, HTTP client, metadata engine) and never above.
No HTTP status is here: each face owns one table from error to answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class FlareError(Exception):
    """Something went wrong that Flare knows about."""

    data_at_risk: ClassVar[bool] = False

    @property
    def code(self) -> str:
        return type(self).__name__


class Refused(FlareError):
    """The request cannot be right; sending it again will not help."""


class BadName(Refused):
    """A bucket, key, node or piece name breaks its rules. ``of`` tells which, where an answer depends on it."""

    def __init__(self, message: str, *, of: str = "") -> None:
        super().__init__(message)
        self.of = of


class BadRange(Refused):
    """The range asked for does not touch the object. ``size`` is the object's size in bytes."""

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message)
        self.size = size


class BadDigest(Refused):
    """The body does not have the digest that came with it. ``algorithm`` is that of the digest, as ``sha256``."""

    def __init__(self, message: str, *, algorithm: str = "") -> None:
        super().__init__(message)
        self.algorithm = algorithm


class BadRequest(Refused):
    """The request breaks a rule that has no error of its own; the message names the rule."""


class TooLarge(Refused):
    """A body, header or list is larger than the limit named in the message."""


class TooSmall(Refused):
    """A body or a part of one is smaller than the limit named in the message."""


class NoSuchBucket(Refused):
    """The bucket does not exist."""


class NoSuchObject(Refused):
    """The object does not exist. ``delete_marker`` is the number of the version that says so, if one does; -1 for one
    without an id."""

    def __init__(self, message: str, *, delete_marker: int = 0) -> None:
        super().__init__(message)
        self.delete_marker = delete_marker


class NoSuchVersion(NoSuchObject):
    """The object has no version of this number."""


class IsDeleteMarker(Refused):
    """The version asked for is a delete marker: it has nothing to read. ``version`` is its number, -1 if it has no
    id."""

    def __init__(self, message: str, *, version: int) -> None:
        super().__init__(message)
        self.version = version


class NoLock(Refused):
    """The bucket does not let versions be locked."""


class BadTag(Refused):
    """A tag, or a set of tags, breaks a rule."""


class ObjectLocked(Refused):
    """The version is retained, or under legal hold, and must stay."""


class NoSuchKey(Refused):
    """There is no access key of this name."""


class NoSuchUpload(Refused):
    """The upload in parts does not exist: it was completed or aborted, or never begun."""


class BadPart(Refused):
    """A part that is to be in the object was not uploaded, or is not what was uploaded."""


class BadPartOrder(Refused):
    """The parts of an object are not listed in ascending order."""


class PartTooSmall(Refused):
    """A part that is not the last is smaller than parts may be."""


class NoSuchPiece(Refused):
    """Every volume of the node was asked, and none holds this piece."""


class Conflict(Refused):
    """The request contradicts what is there now."""


class BucketNotEmpty(Conflict):
    """The bucket still holds objects."""


class DuplicateNode(Conflict):
    """Another living process has the node's name, or one of its volumes."""


class PreconditionFailed(Refused):
    """An If-Match, If-None-Match or If-Unmodified-Since condition does not hold; ``condition`` names it.

    ``absent``: there is no object that a write's If-Match could be about.
    """

    def __init__(self, message: str, *, condition: str = "", absent: bool = False) -> None:
        super().__init__(message)
        self.condition = condition
        self.absent = absent


class NotModified(Refused):
    """A conditional read found nothing newer."""


class NoSuchPath(Refused):
    """No call of ours has this path."""


class BadMethod(Refused):
    """The path has calls, but none with this method. ``allowed`` are the methods it has."""

    def __init__(self, message: str, *, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class _AccessRefused(Refused):
    """The caller may not do this. ``lacking`` is the grant it would take, for the log; the caller does not see it."""

    def __init__(self, message: str, *, lacking: str = "") -> None:
        super().__init__(message)
        self.lacking = lacking


class Unauthenticated(_AccessRefused):
    """The request carries no credentials, or wrong ones."""


class Forbidden(_AccessRefused):
    """The credentials are right but do not allow this."""


class BadSignature(Unauthenticated):
    """The call is signed, but not with an access key that works now, or not as it arrived."""


class ClockSkewed(Unauthenticated):
    """The call was signed at another time than it arrived. ``ahead_seconds``: the caller's clock less ours."""

    def __init__(self, message: str, *, ahead_seconds: int) -> None:
        super().__init__(message)
        self.ahead_seconds = ahead_seconds


class Replayed(Forbidden):
    """A signed write came before; it is carried out only once."""


class Unavailable(FlareError):
    """The request is right but cannot be served now; retry later."""


class QuorumNotReached(Unavailable):
    """Too few nodes stored their pieces."""

    def __init__(self, *, wanted: int, got: int, failures: Sequence[str] = ()) -> None:
        reasons = "; ".join(failures) or "too few nodes are reachable"
        super().__init__(f"{got} of the {wanted} nodes needed could store the data: {reasons}")
        self.wanted = wanted
        self.got = got
        self.failures = tuple(failures)


class PiecesUnreachable(Unavailable):
    """Too few pieces of a chunk can be had now; nodes that do not answer may hold more."""


class NodeUnreachable(Unavailable):
    """A data node did not answer, or answered that it cannot serve now."""

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(f"node {node}: {reason}")
        self.node = node
        self.reason = reason


class NodeOutdated(Unavailable):
    """A data node runs a version that does not know this call. It is asked again after its upgrade."""


class NoPlacement(Unavailable):
    """The cluster has fewer usable nodes than the scheme needs."""


class VolumeFull(Unavailable):
    """No volume of the node has room for this; reads and deletes go on."""


class MetadataFull(Unavailable):
    """The api node's own disk has no room for new metadata; deletes still commit."""


class MetadataOlder(Unavailable):
    """Data nodes have seen newer metadata than this: nothing is written until that is put right, or accepted."""

    data_at_risk = True


class SlowDown(Unavailable):
    """The client goes over its limit. ``retry_after``: in how many seconds it is welcome again."""

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(Unavailable):
    """The node is starting, stopping or has too much to do."""


class TransactionConflict(Unavailable):
    """A key that a transaction depends on has changed; the transaction was not applied."""


class Damaged(FlareError):
    """Stored bytes are not what was written."""

    data_at_risk = True


class PieceCorrupt(Damaged):
    """A piece's bytes do not have the checksum they were stored with."""


class SegmentCorrupt(Damaged):
    """A segment holds something that is not a record."""


class ChunkLost(Damaged):
    """Too few good pieces of a chunk are reachable to rebuild it."""


class ManifestCorrupt(Damaged):
    """A metadata record cannot be decoded."""


class RowCorrupt(ManifestCorrupt):
    """A row of the metadata does not have the checksum that it was stored with."""

    def __init__(self, key: bytes) -> None:
        super().__init__(f"the metadata of {key.decode(errors='backslashreplace')!r} is damaged: its checksum is wrong")
        self.key = key


class LogCorrupt(Damaged):
    """The metadata's write-ahead log is damaged, and acknowledged transactions come after the damage."""


class VolumeFailed(Damaged):
    """A volume's disk failed a write or a sync; the volume takes no more writes."""


class ProtocolError(FlareError):
    """HTTP was broken by one side."""


class LocalProtocolError(ProtocolError):
    """Our side was about to break HTTP: a bug."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that is not HTTP as we accept it."""


class BodyTruncated(ProtocolError):
    """The peer promised a longer body than it sent."""


class ConnectionLost(ProtocolError):
    """The peer went away."""


class ConfigError(FlareError):
    """A configuration file has mistakes; ``mistakes`` lists all of them, one sentence each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


def leaves(error: BaseException) -> list[BaseException]:
    """Return the exceptions that are not groups, in their order: all in a group, however deep, or ``error``."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


def drop_tracebacks(error: BaseException) -> None:
    """Let go of every frame that ``error``, its causes and what it groups lead to, and of the buffers in them.

    For where an error ends. A frame that refers to the error that went through it is a cycle, which only the garbage
    collector would find, at no known time.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
