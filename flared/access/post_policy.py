"""POST policy: what a browser's form may upload, signed by a key that the browser never sees. Pure.

    policy    = {"expiration": time, "conditions": [condition, ...]}       JSON, base64-encoded in the form
    condition = {field: value} | ["eq", "$field", value] | ["starts-with", "$field", prefix]
              | ["content-length-range", least, most]                      bytes of the file

Each field of the form needs a condition, but for those in ``EXEMPT`` and for ``x-ignore-*``. The bucket, which the
request's target names, counts as a field. Names of fields compare without regard to case.
Source: Amazon S3 API Reference, "Browser-based uploads using POST (AWS Signature Version 4)".
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from flared.errors import BadRequest, Forbidden, TooLarge, TooSmall

if TYPE_CHECKING:
    from collections.abc import Mapping

POLICY_BYTES_MAX = 20 * 1024
"""Of the encoded policy: a form's fields together may have no more (AWS)."""
CONDITIONS_MAX = 256

EXEMPT = frozenset({"policy", "x-amz-signature", "file"})
"""Fields that need no condition."""
IGNORED_PREFIX = "x-ignore-"


class FieldCondition(NamedTuple):
    """A demand on the value of one field."""

    field: str
    """In lower case."""
    value: str
    exact: bool
    """False: ``value`` is a prefix."""


@dataclass(frozen=True, slots=True)
class PostPolicy:
    """A policy document. Sizes are in bytes, ``expires`` in seconds since 1970."""

    expires: float
    fields: tuple[FieldCondition, ...]
    least: int = 0
    most: int | None = None

    def check(self, form: Mapping[str, str], now: float) -> None:
        """Raise Forbidden unless the policy allows these fields at this time.

        ``form``: field -> value, names in lower case, with the bucket under ``bucket``.
        """
        if now >= self.expires:
            raise Forbidden("the policy of the form has expired")
        for condition in self.fields:
            value = form.get(condition.field)
            if value is None or not _holds(condition, value):
                raise Forbidden(f"the form does not meet its policy: {_describe(condition)}")
        covered = {condition.field for condition in self.fields}
        for name in form:
            if name not in covered and name not in EXEMPT and not name.startswith(IGNORED_PREFIX):
                raise Forbidden(f"the form does not meet its policy: the policy has no condition for {name[:64]!r}")

    def check_size(self, size: int) -> None:
        """Raise TooLarge or TooSmall for a file of ``size`` bytes that the policy does not allow."""
        if self.most is not None and size > self.most:
            raise TooLarge(f"the file has more than the {self.most} bytes that the policy of the form allows")
        if size < self.least:
            raise TooSmall(f"the file has {size} bytes; the policy of the form asks for at least {self.least}")


def parse_post_policy(encoded: str) -> PostPolicy:
    """Return the policy in the form's field ``policy``. Raises BadRequest if it is not one."""
    if len(encoded) > POLICY_BYTES_MAX:
        raise TooLarge(f"the policy of the form has {len(encoded)} bytes; at most {POLICY_BYTES_MAX} are allowed")
    try:
        document = json.loads(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise BadRequest("the policy of the form is not the base64 of a JSON document") from None
    if not isinstance(document, dict) or document.keys() != {"expiration", "conditions"}:
        raise BadRequest("the policy of the form must have 'expiration' and 'conditions', and nothing else")
    conditions = document["conditions"]
    if not isinstance(conditions, list) or not conditions:
        raise BadRequest("'conditions' of the form's policy must be a list of conditions")
    if len(conditions) > CONDITIONS_MAX:
        raise TooLarge(f"the policy of the form has {len(conditions)} conditions; at most {CONDITIONS_MAX} are allowed")
    fields: list[FieldCondition] = []
    least, most = 0, None
    for condition in conditions:
        if isinstance(condition, list) and condition and _is_word(condition[0], "content-length-range"):
            low, high = _parse_sizes(condition)
            least, most = max(least, low), high if most is None else min(most, high)
        else:
            fields += _parse_condition(condition)
    return PostPolicy(_parse_expiration(document["expiration"]), tuple(fields), least, most)


def _parse_condition(condition: object) -> list[FieldCondition]:
    if isinstance(condition, dict) and condition:
        return [FieldCondition(name.lower(), _text(value), True) for name, value in condition.items()]
    if isinstance(condition, list) and len(condition) == 3:
        operator, name, value = condition
        exact = _is_word(operator, "eq")
        if (exact or _is_word(operator, "starts-with")) and isinstance(name, str) and name.startswith("$"):
            return [FieldCondition(name[1:].lower(), _text(value), exact)]
    raise BadRequest(f"the form's policy has a condition that cannot be read: {json.dumps(condition)[:120]}")


def _parse_sizes(condition: list[object]) -> tuple[int, int]:
    numbers = [int(part) if isinstance(part, str) and part.isdecimal() else part for part in condition[1:]]
    if len(numbers) != 2 or not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise BadRequest("'content-length-range' of the form's policy takes two sizes in bytes: the least and the most")
    low, high = numbers
    assert isinstance(low, int)
    assert isinstance(high, int)
    return low, high


def _parse_expiration(value: object) -> float:
    """``2030-01-01T12:00:00.000Z``, with or without the fraction."""
    for pattern in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ"):
        try:
            return datetime.strptime(value if isinstance(value, str) else "", pattern).replace(tzinfo=UTC).timestamp()
        except ValueError:
            pass
    raise BadRequest("'expiration' of the form's policy must be a time such as 2030-01-01T12:00:00Z")


def _holds(condition: FieldCondition, value: str) -> bool:
    if condition.exact:
        return value == condition.value
    if condition.field == "content-type":  # a list of types: each of them must begin so
        return all(part.strip().startswith(condition.value) for part in value.split(","))
    return value.startswith(condition.value)


def _describe(condition: FieldCondition) -> str:
    operator = "eq" if condition.exact else "starts-with"
    return json.dumps([operator, f"${condition.field}", condition.value])[:200]


def _is_word(value: object, word: str) -> bool:
    return isinstance(value, str) and value.lower() == word


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadRequest("a condition of the form's policy must compare with a text")
    return value
