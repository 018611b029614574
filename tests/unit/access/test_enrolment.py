"""Enrolment: only who knows the secret is answered, and only he who asked can open the answer."""

from __future__ import annotations

import pytest

from flared.access.enrolment import Issued, find_prover, open_issued, prove_request, seal_issued

OLD, NEW = b"the-secret-that-goes", b"the-secret-that-comes"
NONCE, IV = b"n" * 16, b"i" * 12
ISSUED = Issued(b"authority", b"certificate")


def test_a_node_that_knows_one_of_the_secrets_is_answered() -> None:
    for secret in (OLD, NEW):
        proof = prove_request(secret, "data1", NONCE, b"request")
        assert find_prover([NEW, OLD], "data1", NONCE, b"request", proof) == secret
        assert open_issued(seal_issued(ISSUED, secret, "data1", NONCE, IV), secret, "data1", NONCE) == ISSUED


@pytest.mark.parametrize(
    ("node", "nonce", "request_"),
    [("data2", NONCE, b"request"), ("data1", b"m" * 16, b"request"), ("data1", NONCE, b"other")],
)
def test_a_proof_is_for_one_request(node: str, nonce: bytes, request_: bytes) -> None:
    proof = prove_request(NEW, "data1", NONCE, b"request")
    assert find_prover([NEW, OLD], node, nonce, request_, proof) is None
    assert find_prover([OLD], "data1", NONCE, b"request", proof) is None


@pytest.mark.parametrize(
    ("secret", "node", "nonce", "flipped"),
    [
        (OLD, "data1", NONCE, False), (NEW, "data2", NONCE, False), (NEW, "data1", b"m" * 16, False),
        (NEW, "data1", NONCE, True),
    ],
)  # fmt: skip
def test_an_answer_opens_for_its_asker_alone(secret: bytes, node: str, nonce: bytes, flipped: bool) -> None:
    sealed = bytearray(seal_issued(ISSUED, NEW, "data1", NONCE, IV))
    sealed[-1] ^= flipped
    with pytest.raises(ValueError, match="was not sealed for us"):
        open_issued(bytes(sealed), secret, node, nonce)
    with pytest.raises(ValueError, match="was not sealed for us"):
        open_issued(b"", NEW, "data1", NONCE)
