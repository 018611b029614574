from __future__ import annotations

import hashlib
import hmac

import pytest

from flared.access.keys import API_AUDIENCE, authorization, data_audience, is_authorized, node_token
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
    "field", [None, "", "Flare ", "Flare 00", "Bearer {token}", "{token}", "Flare {token} ", "Flär\xe9"]
)
def test_anything_but_the_token_is_refused(field: str | None) -> None:
    token = node_token(SECRET, API_AUDIENCE)
    assert is_authorized(authorization(token), token)
    assert not is_authorized(field and field.format(token=token), token)


def test_without_a_secret_everybody_may() -> None:
    assert is_authorized(None, None)
    assert is_authorized("Flare 00", None)
