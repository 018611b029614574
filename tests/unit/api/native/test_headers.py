from __future__ import annotations

import base64
import hashlib

import pytest

from flared.api.fields import format_date, read_conditions
from flared.api.native.headers import (
    check_content_type,
    object_headers,
    promised_digests,
    response_fields,
    write_conditions,
)
from flared.catalog.details import Details
from flared.errors import BadRequest, FlareError, TooLarge
from flared.objects.conditions import ALWAYS, ANY, UNCONDITIONAL


def test_conditions() -> None:
    assert read_conditions({"host": "x"}) is ALWAYS
    assert write_conditions({"host": "x"}) is UNCONDITIONAL
    when = read_conditions({"if-match": '"a", W/"b", c-1', "if-none-match": 'W/"d", "e"'})
    assert when.if_match == ("a", "c-1")
    assert when.if_none_match == ("d", "e")
    assert write_conditions({"if-none-match": " * "}).if_none_match == (ANY,)
    assert write_conditions({"if-match": '"*"'}).if_match == ()
    assert read_conditions({"if-modified-since": "yesterday"}).if_modified_since is None
    assert read_conditions({"if-unmodified-since": "Thu, 01 Jan 1970 00:00:01 GMT"}).if_unmodified_since == 1


def test_conditions_that_cannot_be_heeded_are_refused() -> None:
    for fields in ({"if-match": "a b"}, {"if-none-match": '"a'}, {"if-unmodified-since": format_date(0)}):
        with pytest.raises(BadRequest):
            write_conditions(fields)


def test_digests() -> None:
    md5 = hashlib.md5(b"x").digest()
    digests = promised_digests({"content-md5": base64.b64encode(md5).decode(), "x-flare-content-sha256": "AB" * 32})
    assert (digests.md5, digests.sha256) == (md5, b"\xab" * 32)
    for fields in ({"content-md5": "x"}, {"content-md5": "eA=="}, {"x-flare-content-sha256": "ab"}):
        with pytest.raises(BadRequest):
            promised_digests(fields)


def test_content_types() -> None:
    assert check_content_type(None) == "application/octet-stream"
    assert check_content_type("application/x-www-form-urlencoded") == "application/octet-stream"
    assert check_content_type("text/plain; charset=utf-8") == "text/plain; charset=utf-8"
    with pytest.raises(TooLarge):
        check_content_type("x" * 257)


def check_user(user: dict[str, str], error: type[FlareError] | None) -> None:
    fields = {f"x-flare-meta-{name}": value for name, value in user.items()}
    if error is None:
        assert object_headers(fields).user == user
        return
    with pytest.raises(error):
        object_headers(fields)


def test_user_fields_are_limited_one_by_one_and_together() -> None:
    check_user({}, None)
    check_user({"mtime": "1.5", "a": ""}, None)
    check_user({"a": "x" * 2047}, None)
    check_user({"a": "x" * 2048}, TooLarge)
    check_user(dict.fromkeys("abcd", "x" * 2047), None)
    check_user(dict.fromkeys("abcd", "x" * 2047) | {"e": ""}, TooLarge)
    check_user({"": "x"}, BadRequest)


def test_response_fields_are_kept_and_limited() -> None:
    assert object_headers({"content-type": "a/b"}).details is None
    chosen = {"cache-control": "no-store", "expires": "soon"}
    assert object_headers(chosen | {"x-other": "1", "content-language": ""}).details == Details(chosen)
    assert object_headers({"expires": ""}).details is None
    assert response_fields({"expires": "x" * 2048}) == {"expires": "x" * 2048}
    for fields in ({"expires": "x" * 2049}, dict.fromkeys(("expires", "cache-control"), "x" * 2048)):
        with pytest.raises(TooLarge):
            response_fields(fields)
