from __future__ import annotations

import pytest

from flared.access.access_key import AccessKey
from flared.access.grants import parse_grants
from flared.access.identity import ANONYMOUS, CLUSTER, LOCAL, WRONG_SECRET, Identity, Who, identify, key_identity
from flared.access.keys import API_AUDIENCE, Keyring, authorization, node_token
from flared.http.eviction import Standing

KEYRING = Keyring([b"the secret of it"])
TOKEN = node_token(b"the secret of it", API_AUDIENCE)
RIGHT = authorization(TOKEN)
AWAY = "10.0.0.7:4711"


@pytest.mark.parametrize(
    ("peer", "field", "identity"),
    [
        ("127.0.0.1:5", None, LOCAL),
        ("127.8.8.8:5", "Flare wrong", LOCAL),
        ("[::1]:5", RIGHT, CLUSTER),
        (AWAY, None, ANONYMOUS),
        (AWAY, RIGHT, CLUSTER),
        (AWAY, "", WRONG_SECRET),
        (AWAY, TOKEN, WRONG_SECRET),
        (AWAY, RIGHT + " ", WRONG_SECRET),
        (AWAY, authorization("0" * 64), WRONG_SECRET),
        (AWAY, authorization(node_token(b"the secret of it", "data:data1")), WRONG_SECRET),
        ("[::1:2]:5", None, ANONYMOUS),
        ("[::ffff:127.0.0.1]:5", None, ANONYMOUS),
        ("1127.0.0.1:5", None, ANONYMOUS),
    ],
)
def test_who_calls(peer: str, field: str | None, identity: Identity) -> None:
    assert identify(KEYRING, peer, field) is identity


def test_without_a_secret_no_field_proves_one() -> None:
    assert identify(Keyring(), AWAY, "Flare 0") is WRONG_SECRET
    assert identify(Keyring(), "127.0.0.1:5", RIGHT) is LOCAL


def test_each_secret_of_a_replacement_is_known() -> None:
    keyring = Keyring([b"the next secret of it", b"the secret of it"])
    assert identify(keyring, AWAY, RIGHT) is CLUSTER
    keyring.change([b"the next secret of it"])
    assert identify(keyring, AWAY, RIGHT) is WRONG_SECRET


def test_what_each_proves() -> None:
    proved = {identity.who: identity.proved for identity in (ANONYMOUS, LOCAL, CLUSTER)}
    assert proved == {
        Who.ANONYMOUS: Standing.STRANGER,
        Who.LOCAL: Standing.TRUSTED,
        Who.CLUSTER: Standing.TRUSTED,
    }


def test_a_key_has_its_name_and_only_an_admins_counts_as_the_cluster() -> None:
    key = AccessKey("FL" + "A" * 18, "laptop", "s" * 40, parse_grants(["read:*"]))
    identity = key_identity(key)
    assert (identity.who, identity.name, str(identity), identity.proved) == (
        Who.KEY, "laptop", "key:laptop", Standing.GUEST,
    )  # fmt: skip
    admin = key_identity(AccessKey(key.id, "root", key.secret, parse_grants(["admin"])))
    assert admin.proved is Standing.TRUSTED
    assert key.secret not in repr(identity)
    assert (str(CLUSTER), CLUSTER.name, str(ANONYMOUS)) == ("cluster", "", "anonymous")
