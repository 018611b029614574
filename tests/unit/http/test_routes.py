"""Paths to targets, and percent-encoding."""

from __future__ import annotations

import pytest

from flared.errors import BadRequest
from flared.http.address import Address, parse_address
from flared.http.routes import Routes, decode, parse_query

ROUTES: Routes[str] = Routes()
ROUTES.add("GET", "/object/{key*}", "get")
ROUTES.add("PUT", "/object/{key*}", "put")
ROUTES.add("GET", "/bucket/{bucket}/object/{key*}", "get in bucket")
ROUTES.add("GET", "/bucket/{bucket}", "list")
ROUTES.add("GET", "/status", "status")


@pytest.mark.parametrize(
    ("path", "target", "parameters"),
    [
        ("/object/a", "get", {"key": "a"}),
        ("/object/", "get", {"key": ""}),
        ("/object/a/../b//c/.", "get", {"key": "a/../b//c/."}),
        ("/object/a%2Fb%2520+c", "get", {"key": "a/b%20+c"}),
        ("/object/%00", "get", {"key": "\0"}),
        ("/object/%C3%A4\xc3\xb6", "get", {"key": "äö"}),
        ("/bucket/b/object/x/y", "get in bucket", {"bucket": "b", "key": "x/y"}),
        ("/bucket/b", "list", {"bucket": "b"}),
        ("/status", "status", {}),
    ],
)
def test_paths_find_their_target(path: str, target: str, parameters: dict[str, str]) -> None:
    match = ROUTES.find("GET", path)
    assert match is not None
    assert match.target == target
    assert match.parameters == parameters


@pytest.mark.parametrize("path", ["/", "/objec", "/object", "/bucket/", "/bucket/b/c", "/status/", "//status", "*"])
def test_paths_that_lead_nowhere(path: str) -> None:
    assert ROUTES.find("GET", path) is None
    assert ROUTES.methods(path) == []


def test_methods_of_a_path() -> None:
    assert ROUTES.find("DELETE", "/object/a") is None
    assert ROUTES.methods("/object/a") == ["GET", "PUT"]


@pytest.mark.parametrize("raw", ["%", "%4", "%zz", "a%", "%ff", "%C3", "\xff"])
def test_bad_encodings_are_refused(raw: str) -> None:
    with pytest.raises(BadRequest):
        decode(raw)


def test_queries() -> None:
    assert parse_query("") == {}
    assert parse_query("chunks") == {"chunks": ""}
    assert parse_query("a=b%3Dc&d=e+f%2Bg&&a=h=i") == {"a": "h=i", "d": "e f+g"}


def test_addresses() -> None:
    assert parse_address("localhost:80") == ("localhost", 80)
    assert parse_address("[::1]:9000") == ("::1", 9000)
    assert str(Address("::1", 9000)) == "[::1]:9000"
    for text in ("localhost", ":80", "a:b", "a:70000", "::1:80", "a/b:80", "a:80/"):
        with pytest.raises(BadRequest):
            parse_address(text)
