"""The API's answers as values. Everything is checked here, once: an answer may not come from Flare at all."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

from flarectl.errors import Refusal
from flared.data.report import VolumeReport, parse_report
from flared.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MTIME = "mtime"
"""The user field with a file's modification time, as rclone writes it: seconds and nanoseconds, ``1700000000.123``."""


class Entry(NamedTuple):
    """One object of a listing."""

    key: str
    size: int
    etag: str
    modified: float
    version: int = 0
    """0 if the api node does not report it."""
    damaged: bool = False
    """Its metadata is damaged: nothing but the name is known, and that may be wrong."""


class Listing(NamedTuple):
    """One page; ``next`` is the ``after`` of the next one, empty at the end."""

    objects: tuple[Entry, ...]
    prefixes: tuple[str, ...]
    next: str


class VersionEntry(NamedTuple):
    """One version of a listing."""

    key: str
    version: int
    newest: bool
    deleted: bool
    """It is a delete marker, which has neither size nor ETag."""
    size: int
    etag: str
    modified: float
    damaged: bool


class VersionPage(NamedTuple):
    """One page of the versions of a bucket; ``next`` is what the next one goes on behind."""

    versions: tuple[VersionEntry, ...]
    prefixes: tuple[str, ...]
    next: tuple[str, int] | None


class ObjectInfo(NamedTuple):
    """The facts about an object that HEAD returns. ``etag`` includes its quotes."""

    size: int
    etag: str
    modified: float
    content_type: str
    version: int
    user: dict[str, str]
    sha256: bytes | None = None
    """Of a body that is one chunk; empty for one of several, None where nothing is known of it, as in a listing."""


class Invite(NamedTuple):
    """The parts of a join token, except the key."""

    id: str
    expires: float
    node: str
    """The only node that may use it; empty for any."""
    cluster: str
    listen: str
    """Where the api node listens, as its TOML file says."""
    tls: bool = False
    """Its cluster has an authority: new nodes get a certificate, and call it with TLS."""


class Key(NamedTuple):
    """An access key. Times are seconds since 1970."""

    name: str
    id: str
    state: str
    """``works``, ``expired``, or ``unreadable``: no secret of the cluster opens it."""
    grants: tuple[str, ...]
    created: float
    expires: float | None
    replaced: tuple[tuple[str, float], ...]
    """(id, until when it works beside the newest one)"""
    secret: str
    """Empty but in the answer that made it."""
    used: float | None = None
    """When it was last used, to about a minute; None: never."""


class Chunk(NamedTuple):
    digest: str
    size: int
    id: str
    codec: str
    scheme: str
    nodes: tuple[str, ...]
    missing: tuple[int, ...]


class ChunkPage(NamedTuple):
    """Some chunks of one version, from number ``first`` on; ``next`` is the number to ask for next, None at the end."""

    version: int
    size: int
    etag: str
    first: int
    chunks: tuple[Chunk, ...]
    next: int | None


class PutResult(NamedTuple):
    etag: str
    size: int
    version: int


class Bucket(NamedTuple):
    name: str
    created: float
    scheme: str
    chunk_size: int
    compression: str
    owner: str = ""
    """The access key that owns it; empty for the cluster itself."""
    public: bool = False
    """Everybody may read its objects."""
    acl: str = "private"


@dataclass(frozen=True, slots=True)
class NodeVolume(VolumeReport):
    """The report of a volume by its data node, and the facts that the api node adds."""

    repair: str = ""
    """How far the repair of a failed volume's pieces has come, in words."""
    repaired: bool = False


class Node(NamedTuple):
    name: str
    role: str
    state: str
    zone: str
    address: str
    version: str
    used: int
    capacity: int
    last_seen_seconds: float | None
    pieces: int
    state_since_seconds: float | None
    volumes: tuple[NodeVolume, ...]
    advice: tuple[str, ...]
    removal_share: float = 0.0
    """The share of chunk records that the removal has checked."""
    removal_waiting: int = 0
    unreachable: str = ""
    """Why the api node, which receives its heartbeats, cannot connect to it."""
    orphans_held: int = 0
    """Pieces that no record names, too many at once to be deleted without a command."""
    orphans_held_bytes: int = 0
    checksum_errors: int = 0
    """Pieces on it that have failed their checksum since it joined the cluster."""
    pieces_mended: int = 0
    damaged_last: float | None = None
    """When the last one was found, in seconds since 1970."""
    certificate_ends: float | None = None
    """When the certificate ends that it showed the api node, in seconds since 1970."""


class MetadataAge(NamedTuple):
    """Metadata newer than the api node's that data nodes have seen, if any."""

    older: bool
    objects: int
    """Known to the api node."""
    seen: tuple[tuple[str, float], ...]
    """(node, seconds since 1970 when it last received the newer metadata's mark)"""
    orphans_kept_seconds: float
    """How long orphans are kept once the metadata is accepted."""


class HeldOrphans(NamedTuple):
    """The orphans of a node that are held back from deletion."""

    held: int
    bytes: int
    since: float
    """Seconds since 1970; 0 if nothing is held."""
    seconds_left: float
    """Until they are deleted without a command."""
    allowed: int
    """How many of them an operator has allowed to be deleted."""
    sample: tuple[str, ...]
    obstacles: tuple[str, ...]
    """Why orphans are not deleted on any node now."""


class RemovalCost(NamedTuple):
    """The chunks that removing a node which is away would affect."""

    waiting: int
    unreadable: int
    complete: bool


class FailureCost(NamedTuple):
    """The chunks that the failure of a node would affect."""

    chunks: int
    below_quorum: int
    unreadable: int
    complete: bool


class Status(NamedTuple):
    health: str
    version: str
    objects: int
    bytes: int
    chunks: int
    degraded_chunks: int
    reasons: tuple[str, ...]
    advice: tuple[str, ...]
    nodes: tuple[Node, ...]
    metadata_reasons: tuple[str, ...] | None = None
    """Problems of the metadata, also among ``reasons``. None if the api node does not report them."""
    metadata_advice: tuple[str, ...] = ()
    unavailable_pieces: int = 0
    """Pieces on data nodes that are away."""
    workers: int = 0
    """Processes of the api node that serve clients beside its first one."""
    old_versions: int = 0
    """Noncurrent versions and delete markers, which are not among ``objects``."""
    old_version_bytes: int = 0

    @property
    def refused(self) -> list[str]:
        """Return the reasons about nodes that the api node refuses."""
        return [reason for reason in self.reasons if reason.startswith("refused: ")]


def parse_listing(answer: object) -> Listing:
    """Raise Refusal if the answer is not a listing."""
    fields = _fields(answer)
    objects = tuple(_parse_entry(_fields(item)) for item in _items(fields, "objects"))
    return Listing(objects, tuple(map(str, _items(fields, "prefixes"))), str(fields.get("next") or ""))


def parse_versions(answer: object) -> VersionPage:
    """Raise Refusal if the answer is not a listing of versions."""
    fields = _fields(answer)
    found = tuple(_parse_version(_fields(item)) for item in _items(fields, "versions"))
    following = fields.get("next")
    after = None
    if following is not None:
        place = _fields(following)
        after = _text(place, "after"), 0 if place.get("after_version") is None else _number(place, "after_version")
    return VersionPage(found, tuple(map(str, _items(fields, "prefixes"))), after)


def _parse_version(fields: dict[str, object]) -> VersionEntry:
    deleted = fields.get("deleted") is True
    return VersionEntry(
        _text(fields, "key"),
        _number(fields, "version"),
        fields.get("newest") is True,
        deleted,
        0 if deleted else _number(fields, "size"),
        "" if deleted else quote_etag(_text(fields, "etag")),
        parse_time(fields.get("modified")),
        fields.get("damaged") is True,
    )


def parse_info(fields: Mapping[str, str]) -> ObjectInfo:
    """Parse the fields of a HEAD or GET, with lower-case names. Raise Refusal if they do not describe an object."""
    prefix = "x-flare-meta-"
    try:
        size = int(fields.get("content-range", "").rpartition("/")[2] or fields["content-length"])
        return ObjectInfo(
            size,
            fields["etag"],
            parse_time(fields.get("last-modified", "")),
            fields.get("content-type", ""),
            int(fields.get("x-flare-version", "0")),
            {name.removeprefix(prefix): value for name, value in fields.items() if name.startswith(prefix)},
            _sha256(fields.get("x-flare-content-sha256", "")),
        )
    except (KeyError, ValueError):
        raise _unexpected_answer() from None


def parse_chunks(answer: object) -> ChunkPage:
    """Raise Refusal if the answer is not a page of a manifest."""
    fields = _fields(answer)
    following = fields.get("next")
    return ChunkPage(
        version=_count(fields, "version"),
        size=_number(fields, "size"),
        etag=quote_etag(_text(fields, "etag")),
        first=_number(fields, "first"),
        chunks=tuple(_parse_chunk(_fields(item)) for item in _items(fields, "chunks")),
        next=None if following is None else _number(fields, "next"),
    )


def parse_put(answer: object) -> PutResult:
    """Raise Refusal if the answer is not one to a PUT."""
    fields = _fields(answer)
    return PutResult(quote_etag(_text(fields, "etag")), _number(fields, "size"), _count(fields, "version"))


def parse_buckets(answer: object) -> list[Bucket]:
    """Raise Refusal if the answer is not a list of buckets."""
    return [
        Bucket(
            _text(item, "name"),
            parse_time(item.get("created", "")),
            str(item.get("scheme", "")),
            _count(item, "chunk_size"),
            str(item.get("compression", "")),
            str(item.get("owner", "")),
            item.get("public") is True,
            str(item.get("acl", "private")),
        )
        for item in map(_fields, _items(_fields(answer), "buckets"))
    ]


def parse_status(answer: object) -> Status:
    """Raise Refusal if the answer is not a status. Fields that an older or newer server omits are empty."""
    fields = _fields(answer)
    metadata = _fields(fields.get("metadata", {}))
    return Status(
        health=_text(fields, "health"),
        version=str(fields.get("version", "")),
        objects=_count(fields, "objects"),
        bytes=_count(fields, "bytes"),
        chunks=_count(fields, "chunks"),
        degraded_chunks=_count(fields, "degraded_chunks"),
        reasons=tuple(map(str, _items(fields, "reasons"))),
        advice=tuple(map(str, _items(fields, "advice"))),
        nodes=tuple(_parse_node(_fields(item)) for item in _items(fields, "nodes")),
        metadata_reasons=tuple(map(str, _items(metadata, "reasons"))) if metadata else None,
        metadata_advice=tuple(map(str, _items(metadata, "advice"))),
        unavailable_pieces=_count(fields, "unavailable_pieces"),
        workers=len(_items(fields, "workers")),
        old_versions=_count(fields, "old_versions"),
        old_version_bytes=_count(fields, "old_version_bytes"),
    )


def parse_failure(answer: object) -> FailureCost:
    """Raise Refusal if the answer is not the cost of a failure."""
    fields = _fields(answer)
    return FailureCost(
        _number(fields, "chunks"),
        _number(fields, "below_quorum"),
        _number(fields, "unreadable"),
        complete=fields.get("complete") is True,
    )


def parse_metadata(answer: object) -> MetadataAge:
    """Raise Refusal if the answer is not about the metadata's age."""
    fields = _fields(answer)
    seen = tuple(
        (str(item.get("node")), _seconds(item, "time") or 0.0) for item in map(_fields, _items(fields, "seen"))
    )
    kept = _seconds(fields, "orphans_kept_seconds") or 0.0
    return MetadataAge(fields.get("older") is True, _count(fields, "objects"), seen, kept)


def parse_orphans(answer: object) -> HeldOrphans:
    """Raise Refusal if the answer is not about held orphans."""
    fields = _fields(answer)
    return HeldOrphans(
        _number(fields, "held"),
        _number(fields, "bytes"),
        _seconds(fields, "since") or 0.0,
        _seconds(fields, "seconds_left") or 0.0,
        _count(fields, "allowed"),
        tuple(map(str, _items(fields, "sample"))),
        tuple(map(str, _items(fields, "obstacles"))),
    )


def parse_invite(answer: object) -> Invite:
    """Raise Refusal if the answer is not an invite."""
    fields = _fields(answer)
    identity, expires = str(fields.get("invite")), fields.get("expires")
    if not re.fullmatch("[0-9a-f]{32}", identity) or not isinstance(expires, int | float):
        raise Refusal("the endpoint answered, but not with an invite; is it an api node of Flare?")
    node, cluster, listen = (str(fields.get(name, "")) for name in ("node", "cluster", "listen"))
    return Invite(identity, float(expires), node, cluster, listen, fields.get("tls") is True)


def parse_keys(answer: object) -> list[Key]:
    """Raise Refusal if the answer is not a list of access keys."""
    return list(map(parse_key, _items(_fields(answer), "keys")))


def parse_key(answer: object) -> Key:
    """Raise Refusal if the answer is not an access key."""
    fields = _fields(answer)
    replaced = (
        (_text(item, "id"), _seconds(item, "until") or 0.0) for item in map(_fields, _items(fields, "replaced"))
    )
    return Key(
        _text(fields, "name"),
        _text(fields, "id"),
        str(fields.get("state", "")),
        tuple(map(str, _items(fields, "grants"))),
        _seconds(fields, "created") or 0.0,
        _seconds(fields, "expires"),
        tuple(replaced),
        str(fields.get("secret", "")),
        _seconds(fields, "used"),
    )


def parse_removal(answer: object) -> RemovalCost:
    """Raise Refusal if the answer is not the cost of a removal."""
    fields = _fields(answer)
    return RemovalCost(_number(fields, "waiting"), _number(fields, "unreadable"), fields.get("complete") is True)


def parse_time(value: object) -> float:
    """Return seconds since 1970 from the API's time (ISO 8601) or an HTTP date; 0 if it is neither."""
    text = str(value)
    try:
        if text[:1].isdigit():
            from datetime import datetime

            return datetime.fromisoformat(text).timestamp()
        from email.utils import parsedate_to_datetime

        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return 0.0


def quote_etag(etag: str) -> str:
    """Return the ETag in quotes, as HTTP fields carry it."""
    return etag if etag.startswith('"') else f'"{etag}"'


def _sha256(text: str) -> bytes:
    return bytes.fromhex(text) if re.fullmatch("[0-9a-f]{64}", text) else b""


def bare_etag(etag: str) -> str:
    """Return the ETag without its quotes, for JSON, which adds its own."""
    return etag.strip('"')


def etag_of(digests: Iterable[bytes]) -> str:
    """Return the ETag of a body whose chunks have these SHA-256 digests."""
    count, over = 0, hashlib.sha256()
    for digest in digests:
        over.update(digest)
        count += 1
    return f'"{over.hexdigest()[:32]}-{count}"'


def _parse_entry(fields: dict[str, object]) -> Entry:
    modified = parse_time(fields.get("modified", ""))
    size, etag = _number(fields, "size"), quote_etag(_text(fields, "etag"))
    damaged = fields.get("damaged") is True
    return Entry(_text(fields, "key"), size, etag, modified, _count(fields, "version"), damaged)


def _parse_chunk(fields: dict[str, object]) -> Chunk:
    return Chunk(
        digest=_text(fields, "digest"),
        size=_number(fields, "size"),
        id=str(fields.get("id", "")),
        codec=str(fields.get("codec", "")),
        scheme=str(fields.get("scheme", "")),
        nodes=tuple(str(node or "-") for node in _items(fields, "nodes")),
        missing=tuple(number for number in _items(fields, "missing") if isinstance(number, int)),
    )


def _parse_node(fields: dict[str, object]) -> Node:
    removal = _fields(fields.get("removal") or {})
    return Node(
        name=str(fields.get("name") or ""),
        role=str(fields.get("role") or ""),
        state=str(fields.get("state") or ""),
        zone=str(fields.get("zone") or ""),
        address=str(fields.get("address") or ""),
        version=str(fields.get("version") or ""),
        used=_count(fields, "used"),
        capacity=_count(fields, "capacity"),
        last_seen_seconds=_seconds(fields, "last_seen_seconds"),
        pieces=_count(fields, "pieces"),
        state_since_seconds=_seconds(fields, "state_since_seconds"),
        volumes=tuple(_parse_volume(_fields(item)) for item in _items(fields, "volumes")),
        advice=tuple(map(str, _items(fields, "advice"))),
        removal_share=_seconds(removal, "share") or 0.0,
        removal_waiting=_count(removal, "waiting"),
        unreachable=str(fields.get("unreachable") or ""),
        orphans_held=_count(fields, "orphans_held"),
        orphans_held_bytes=_count(fields, "orphans_held_bytes"),
        checksum_errors=_count(fields, "checksum_errors"),
        pieces_mended=_count(fields, "pieces_mended"),
        damaged_last=_seconds(fields, "damaged_last"),
        certificate_ends=_seconds(fields, "certificate_ends"),
    )


def _parse_volume(fields: dict[str, object]) -> NodeVolume:
    try:
        report = parse_report(fields)
    except BadRequest:
        raise _unexpected_answer() from None
    repair = str(fields.get("repair") or "")
    return NodeVolume(**asdict(report), repair=repair, repaired=fields.get("repaired") is True)


def _unexpected_answer() -> Refusal:
    return Refusal("the answer is not what an api node of Flare sends; is the endpoint right?", code="StrangeAnswer")


def _fields(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _unexpected_answer()
    return value


def _items(fields: dict[str, object], name: str) -> list[object]:
    value = fields.get(name)
    if not isinstance(value, list | None):
        raise _unexpected_answer()
    return value or []


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _unexpected_answer()
    return value


def _number(fields: dict[str, object], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or value < 0:
        raise _unexpected_answer()
    return value


def _seconds(fields: dict[str, object], name: str) -> float | None:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else None


def _count(fields: dict[str, object], name: str) -> int:
    value = fields.get(name)
    return int(value) if isinstance(value, int | float) else 0
