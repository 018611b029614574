from __future__ import annotations

import pytest

from flared.access.access_key import (
    ID_BYTES,
    SECRET_BYTES,
    AccessKey,
    is_access_key_id,
    make_id,
    make_secret,
    parse_key_name,
)
from flared.access.grants import parse_grants
from flared.errors import BadName


def test_ids_and_secrets_have_their_form() -> None:
    assert make_id(bytes(ID_BYTES)) == "FL" + "A" * 18
    assert make_id(b"\xff" * ID_BYTES) == "FL" + "7" * 18
    assert is_access_key_id(make_id(bytes(range(ID_BYTES))))
    assert make_secret(b"\xff" * SECRET_BYTES) == "_" * 40


@pytest.mark.parametrize("text", ["", "FL", "AK" + "A" * 18, "FL" + "a" * 18, "FL" + "A" * 19, "FL" + "A" * 18 + "\n"])
def test_what_is_not_an_id(text: str) -> None:
    assert not is_access_key_id(text)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "ä", "a" * 64, "a\n"])
def test_a_name_that_breaks_the_rules_is_refused(name: str) -> None:
    with pytest.raises(BadName):
        parse_key_name(name)
    assert parse_key_name("laptop_1.home-2") == "laptop_1.home-2"


def test_a_key_does_not_show_its_secret() -> None:
    secret = make_secret(bytes(range(SECRET_BYTES)))
    key = AccessKey(make_id(bytes(ID_BYTES)), "laptop", secret, parse_grants(["read:photos"]))
    assert secret not in repr(key)
    assert secret not in f"{key}"
    assert not key.is_admin
    assert AccessKey(key.id, "root", secret, parse_grants(["read:photos", "admin"])).is_admin
