"""CORS: which web pages may call a bucket, as the bucket's rules say. Pure.

A browser asks before a page's call that could do harm (*preflight*), and looks at the answer of the other ones: a reply
without ``access-control-allow-origin`` is kept from the page. Nothing here is access control of ours: a caller still
needs a grant.
    document = [{"o": [origin, ...], "m": [method, ...], ["h": [header, ...]], ["e": [exposed header, ...]],
                 ["a": max age, s], ["i": id]}, ...]            JSON, as a bucket keeps it

Sources: the Fetch standard (WHATWG), section 3.2; Amazon S3 User Guide, "Elements of a CORS configuration".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")
RULES_MAX = 100


@dataclass(frozen=True, slots=True)
class CorsRule:
    """One rule. Origins and headers may have one ``*`` each, for any text."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    """Fields that a page may send."""
    exposed: tuple[str, ...] = ()
    """Fields of the reply that a page may read, beside the usual ones."""
    max_age_seconds: int | None = None
    """How long a browser may remember the answer."""
    id: str = ""


@dataclass(frozen=True, slots=True)
class CorsGrant:
    """A rule's answer to one request."""

    rule: CorsRule
    origin: str
    """``*`` if the rule is for all pages, else the origin that asked."""
    headers: tuple[str, ...]
    """The fields that were asked for; the rule allows them all."""

    def fields(self) -> list[tuple[str, str]]:
        """Return the fields of a reply, names in lower case."""
        fields = [
            ("access-control-allow-origin", self.origin),
            ("access-control-allow-methods", ", ".join(self.rule.methods)),
        ]
        if self.headers:
            fields.append(("access-control-allow-headers", ", ".join(self.headers)))
        if self.rule.exposed:
            fields.append(("access-control-expose-headers", ", ".join(self.rule.exposed)))
        if self.rule.max_age_seconds is not None:
            fields.append(("access-control-max-age", str(self.rule.max_age_seconds)))
        if self.origin != "*":
            # The browser may send its cookies along, as AWS answers; we take none.
            fields.append(("access-control-allow-credentials", "true"))
        fields.append(("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"))
        return fields


def encode_rules(rules: Sequence[CorsRule]) -> bytes:
    """Return the document of these rules."""
    return json.dumps(
        [
            {"o": rule.origins, "m": rule.methods}
            | ({"h": rule.headers} if rule.headers else {})
            | ({"e": rule.exposed} if rule.exposed else {})
            | ({"a": rule.max_age_seconds} if rule.max_age_seconds is not None else {})
            | ({"i": rule.id} if rule.id else {})
            for rule in rules
        ],
        separators=(",", ":"),
    ).encode()


@lru_cache(maxsize=64)
def decode_rules(document: bytes) -> tuple[CorsRule, ...]:
    """Return the rules of a document that ``encode_rules`` made."""
    return tuple(
        CorsRule(
            tuple(rule["o"]),
            tuple(rule["m"]),
            tuple(rule.get("h", ())),
            tuple(rule.get("e", ())),
            rule.get("a"),
            rule.get("i", ""),
        )
        for rule in json.loads(document)
    )


def find_rule(rules: Sequence[CorsRule], origin: str, method: str, headers: Sequence[str] = ()) -> CorsGrant | None:
    """Return what the first rule that fits grants to a page of ``origin``; None: no rule allows the request.

    ``headers``: the fields that the page wants to send, of a preflight; a plain request names none.
    """
    for rule in rules:
        match = next((pattern for pattern in rule.origins if matches(pattern, origin)), None)
        if match is None or method not in rule.methods:
            continue
        lowered = [pattern.lower() for pattern in rule.headers]
        if all(any(matches(pattern, header.lower()) for pattern in lowered) for header in headers):
            return CorsGrant(rule, "*" if match == "*" else origin, tuple(headers))
    return None


def matches(pattern: str, text: str) -> bool:
    """Return whether ``text`` fits ``pattern``, in which the first ``*`` stands for any text."""
    head, star, tail = pattern.partition("*")
    if not star:
        return pattern == text
    return len(text) >= len(head) + len(tail) and text.startswith(head) and text.endswith(tail)
