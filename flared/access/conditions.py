"""Conditions of a bucket policy: what else must hold for a statement. Pure.

    Condition = {operator ["IfExists"]: {key: value or [values]}}

All operators and keys must hold; of the values of a key, one. An operator that negates holds if no value fits.
If the request has no value for a key, what negates holds, and what does not fails, unless ``IfExists``.

A value that cannot be known here counts against the caller: the condition of a Deny holds then, that of an Allow fails.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from flared.access.globs import matches

VALUES_MAX = 256
"""Of one key."""

TAG_KEYS = ("s3:existingobjecttag/", "s3:requestobjecttag/")
EXISTING_TAG, REQUEST_TAG = TAG_KEYS
HEADER_KEYS = frozenset(
    {
        "s3:x-amz-acl",
        "s3:x-amz-copy-source",
        "s3:x-amz-metadata-directive",
        "s3:x-amz-grant-full-control",
        "s3:x-amz-grant-read",
        "s3:x-amz-grant-read-acp",
        "s3:x-amz-grant-write",
        "s3:x-amz-grant-write-acp",
        "s3:x-amz-server-side-encryption",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:x-amz-storage-class",
    }
)
QUERY_KEYS: Mapping[str, str] = {
    "s3:prefix": "prefix",
    "s3:delimiter": "delimiter",
    "s3:max-keys": "max-keys",
    "s3:versionid": "versionId",
}
HEAD_KEYS: Mapping[str, str] = {"aws:referer": "referer", "aws:useragent": "user-agent"} | {
    key: key.removeprefix("s3:") for key in HEADER_KEYS
}
"""Keys whose values are fields of the head, and the fields."""
SOURCE_IP, SECURE, PRINCIPAL_NAME = "aws:sourceip", "aws:securetransport", "aws:username"
KEYS = frozenset({SOURCE_IP, SECURE, PRINCIPAL_NAME, *HEAD_KEYS, *QUERY_KEYS})


class UnknownValue(Exception):
    """The value of a key cannot be known."""


class Facts(Protocol):
    """What conditions may ask about a request."""

    def value(self, key: str) -> str | None:
        """Return the value of a key, in lower case but for the name of a tag; None if the request has none.

        Raises UnknownValue.
        """


Test = Callable[[str, str], bool]
"""Of a wanted value, and the request's."""


def _in_network(wanted: str, found: str) -> bool:
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address) in ipaddress.ip_network(wanted, strict=False)


def _number(compare: Callable[[float, float], bool]) -> Test:
    def test(wanted: str, found: str) -> bool:
        try:
            return compare(float(found), float(wanted))
        except ValueError:
            return False

    return test


class Operator(NamedTuple):
    test: Test
    negates: bool
    check: Callable[[str], object] = str
    """Raises ValueError for a wanted value that makes no sense."""


def _check_bool(text: str) -> None:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")


def _check_network(text: str) -> None:
    ipaddress.ip_network(text, strict=False)


def _same(wanted: str, found: str) -> bool:
    return wanted == found


def _same_ignoring_case(wanted: str, found: str) -> bool:
    return wanted.lower() == found.lower()


OPERATORS: Mapping[str, Operator] = {
    "StringEquals": Operator(_same, False),
    "StringNotEquals": Operator(_same, True),
    "StringEqualsIgnoreCase": Operator(_same_ignoring_case, False),
    "StringNotEqualsIgnoreCase": Operator(_same_ignoring_case, True),
    "StringLike": Operator(matches, False),
    "StringNotLike": Operator(matches, True),
    "IpAddress": Operator(_in_network, False, _check_network),
    "NotIpAddress": Operator(_in_network, True, _check_network),
    "Bool": Operator(_same_ignoring_case, False, _check_bool),
    "NumericEquals": Operator(_number(lambda found, wanted: found == wanted), False, float),
    "NumericNotEquals": Operator(_number(lambda found, wanted: found == wanted), True, float),
    "NumericLessThan": Operator(_number(lambda found, wanted: found < wanted), False, float),
    "NumericLessThanEquals": Operator(_number(lambda found, wanted: found <= wanted), False, float),
    "NumericGreaterThan": Operator(_number(lambda found, wanted: found > wanted), False, float),
    "NumericGreaterThanEquals": Operator(_number(lambda found, wanted: found >= wanted), False, float),
    "Null": Operator(_same_ignoring_case, False, _check_bool),
}

_NULL = OPERATORS["Null"]


class Condition(NamedTuple):
    """One operator on one key."""

    operator: Operator
    key: str
    values: tuple[str, ...]
    if_exists: bool = False

    def holds(self, facts: Facts) -> bool:
        """Raises UnknownValue."""
        found = facts.value(self.key)
        if self.operator is _NULL:
            return any((found is None) == (wanted.lower() == "true") for wanted in self.values)
        if found is None:
            return self.if_exists or self.operator.negates
        return any(self.operator.test(wanted, found) for wanted in self.values) != self.operator.negates


def parse_conditions(block: object) -> tuple[Condition, ...]:
    """Return the conditions of a statement. Raises ValueError with what is not understood."""
    if not isinstance(block, Mapping):
        raise ValueError("Condition is an object of operators")
    return tuple(
        _parse_condition(word, key, values) for word, keys in block.items() for key, values in _items(str(word), keys)
    )


def _items(word: str, keys: object) -> list[tuple[str, object]]:
    if not isinstance(keys, Mapping) or not keys:
        raise ValueError(f"the condition {word[:80]} is an object of keys")
    return [(str(key), values) for key, values in keys.items()]


def _parse_condition(word: str, key: str, values: object) -> Condition:
    name = word.removesuffix("IfExists")
    operator = OPERATORS.get(name)
    if operator is None or (operator is _NULL and name != word):
        raise ValueError(
            f"the condition {word[:80]} is not one of {', '.join(OPERATORS)}, or one of them with IfExists"
        )
    known = _parse_key(key)
    listed = values if isinstance(values, list) else [values]
    if not 1 <= len(listed) <= VALUES_MAX:
        raise ValueError(f"{key[:80]} has {len(listed)} values; there are 1 to {VALUES_MAX}")
    return Condition(operator, known, tuple(_parse_value(operator, key, value) for value in listed), name != word)


def _parse_key(key: str) -> str:
    lower = key.lower()
    for start in TAG_KEYS:
        if lower.startswith(start) and len(key) > len(start):
            return start + key[len(start) :]
    if lower not in KEYS:
        raise ValueError(f"the condition key {key[:80]} is not known here")
    return lower


def _parse_value(operator: Operator, key: str, value: object) -> str:
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"a value of {key[:80]} is a text")
    if "${" in value:
        raise ValueError(f"{value[:80]}: variables are not known here")
    try:
        operator.check(value)
    except ValueError:
        raise ValueError(f"{value[:80]!r} is not a value for {key[:80]}") from None
    return value
