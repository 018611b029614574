"""The table of operations is the one that docs/s3.md shows, and every request means at most one of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flared.api.s3.operations import ALIASES, CALLS, OPERATIONS, PREFLIGHT, On
from flared.api.s3.routes import find_operation
from flared.errors import Refused

PAGE = Path(__file__).resolve().parents[4] / "docs/s3.md"


def test_the_page_says_of_every_operation_whether_it_is_here() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| (yes|no) \|", PAGE.read_text(), re.MULTILINE))
    assert rows == {operation.name: "yes" if operation.action else "no" for operation in OPERATIONS}


def test_every_operation_has_one_row() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))
    assert not ALIASES.keys() & set(names)
    assert set(ALIASES.values()) <= set(names)
    assert CALLS.keys() <= {*names, PREFLIGHT.name}


@pytest.mark.parametrize(
    "operation", [row for row in OPERATIONS if row.on is not On.ELSEWHERE], ids=lambda row: row.name
)
def test_a_request_for_an_operation_finds_it(operation: object) -> None:
    row = next(row for row in OPERATIONS if row is operation)
    query = "&".join(part if "=" in part else f"{part}=1" for part in row.query)
    fields = {row.header: "/b/k"} if row.header else {}
    assert find_operation(row.method, row.on, query, fields) is row
    # What SDKs add changes nothing.
    assert find_operation(row.method, row.on, f"x-id={row.name}&{query}", fields) is row


@pytest.mark.parametrize(
    ("method", "place", "query"),
    [
        ("DELETE", On.BUCKET, "acl"),
        ("DELETE", On.OBJECT, "acl"),
        ("PUT", On.OBJECT, "uploads"),
        ("POST", On.OBJECT, ""),
        ("PATCH", On.OBJECT, ""),
        ("PUT", On.SERVICE, ""),
        ("DELETE", On.OBJECT, "newthing"),
        ("PUT", On.BUCKET, "newthing=1"),
        ("GET", On.OBJECT, "acl&tagging"),
        ("GET", On.OBJECT, "acl&acl"),
        ("GET", On.OBJECT, "acl=%zz"),
        ("PUT", On.OBJECT, "uploadId=1"),
    ],
)
def test_what_means_nothing_or_two_things_is_refused(method: str, place: On, query: str) -> None:
    """A sub-resource that is not known must never fall back to the whole: DELETE ?acl does not delete the object."""
    with pytest.raises(Refused):
        find_operation(method, place, query, {})


def test_reads_ignore_names_that_s3_does_not_have() -> None:
    assert find_operation("GET", On.OBJECT, "cachebuster=1", {}).name == "GetObject"
    assert find_operation("GET", On.BUCKET, "list-type=1", {}).name == "ListObjects"
