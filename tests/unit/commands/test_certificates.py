"""Certificates of nodes: which are renewed, which are left alone, and what a crash leaves."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from flared.access.certificates import fingerprint, is_of_key, make_key, read_certificate
from flared.access.enrolment import Issued
from flared.commands import certificates
from flared.commands.certificates import NodeFiles, host_names_of, make_certificate, make_own_authority, sign_here
from flared.commands.prepare import NotPrepared
from flared.http.address import Address
from tests.support.certificates import CERTIFICATE, KEY, SECRET, OwnAuthority

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86400


class Host:
    """A host whose certificate is made by the authority beside it."""

    def __init__(self, directory: Path) -> None:
        self.files = NodeFiles.below(directory / "api.toml")
        self.ca_key = self.files.ca.with_suffix(".key")
        self.said: list[str] = []
        make_own_authority(self.files.ca, self.ca_key, [SECRET], self.said.append)

    def make(self, *names: str, force: bool = False) -> bool:
        ask = sign_here(self.files.ca, self.ca_key, "api", [SECRET])
        return make_certificate(self.files, "api", names or ("host1",), ask, self.said.append, force=force)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_certificate_is_renewed_when_it_is_due(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.make()
    assert not host.make()
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 304 * DAY)
    assert not host.make()
    monkeypatch.setattr("time.time", lambda: now + 306 * DAY)
    assert host.make()
    assert "ends in 59 days" in host.said[-2]
    assert host.make("host1", "host2")
    assert "does not name host2" in host.said[-2]
    assert host.make("host1", force=True)
    assert is_of_key(host.files.certificate.read_bytes(), host.files.key.read_bytes())


def test_what_another_authority_made_is_left_alone(host: Host) -> None:
    host.files.certificate.write_text(CERTIFICATE)
    host.files.key.write_text(KEY)
    for force in (False, True):
        assert not host.make(force=force)
        assert host.files.certificate.read_text() == CERTIFICATE
    host.files.certificate.unlink()
    assert host.make()
    host.files.key.write_bytes(make_key())
    with pytest.raises(NotPrepared, match="is not for"):
        host.make()


def test_a_crash_leaves_the_old_certificate_or_the_new_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.make()
    before = host.files.certificate.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        host.make(force=True)
    assert host.files.certificate.read_bytes() == before
    assert sorted(os.listdir(host.files.ca.parent)) == ["api.key", "api.pem", "ca.key", "ca.pem"]


def test_an_authority_that_lost_a_file_is_not_made_anew(host: Host) -> None:
    host.ca_key.unlink()
    with pytest.raises(NotPrepared, match=r"ca.key is missing"):
        make_own_authority(host.files.ca, host.ca_key, [SECRET], host.said.append)
    with pytest.raises(NotPrepared, match="give the node a secret_file"):
        make_own_authority(host.files.ca, host.ca_key, [], host.said.append)


def test_the_authority_that_is_handed_over_comes_first_and_others_stay(host: Host, tmp_path: Path) -> None:
    other = OwnAuthority(tmp_path / "other")
    files = NodeFiles.below(tmp_path / "data" / "data1.toml")
    files.ca.parent.mkdir(parents=True)
    files.ca.write_text(CERTIFICATE)
    sign = sign_here(host.files.ca, host.ca_key, "data1", [SECRET])
    for _ in range(2):
        make_certificate(files, "data1", ["host1"], sign, host.said.append, force=True)
        assert files.ca.read_bytes() == host.files.ca.read_bytes() + CERTIFICATE.encode()
    wrong = other.authority.certificate
    with pytest.raises(NotPrepared, match="is not for"):
        make_certificate(files, "data1", ["host1"], lambda _: Issued(wrong, wrong), host.said.append, force=True)


def test_a_crash_between_authority_and_certificate_is_mended_by_the_next_run(host: Host, tmp_path: Path) -> None:
    """The new authority is first in the file, and the certificate is still of the one behind it."""
    host.make()
    new = OwnAuthority(tmp_path / "new").authority.certificate
    host.files.ca.write_bytes(new + host.files.ca.read_bytes())
    assert not host.make()
    assert "days more" in host.said[-1]


def test_a_key_has_its_owner_before_it_has_its_name(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def give(path: Path, *, group_only: bool = False) -> None:
        assert not host.files.key.exists()
        given.append(path.name)

    monkeypatch.setattr(certificates, "give", give)
    host.make()
    assert any(name.startswith(".api.key.") for name in given)


def test_the_names_of_a_host(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "h1")
    monkeypatch.setattr("socket.getfqdn", lambda: "h1.example.org")
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("10.0.0.7", 0))])
    monkeypatch.setattr(certificates, "_route_address", lambda target: "10.0.0.8" if "." in target else "")
    names = host_names_of(["0.0.0.0", "10.0.0.9"])
    assert names == ["10.0.0.9", "h1", "h1.example.org", "10.0.0.7", "10.0.0.8", "localhost", "127.0.0.1", "::1"]
    host.make(*names)
    assert set(read_certificate(host.files.certificate.read_bytes()).names) == {"api", *names}
    digits = fingerprint(host.files.ca.read_bytes())
    for listen, url in (("0.0.0.0", "h1.example.org"), ("10.0.0.9", "10.0.0.9"), ("fd00::1", "[fd00::1]")):
        said = certificates.describe_endpoint(Address(listen, 8000), host.files.ca)
        assert said == f"https://{url}:8000#{digits}"
