from __future__ import annotations

import hashlib
import hmac

import pytest

from flared.access.keys import (
    API_AUDIENCE,
    SECRETS_MAX,
    Keyring,
    authorization,
    data_audience,
    node_token,
    parse_secrets,
)
from flared.names import NodeName

SECRET = b"the cluster's secret"


def test_the_token_is_the_hmac_the_design_names() -> None:
    token = node_token(SECRET, data_audience(NodeName("data1")))
    assert token == hmac.digest(SECRET, b"data:data1", hashlib.sha256).hex()
    assert authorization(token) == f"Flare {token}"


def test_each_audience_has_its_own() -> None:
    audiences = [API_AUDIENCE, data_audience(NodeName("data1")), data_audience(NodeName("api"))]
    assert len({node_token(SECRET, audience) for audience in audiences}) == 3


@pytest.mark.parametrize(
    "field", [None, "", "Flare ", "Flare 00", "Bearer {token}", "{token}", "Flare {token} ", "Fl\xe4r\xe9"]
)
def test_anything_but_the_token_is_refused(field: str | None) -> None:
    keyring = Keyring([SECRET])
    token = node_token(SECRET, API_AUDIENCE)
    assert keyring.admits(authorization(token), API_AUDIENCE)
    assert not keyring.admits(authorization(token), "data:api")
    assert not keyring.admits(field and field.format(token=token), API_AUDIENCE)


def test_without_a_secret_everybody_may() -> None:
    assert Keyring().admits(None, API_AUDIENCE)
    assert Keyring().admits("Flare 00", API_AUDIENCE)
    assert Keyring().token(API_AUDIENCE) is None


def test_the_first_secret_signs_and_each_one_opens() -> None:
    old, new = (authorization(node_token(secret, API_AUDIENCE)) for secret in (b"old", b"new"))
    keyring = Keyring([b"old"])
    opened = []
    for secrets in ([b"old"], [b"old", b"new"], [b"new", b"old"], [b"new"]):
        keyring.change(secrets)
        opened.append((keyring.admits(old, API_AUDIENCE), keyring.admits(new, API_AUDIENCE)))
        assert keyring.token(API_AUDIENCE) == node_token(secrets[0], API_AUDIENCE)
    assert opened == [(True, False), (True, True), (True, True), (False, True)]


def test_secrets_stand_one_a_line() -> None:
    one, two = b"0123456789abcdef", b"fedcba9876543210"
    assert parse_secrets(one) == (one,)
    assert parse_secrets(b"\n  " + one + b" \r\n\n" + two + b"\n\n") == (one, two)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b" \n\n", "empty"),
        (b"0" * 16 + b"\n" + b"1" * 15, "line 2 holds 15 bytes; a secret has from 16 to 4096"),
        (b"0" * 4097, "line 1 holds 4097 bytes"),
        (b"0" * 16 + b"\n\n" + b"0" * 16, "line 3 repeats an earlier one"),
        (b"\n".join(b"%016d" % number for number in range(SECRETS_MAX + 1)), "9 secrets; at most 8"),
        (b"0" * 100_000, "more than"),
    ],
)
def test_lines_that_are_not_secrets_are_reported(content: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_secrets(content)
