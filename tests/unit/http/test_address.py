"""Addresses, as they are written in settings and in fields."""

from __future__ import annotations

import pytest

from flared.errors import BadRequest
from flared.http.address import Address, parse_address


def test_addresses() -> None:
    assert parse_address("localhost:80") == ("localhost", 80)
    assert parse_address("[::1]:9000") == ("::1", 9000)
    assert str(Address("::1", 9000)) == "[::1]:9000"
    for text in ("localhost", ":80", "a:b", "a:70000", "::1:80", "a/b:80", "a:80/"):
        with pytest.raises(BadRequest):
            parse_address(text)
