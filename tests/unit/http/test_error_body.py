"""The body of an error is read as it was written, and any other answer of a peer is not an error of ours."""

from __future__ import annotations

import pytest

from flared.http.error_body import ErrorBody, pack_error, parse_error


def test_what_was_packed_is_parsed() -> None:
    assert parse_error(pack_error("Busy", "too many ä", "7-1")) == ErrorBody("Busy", "too many ä", "7-1")
    assert parse_error(pack_error("Busy", "later")) == ErrorBody("Busy", "later", "")
    assert b"request_id" not in pack_error("Busy", "later")


FOREIGN = [b"", b"<html>", b"\xff\xfe", b"null", b"[]", b"{}", b'{"error": null}', b'{"error": {"code": 1}}']


@pytest.mark.parametrize("body", FOREIGN)
def test_the_words_of_others_are_not_ours(body: bytes) -> None:
    assert parse_error(body) == ErrorBody("", "", "")
