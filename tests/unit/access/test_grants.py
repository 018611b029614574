from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.access.grants import GRANTS_MAX, Grant, Permission, allows, parse_grant, parse_grants, parse_scope
from flared.errors import BadName, BadRequest

READ, WRITE = Permission.READ, Permission.WRITE


@pytest.mark.parametrize(
    ("text", "grant"),
    [
        ("read:photos", Grant(READ, "photos")),
        ("write:photos/2024/", Grant(WRITE, "photos", "2024/")),
        ("list:photos/", Grant(Permission.LIST, "photos")),
        ("delete:*", Grant(Permission.DELETE, "*")),
        ("read:logs-*/a b/ü", Grant(READ, "logs-*", "a b/ü")),
        ("create:*", Grant(Permission.CREATE, "*")),
        ("create:logs-*", Grant(Permission.CREATE, "logs-*")),
        ("admin", Grant(Permission.ADMIN)),
        ("read:photos/a:b/c", Grant(READ, "photos", "a:b/c")),
    ],
)
def test_a_grant_is_read(text: str, grant: Grant) -> None:
    assert parse_grant(text) == grant
    assert parse_grant(str(grant)) == grant


@pytest.mark.parametrize(
    "text",
    [
        "", "photos", "read", "read:", "read:/a", "READ:photos", "own:photos", "admin:photos", "admin:",
        "read:Photos", "read:a", "read:**", "read:-*", "read:*-logs", "read:logs*x", "read:192.168.0.1",
        "create:photos/a", "create:photos/", "read:photos/a*", "read:photos/\0", "read:photos/\ud800",
        "read:photos/" + "a" * 1025, "read:*/*",
    ],
)  # fmt: skip
def test_what_is_not_a_grant_is_refused(text: str) -> None:
    with pytest.raises((BadRequest, BadName)):
        parse_grant(text)


@given(st.text(max_size=40))
def test_any_text_is_a_grant_that_reads_back_or_is_refused(text: str) -> None:
    for permission in Permission:
        try:
            grant = parse_grant(text) if permission is Permission.ADMIN else parse_scope(permission, text)
        except (BadRequest, BadName):
            continue
        assert parse_grant(str(grant)) == grant


@pytest.mark.parametrize(
    ("scope", "bucket", "key", "covered"),
    [
        ("photos", "photos", "a", True),
        ("photos", "photos", "", True),
        ("photos", "photos2", "a", False),
        ("photos", "photo", "a", False),
        ("photos/2024/", "photos", "2024/a", True),
        ("photos/2024/", "photos", "2024/", True),
        ("photos/2024/", "photos", "2024", False),
        ("photos/2024/", "photos", "2023/a", False),
        ("photos/2024/", "photos", "", False),
        ("photos/2024/", "others", "2024/a", False),
        ("*", "photos", "a", True),
        ("*/tmp/", "photos", "tmp/a", True),
        ("*/tmp/", "photos", "a", False),
        ("logs-*", "logs-a", "x", True),
        ("logs-*", "logs", "x", False),
        ("logs-*", "photos", "x", False),
    ],
)
def test_what_a_grant_covers(scope: str, bucket: str, key: str, covered: bool) -> None:
    grant = parse_scope(READ, scope)
    assert grant.covers(READ, bucket, key) is covered
    assert not grant.covers(WRITE, bucket, key)
    assert allows((Grant(WRITE, "others"), grant), READ, bucket, key) is covered
    if covered:
        assert grant.touches(bucket)


def test_grants_are_kept_once_and_are_limited() -> None:
    assert parse_grants(["read:a-1", "admin", "read:a-1"]) == (Grant(READ, "a-1"), Grant(Permission.ADMIN))
    parse_grants([f"read:bucket-{number}" for number in range(GRANTS_MAX)])
    with pytest.raises(BadRequest, match="at most 64"):
        parse_grants([f"read:bucket-{number}" for number in range(GRANTS_MAX + 1)])
