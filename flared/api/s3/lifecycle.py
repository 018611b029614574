"""Lifecycle: the rules of a bucket, as S3 words them. ``objects.lifecycle`` says what they mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from flared.api.face import on_bucket
from flared.api.s3.answers import send, send_xml
from flared.api.s3.errors import NOT_IMPLEMENTED, S3Error
from flared.api.s3.times import format_timestamp
from flared.api.s3.xml import MalformedXml, document, element, group, parse_xml
from flared.catalog.bucket_documents import Kind
from flared.objects.bucket_documents import find_document, put_document
from flared.objects.lifecycle import DAY_MS, RULES_MAX, Rule, decode_rules, encode_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flared.api.face import Handler
    from flared.api.s3.xml import Element
    from flared.http.messages import Reply, Request
    from flared.names import BucketName
    from flared.objects.store import Store

BODY_BYTES_MAX = 1024 * 1024
"""1,000 rules, as long as they may be, are longer than the document that is kept; then that says so."""
ID_MAX = 255
DAYS_MAX = 2**31 - 1
NEWER_MAX = 100
ELEMENTS_MAX = 40_000

_FILTERS = frozenset({"Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan"})
_ACTIONS = frozenset({"Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"})
_TRANSITIONS = frozenset({"Transition", "NoncurrentVersionTransition"})


def lifecycle_handlers(store: Store) -> dict[str, Handler]:
    calls = LifecycleCalls(store)
    return {
        "GetBucketLifecycleConfiguration": on_bucket(calls.get),
        "PutBucketLifecycleConfiguration": on_bucket(calls.put),
        "DeleteBucketLifecycle": on_bucket(calls.delete),
    }


class LifecycleCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        found = find_document(self._store, bucket, Kind.LIFECYCLE)
        if found is None:
            raise S3Error("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")
        await send_xml(reply, document("LifecycleConfiguration", map(_format_rule, decode_rules(found))))

    async def put(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        body = await request.body.read_all(BODY_BYTES_MAX)
        rules = parse_rules(body, lambda: str(UUID(int=self._store.random_bits(128))))
        await put_document(self._store, bucket, Kind.LIFECYCLE, encode_rules(rules))
        await send(reply, 200)

    async def delete(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        await put_document(self._store, bucket, Kind.LIFECYCLE, None)
        await send(reply, 204)


def parse_rules(body: bytes, draw_id: Callable[[], str]) -> list[Rule]:
    """Return the rules of a LifecycleConfiguration; ``draw_id`` names those without an ID.

    Raises MalformedXml and S3Error, also for what is not understood: a rule is never kept in part.
    """
    root = parse_xml(body, "LifecycleConfiguration", elements_max=ELEMENTS_MAX)
    rules = [_parse_rule(rule, draw_id) for rule in root.find_all("Rule")]
    if not rules or len(rules) > RULES_MAX or len(rules) != len(root.children):
        raise MalformedXml(f"a LifecycleConfiguration holds 1 to {RULES_MAX} Rule, and nothing else")
    if len({rule.id for rule in rules}) < len(rules):
        raise S3Error("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule")
    return rules


def _parse_rule(rule: Element, draw_id: Callable[[], str]) -> Rule:
    _refuse_others(rule, {"ID", "Status", "Filter", "Prefix"} | _ACTIONS | _TRANSITIONS)
    if any(rule.find(name) for name in _TRANSITIONS):
        raise S3Error(NOT_IMPLEMENTED, "transitions are not implemented: there is one storage class")
    status, identity = rule.text_of("Status"), rule.text_of("ID")
    if status not in ("Enabled", "Disabled"):
        raise MalformedXml("the Status of a rule is Enabled or Disabled")
    if len(identity) > ID_MAX:
        raise S3Error("InvalidArgument", f"ID length should not exceed allowed limit of {ID_MAX}")
    if not any(rule.find(name) for name in _ACTIONS):
        raise S3Error("InvalidRequest", "At least one action needs to be specified in a rule")
    days, at_ms, lone_markers = _parse_expiration(rule.find("Expiration"))
    noncurrent, newer = _parse_noncurrent(rule.find("NoncurrentVersionExpiration"))
    upload_days = _parse_abort(rule.find("AbortIncompleteMultipartUpload"))
    prefix, tags, larger, smaller = _parse_filter(rule)
    if tags and (lone_markers or upload_days is not None):
        raise S3Error("InvalidRequest", "a rule with tags is about objects alone: neither markers nor uploads have any")
    return Rule(
        identity or draw_id(),
        status == "Enabled",
        prefix,
        tags,
        larger,
        smaller,
        days,
        at_ms,
        lone_markers,
        noncurrent,
        newer,
        upload_days,
    )


def _parse_filter(rule: Element) -> tuple[str, dict[str, str], int | None, int | None]:
    """Return prefix, tags, and the sizes that objects are larger and smaller than."""
    chosen = rule.find("Filter")
    if chosen is None:
        if rule.find("Prefix") is None:
            raise MalformedXml("a Rule needs a Filter")
        return rule.text_of("Prefix"), {}, None, None
    if rule.find("Prefix") is not None or len(chosen.children) > 1:
        raise MalformedXml("a Filter holds one condition, or And with several")
    together = chosen.find("And")
    conditions = together or chosen
    _refuse_others(conditions, _FILTERS)
    tags: dict[str, str] = {}
    for tag in conditions.find_all("Tag"):
        name = tag.text_of("Key")
        if not name or name in tags:
            raise S3Error("InvalidRequest", "each tag of a rule has a Key of its own")
        tags[name] = tag.text_of("Value")
    larger = _parse_number(conditions, "ObjectSizeGreaterThan", 0, 1 << 50)
    smaller = _parse_number(conditions, "ObjectSizeLessThan", 1, 1 << 50)
    if larger is not None and smaller is not None and smaller <= larger:
        raise S3Error("InvalidRequest", "ObjectSizeLessThan must be over ObjectSizeGreaterThan")
    return conditions.text_of("Prefix"), tags, larger, smaller


def _parse_expiration(expiration: Element | None) -> tuple[int | None, int | None, bool]:
    """Return days, the moment, and whether lone delete markers go."""
    if expiration is None:
        return None, None, False
    _refuse_others(expiration, {"Days", "Date", "ExpiredObjectDeleteMarker"})
    if len(expiration.children) != 1:
        raise MalformedXml("an Expiration holds one of Days, Date and ExpiredObjectDeleteMarker")
    days = _parse_number(expiration, "Days", 1, DAYS_MAX, "'Days' for Expiration action must be a positive integer")
    date = expiration.find("Date")
    return days, None if date is None else _parse_date(date.text), _parse_flag(expiration, "ExpiredObjectDeleteMarker")


def _parse_noncurrent(expiration: Element | None) -> tuple[int | None, int]:
    if expiration is None:
        return None, 0
    _refuse_others(expiration, {"NoncurrentDays", "NewerNoncurrentVersions"})
    days = _parse_number(expiration, "NoncurrentDays", 1, DAYS_MAX)
    if days is None:
        raise MalformedXml("a NoncurrentVersionExpiration needs NoncurrentDays")
    return days, _parse_number(expiration, "NewerNoncurrentVersions", 1, NEWER_MAX) or 0


def _parse_abort(abort: Element | None) -> int | None:
    if abort is None:
        return None
    _refuse_others(abort, {"DaysAfterInitiation"})
    days = _parse_number(abort, "DaysAfterInitiation", 1, DAYS_MAX)
    if days is None:
        raise MalformedXml("an AbortIncompleteMultipartUpload needs DaysAfterInitiation")
    return days


def _parse_number(parent: Element, name: str, least: int, most: int, message: str = "") -> int | None:
    child = parent.find(name)
    if child is None:
        return None
    text = child.text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and least <= int(text) <= most):
        raise S3Error("InvalidArgument", message or f"'{name}' must be a whole number from {least} to {most}")
    return int(text)


def _parse_date(text: str) -> int:
    """Return a midnight, UTC, in ms since 1970."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise MalformedXml("'Date' must be a date of ISO 8601, such as 2030-01-01T00:00:00Z") from None
    milliseconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    if "-" not in text or milliseconds < 0 or milliseconds % DAY_MS:
        raise S3Error("InvalidArgument", "'Date' must be at midnight GMT")
    return milliseconds


def _parse_flag(parent: Element, name: str) -> bool:
    text = parent.text_of(name, "false")
    if text not in ("true", "false"):
        raise MalformedXml(f"{name} is true or false")
    return text == "true"


def _refuse_others(parent: Element, known: Sequence[str] | set[str] | frozenset[str]) -> None:
    for child in parent.children:
        if child.name not in known:
            raise MalformedXml(f"a {parent.name} has no {child.name[:80]!r}")
    for name in (child.name for child in parent.children if child.name not in _TRANSITIONS | {"Tag"}):
        if len(parent.find_all(name)) > 1:
            raise MalformedXml(f"a {parent.name} has {name} once")


def _format_rule(rule: Rule) -> str:
    conditions = [element("Prefix", rule.prefix)] if rule.prefix else []
    conditions += [group("Tag", (element("Key", name), element("Value", text))) for name, text in rule.tags.items()]
    if rule.larger_than is not None:
        conditions.append(element("ObjectSizeGreaterThan", rule.larger_than))
    if rule.smaller_than is not None:
        conditions.append(element("ObjectSizeLessThan", rule.smaller_than))
    if len(conditions) > 1:
        conditions = [group("And", conditions)]
    inside = [
        element("ID", rule.id),
        group("Filter", conditions or [element("Prefix", "")]),
        element("Status", "Enabled" if rule.enabled else "Disabled"),
    ]
    if rule.days is not None:
        inside.append(group("Expiration", [element("Days", rule.days)]))
    if rule.at_ms is not None:
        inside.append(group("Expiration", [element("Date", format_timestamp(rule.at_ms / 1000))]))
    if rule.lone_markers:
        inside.append(group("Expiration", [element("ExpiredObjectDeleteMarker", True)]))
    if rule.noncurrent_days is not None:
        noncurrent = [element("NoncurrentDays", rule.noncurrent_days)]
        if rule.newer_kept:
            noncurrent.append(element("NewerNoncurrentVersions", rule.newer_kept))
        inside.append(group("NoncurrentVersionExpiration", noncurrent))
    if rule.upload_days is not None:
        inside.append(group("AbortIncompleteMultipartUpload", [element("DaysAfterInitiation", rule.upload_days)]))
    return group("Rule", inside)
