"""Addresses, as they are written in settings and in fields."""

from __future__ import annotations

import pytest

from flared.errors import BadRequest
from flared.http.address import Address, leads_to_loopback, parse_address


def test_addresses() -> None:
    assert parse_address("localhost:80") == ("localhost", 80)
    assert parse_address("[::1]:9000") == ("::1", 9000)
    assert str(Address("::1", 9000)) == "[::1]:9000"
    for text in ("localhost", ":80", "a:b", "a:70000", "::1:80", "a/b:80", "a:80/"):
        with pytest.raises(BadRequest):
            parse_address(text)


def test_which_addresses_lead_to_this_machine() -> None:
    for text in ("127.0.0.1:80", "127.8.9.1:80", "[::1]:80", "localhost:80"):
        assert leads_to_loopback(text)
    for text in ("127.example:80", "127.0.0.1.example:80", "10.0.0.1:80", "[::2]:80", "localhost.example:80"):
        assert not leads_to_loopback(text)
