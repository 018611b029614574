from __future__ import annotations

import pytest

from flared.access.invites import (
    IV_BYTES,
    PREFIX,
    JoinToken,
    find_key,
    format_token,
    invite_key,
    is_of_cluster,
    parse_token,
    prove,
    seal,
    unseal,
)
from flared.access.keys import API_AUDIENCE, node_token

SECRETS = (b"the cluster's secret", b"the one before it")
INVITE, NONCE, IV = bytes(range(16)), bytes(range(16, 32)), bytes(IV_BYTES)
KEY = invite_key(SECRETS[0], INVITE)
TOKEN = JoinToken(INVITE, KEY, ("http://10.0.0.1:8000", "http://[fd00::1]:8000"), "data1")


def test_a_token_is_one_word_and_says_it_all() -> None:
    word = format_token(TOKEN)
    assert word.startswith(PREFIX)
    assert word.replace("-", "").replace("_", "").isalnum()
    assert parse_token(f" {word}\n") == TOKEN
    nameless = JoinToken(INVITE, KEY, ("http://api:8000",))
    assert parse_token(format_token(nameless)) == nameless


def test_a_word_that_is_not_a_token_is_recognised() -> None:
    word = format_token(TOKEN)
    broken = ["", "x", PREFIX, word[:-1], word + "A", word[len(PREFIX) :], PREFIX + "é", PREFIX + "A" * 5000, "-"]
    broken += [word.replace(word[20], "B" if word[20] != "B" else "C", 1)]
    broken += [format_token(JoinToken(INVITE, KEY, apis)) for apis in ((), ("ftp://x",), ("http://a b",))]
    for text in broken:
        with pytest.raises(ValueError, match="not a whole join token"):
            parse_token(text)


def test_the_proof_is_of_the_token_the_node_and_the_nonce() -> None:
    proof = prove(KEY, INVITE, "data1", NONCE)
    assert find_key(SECRETS, INVITE, "data1", NONCE, proof) == KEY
    assert find_key(SECRETS[::-1], INVITE, "data1", NONCE, proof) == KEY
    assert find_key(SECRETS[1:], INVITE, "data1", NONCE, proof) is None
    assert find_key((), INVITE, "data1", NONCE, proof) is None
    assert find_key(SECRETS, NONCE, "data1", NONCE, proof) is None
    assert find_key(SECRETS, INVITE, "data2", NONCE, proof) is None
    assert find_key(SECRETS, INVITE, "data1", INVITE, proof) is None
    assert proof.hex() != node_token(SECRETS[0], API_AUDIENCE)


def test_the_secrets_are_for_who_has_the_token_and_this_nonce() -> None:
    sealed = seal(SECRETS, KEY, INVITE, "data1", NONCE, IV)
    assert not any(secret in sealed for secret in (*SECRETS, KEY))
    assert unseal(sealed, KEY, INVITE, "data1", NONCE) == SECRETS
    for key, invite, node, nonce in (
        (invite_key(SECRETS[1], INVITE), INVITE, "data1", NONCE),
        (KEY, NONCE, "data1", NONCE),
        (KEY, INVITE, "data2", NONCE),
        (KEY, INVITE, "data1", INVITE),
    ):
        with pytest.raises(ValueError, match="not sealed for us"):
            unseal(sealed, key, invite, node, nonce)
    for other in (b"", sealed[:11], sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), bytes(60)):
        with pytest.raises(ValueError, match="not sealed for us"):
            unseal(other, KEY, INVITE, "data1", NONCE)


def test_a_token_knows_the_secrets_of_its_cluster() -> None:
    assert is_of_cluster(TOKEN, SECRETS)
    assert is_of_cluster(TOKEN, SECRETS[::-1])
    assert not is_of_cluster(TOKEN, SECRETS[1:])
