"""Lifecycle: when the rules of a bucket let its objects, old versions and unfinished uploads go. Pure.

    document = [rule, ...]                                                          JSON, as a bucket keeps it
    rule     = {"i": id, "e": 1 if enabled ["p": prefix] ["t": {tag: value}] ["g": larger than] ["l": smaller than]
                ["d": days] ["a": at, ms] ["k": 1, lone delete markers go]
                ["n": days after a version was replaced ["r": newer ones kept]] ["u": days of an unfinished upload]}

Days are whole ones: an object of which the rule says *d* days goes at the first midnight, UTC, that lies *d* days or
more after it was written. So all objects of a day go together, as with S3.
Source: Amazon S3 API Reference, PutBucketLifecycleConfiguration; User Guide, "Lifecycle configuration elements".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DAY_MS = 86_400_000
RULES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It is about the objects that meet all of prefix, tags and sizes."""

    id: str
    enabled: bool = True
    prefix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    larger_than: int | None = None
    """Bytes; objects of exactly so many are not meant."""
    smaller_than: int | None = None
    days: int | None = None
    """Current versions go so long after they were written."""
    at_ms: int | None = None
    """Current versions that were written before go from this moment on."""
    lone_markers: bool = False
    """A delete marker goes when nothing else is left of its object."""
    noncurrent_days: int | None = None
    """Versions go so long after they were replaced."""
    newer_kept: int = 0
    """... unless no more than so many noncurrent ones are newer."""
    upload_days: int | None = None
    """Unfinished uploads go so long after they began."""

    def is_about(self, key: str, size: int, tags: Mapping[str, str]) -> bool:
        """Return whether the rule, if it is enabled, is about an object like this."""
        return (
            self.enabled
            and key.startswith(self.prefix)
            and (self.larger_than is None or size > self.larger_than)
            and (self.smaller_than is None or size < self.smaller_than)
            and all(tags.get(name) == value for name, value in self.tags.items())
        )


class Expiry(NamedTuple):
    """When something goes, and by which rule."""

    due_ms: int
    rule: str


def find_expiry(rules: Iterable[Rule], key: str, size: int, tags: Mapping[str, str], written_ms: int) -> Expiry | None:
    """Return when a current version that was written then goes; None: never."""
    found: list[Expiry] = []
    for rule in rules:
        if rule.is_about(key, size, tags):
            if rule.days is not None:
                found.append(Expiry(_midnight_after(written_ms, rule.days), rule.id))
            if rule.at_ms is not None:
                found.append(Expiry(max(rule.at_ms, written_ms), rule.id))
    return min(found, default=None)


def find_noncurrent_expiry(
    rules: Iterable[Rule], key: str, size: int, tags: Mapping[str, str], replaced_ms: int, newer: int
) -> Expiry | None:
    """Return when a version goes that was replaced then, and has so many ``newer`` noncurrent ones; None: never yet."""
    found = [
        Expiry(_midnight_after(replaced_ms, rule.noncurrent_days), rule.id)
        for rule in rules
        if rule.noncurrent_days is not None and newer >= rule.newer_kept and rule.is_about(key, size, tags)
    ]
    return min(found, default=None)


def find_marker_rule(rules: Iterable[Rule], key: str, written_ms: int, now_ms: int) -> str | None:
    """Return the rule by which a delete marker goes now of whose object nothing else is left; None: it stays."""
    for rule in rules:
        if not rule.enabled or not key.startswith(rule.prefix):
            continue
        if rule.lone_markers or (rule.days is not None and _midnight_after(written_ms, rule.days) <= now_ms):
            return rule.id
    return None


def find_upload_expiry(rules: Iterable[Rule], key: str, begun_ms: int) -> Expiry | None:
    """Return when an upload that began then is given up; None: never by a rule."""
    found = [
        Expiry(_midnight_after(begun_ms, rule.upload_days), rule.id)
        for rule in rules
        if rule.upload_days is not None and rule.enabled and key.startswith(rule.prefix)
    ]
    return min(found, default=None)


def _midnight_after(moment_ms: int, days: int) -> int:
    return -(-(moment_ms + days * DAY_MS) // DAY_MS) * DAY_MS


def encode_rules(rules: Sequence[Rule]) -> bytes:
    """Return the document of these rules."""
    return json.dumps([_encode_rule(rule) for rule in rules], separators=(",", ":")).encode()


def _encode_rule(rule: Rule) -> dict[str, object]:
    fields: dict[str, object] = {
        "p": rule.prefix or None,
        "t": dict(rule.tags) or None,
        "g": rule.larger_than,
        "l": rule.smaller_than,
        "d": rule.days,
        "a": rule.at_ms,
        "k": 1 if rule.lone_markers else None,
        "n": rule.noncurrent_days,
        "r": rule.newer_kept or None,
        "u": rule.upload_days,
    }
    return {"i": rule.id, "e": int(rule.enabled)} | {name: value for name, value in fields.items() if value is not None}


@lru_cache(maxsize=64)
def decode_rules(document: bytes) -> tuple[Rule, ...]:
    """Return the rules of a document that ``encode_rules`` made."""
    return tuple(
        Rule(
            rule["i"],
            bool(rule["e"]),
            rule.get("p", ""),
            rule.get("t", {}),
            rule.get("g"),
            rule.get("l"),
            rule.get("d"),
            rule.get("a"),
            "k" in rule,
            rule.get("n"),
            rule.get("r", 0),
            rule.get("u"),
        )
        for rule in json.loads(document)
    )
