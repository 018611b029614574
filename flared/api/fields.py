"""Fields that all faces read alike: dates, entity tags, conditions of reads, ranges (RFC 9110). Pure."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Mapping
from functools import lru_cache

from flared.errors import BadRequest
from flared.objects.conditions import ALWAYS, ANY, ReadConditions
from flared.objects.ranges import RangeRequest

READ_CONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
# RFC 9110, section 5.6.7: the one form to write, and two old ones that must be read.
_DATES = (
    re.compile(rf"\w{{3}}, (?P<day>\d\d) (?P<month>\w{{3}}) (?P<year>\d{{4}}) {_CLOCK} GMT"),
    re.compile(rf"\w{{6,9}}, (?P<day>\d\d)-(?P<month>\w{{3}})-(?P<year>\d\d) {_CLOCK} GMT"),
    re.compile(rf"\w{{3}} (?P<month>\w{{3}}) (?P<day>[ \d]\d) {_CLOCK} (?P<year>\d{{4}})"),
)
_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)
_TAG = re.compile(r'\s*(W/)?(?:"([\x21\x23-\x7e\x80-\xff]*)"|([\w.+/=-]+))\s*(?:,|$)')


def read_conditions(fields: Mapping[str, str]) -> ReadConditions:
    """The conditions of a GET or HEAD. A date that is none is ignored, as RFC 9110 wants it."""
    if READ_CONDITIONS.isdisjoint(fields):
        return ALWAYS
    return ReadConditions(
        if_match=parse_tags(fields.get("if-match"), weak=False),
        if_none_match=parse_tags(fields.get("if-none-match"), weak=True),
        if_modified_since=parse_date(fields.get("if-modified-since", "")),
        if_unmodified_since=parse_date(fields.get("if-unmodified-since", "")),
    )


def range_request(fields: Mapping[str, str]) -> RangeRequest | None:
    """The single range asked for. None (the whole object) for several ranges, other units and invalid ranges."""
    value = fields.get("range")
    if value is None:
        return None
    match = _RANGE.fullmatch(value)
    if not match or not (match[1] or match[2]):
        return None
    first = int(match[1]) if match[1] else None
    last = int(match[2]) if match[2] else None
    if first is not None and last is not None and last < first:
        return None
    return RangeRequest(first, last, _if_range(fields.get("if-range")))


@lru_cache(maxsize=4096)
def format_date(seconds: int) -> str:
    """``Sat, 21 Nov 2026 09:18:48 GMT``; not by strftime, which speaks the locale's language."""
    t = time.gmtime(seconds)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
    )


def parse_date(text: str) -> int | None:
    """Seconds since the epoch; None if it is not a date that HTTP knows."""
    for pattern in _DATES:
        match = pattern.fullmatch(text)
        if match and match["month"] in _MONTHS:
            year = int(match["year"])
            if year < 100:
                year += 1900 if year >= 70 else 2000
            clock = int(match["hour"]), int(match["minute"]), int(match["second"])
            return calendar.timegm((year, _MONTHS.index(match["month"]) + 1, int(match["day"]), *clock))
    return None


def parse_tags(value: str | None, *, weak: bool) -> tuple[str, ...] | None:
    """Entity tags without quotes, or ANY. Weak tags never match where the comparison is strong."""
    if value is None:
        return None
    if value.strip() == "*":
        return (ANY,)
    tags: list[str] = []
    position = 0
    while position < len(value):
        match = _TAG.match(value, position)
        if not match:
            raise BadRequest("If-Match and If-None-Match take * or a list of quoted entity tags")
        tag = match[3] if match[2] is None else match[2]
        if tag != ANY and (weak or not match[1]):
            tags.append(tag)
        position = match.end()
    return tuple(tags)


def _if_range(value: str | None) -> str | int | None:
    if value is None:
        return None
    if value.startswith('"') and value.endswith('"'):
        return value[1:-1]
    date = parse_date(value)
    # Neither a strong tag nor a date: it can match nothing, so the whole object is sent.
    return date if date is not None else "\0"
