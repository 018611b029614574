"""Certificates of a cluster's own: OpenSSL believes them, only their own secret opens the key, and facts are read."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from flared.access.certificates import (
    Authority,
    fingerprint,
    is_of_key,
    is_signed_by,
    make_authority,
    make_key,
    make_request,
    read_certificate,
    seal_again,
    sign_request,
)

if TYPE_CHECKING:
    from pathlib import Path

SECRET, OTHER = b"a-secret-of-this-cluster", b"the-one-that-comes-later"
NOW = 1_800_000_000.5
NAMES = ("host1", "host1.example.org", "10.0.0.1", "::1")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority("Flare c1", SECRET, NOW)


@pytest.fixture(scope="module")
def key() -> bytes:
    return make_key()


def test_a_certificate_names_its_node_and_host(authority: Authority, key: bytes) -> None:
    made = sign_request(authority, [OTHER, SECRET], "data1", make_request("data1", NAMES, key), NOW)
    facts = read_certificate(made)
    assert set(facts.names) == {"data1", *NAMES}
    assert facts.days_left(NOW) == pytest.approx(365, abs=0.001)
    assert facts.begins < NOW
    assert facts.issuer == "CN=Flare c1"
    assert is_signed_by(made, authority.certificate)
    assert is_of_key(made, key)
    assert not is_of_key(made, make_key())
    assert not is_signed_by(made, make_authority("Flare c1", SECRET, NOW).certificate)
    assert len(fingerprint(made)) == 64


def test_openssl_believes_it_for_servers_and_clients(authority: Authority, key: bytes, tmp_path: Path) -> None:
    (tmp_path / "ca").write_bytes(authority.certificate)
    (tmp_path / "made").write_bytes(sign_request(authority, [SECRET], "data1", make_request("data1", NAMES, key), NOW))
    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-x509_strict", "-attime", f"{NOW:.0f}", "-purpose", purpose]
        command += ["-verify_hostname", "data1", "-CAfile", str(tmp_path / "ca"), str(tmp_path / "made")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_request_of_another_node_is_refused(authority: Authority, key: bytes) -> None:
    with pytest.raises(ValueError, match="not one of node data2"):
        sign_request(authority, [SECRET], "data2", make_request("data1", (), key), NOW)
    altered = bytearray(ssl.PEM_cert_to_DER_cert(
        make_request("data1", (), key).decode().replace("CERTIFICATE REQUEST", "CERTIFICATE").strip()
    ))  # fmt: skip
    altered[-1] ^= 1
    text = ssl.DER_cert_to_PEM_cert(bytes(altered)).replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()
    with pytest.raises(ValueError, match="own key"):
        sign_request(authority, [SECRET], "data1", text, NOW)
    with pytest.raises(ValueError):  # noqa: PT011  # OpenSSL's own words
        sign_request(authority, [SECRET], "data1", b"nothing", NOW)


def test_the_authoritys_key_opens_only_with_its_secret(authority: Authority, key: bytes) -> None:
    assert b"ENCRYPTED" in authority.key
    request = make_request("data1", (), key)
    with pytest.raises(ValueError, match="another secret"):
        sign_request(authority, [OTHER], "data1", request, NOW)
    assert seal_again(authority, [SECRET, OTHER]) is None
    sealed = seal_again(authority, [OTHER, SECRET])
    assert sealed is not None
    assert is_signed_by(sign_request(sealed, [OTHER], "data1", request, NOW), authority.certificate)
    with pytest.raises(ValueError, match="another secret"):
        sign_request(sealed, [SECRET], "data1", request, NOW)
