from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flarectl import profile, settings
from flarectl.errors import Failure, Usage
from flarectl.proof import find_proof
from flared.access.keys import API_AUDIENCE, authorization, node_token
from tests.support.certificates import CERTIFICATE
from tests.unit.flarectl.conftest import KIB, Run

if TYPE_CHECKING:
    from tests.support.fake_api import FakeApi


def proof_now() -> dict[str, str]:
    return find_proof().fields("GET", "/", "host", {})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("FLARE_ENDPOINT", raising=False)
    return tmp_path / "flare" / "config.toml"


def test_the_flag_comes_before_the_environment_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert profile.find_endpoint("") == (profile.DEFAULT_ENDPOINT, "default")
    settings.write_settings({"endpoint": "http://file:1"})
    assert profile.find_endpoint("")[0] == "http://file:1"
    monkeypatch.setenv("FLARE_ENDPOINT", "http://environment:2")
    assert profile.find_endpoint("")[0] == "http://environment:2"
    assert profile.find_endpoint("http://flag:3/")[0] == "http://flag:3"


@pytest.mark.parametrize(
    "text", ["bla", "ftp://x", "http://", "http://h:x", "http://h:0", "http://h/path", "http://u@h", "a b"]
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="is not a valid endpoint"):
        profile.check_endpoint(text, "--endpoint")


def test_https_is_an_endpoint() -> None:
    assert profile.check_endpoint("https://host:1/", "--endpoint") == "https://host:1"
    assert profile.uses_tls("https://host:1")
    assert not profile.uses_tls("http://host:1")


def test_a_ca_file_that_holds_no_certificates_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    monkeypatch.setenv("FLARE_CA_FILE", str(file))
    with pytest.raises(Failure, match="FLARE_CA_FILE"):
        profile.tls_context()
    file.write_text("nothing")
    with pytest.raises(Usage, match="does not hold certificates in PEM"):
        profile.tls_context()
    file.write_text(CERTIFICATE)
    assert profile.tls_context().get_ca_certs()


def test_host_and_port_are_enough() -> None:
    assert profile.check_endpoint("host:8000", "x") == "http://host:8000"
    assert profile.check_endpoint("[::1]:8000", "x") == "http://[::1]:8000"


@pytest.mark.parametrize("content", ["endpoint = 1", "endpoint = ", "other = 'x'", "\xff"])
def test_a_broken_file_is_named(home: Path, content: str) -> None:
    home.parent.mkdir()
    home.write_bytes(content.encode("latin-1"))
    with pytest.raises(Usage, match=r"config\.toml"):
        profile.find_endpoint("")


def test_settings_are_kept_shown_and_forgotten(run: Run, home: Path) -> None:
    assert run("config", "get", "endpoint").code == 4
    assert run("config", "set", "endpoint", "10.0.0.1:8000").code == 0
    assert run("config", "get", "endpoint").out == "http://10.0.0.1:8000\n"
    assert f"# from {home}" in run("config", "show").out
    assert run("config", "unset", "endpoint").code == 0
    assert run("config", "unset", "colour").code == 2
    assert run("config", "get", "endpoint").code == 4
    assert run("config", "set", "colour", "red").code == 2
    assert run("config", "set", "endpoint", "ftp://x").code == 2
    assert run("config", "set", "endpoint", "bla").code == 2
    assert not home.read_text()


def test_a_secret_that_cannot_be_read_is_kept_with_a_warning(run: Run, home: Path) -> None:
    done = run("config", "set", "secret_file", "/nonexistent")
    assert (done.code, "/nonexistent" in home.read_text()) == (0, True)
    assert done.err.startswith("flarectl: warning: /nonexistent")
    assert "no such file" in done.err


def test_the_flag_may_stand_before_the_command(run: Run) -> None:
    assert "http://before:1" in run("--endpoint", "http://before:1", "config", "show").out
    assert (
        "http://after:1" in run("--endpoint", "http://before:1", "config", "show", "--endpoint", "http://after:1").out
    )


def test_the_proof_is_that_of_the_secret_and_open_secrets_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    assert proof_now() == {}
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef\n")
    secret.chmod(0o600)
    expected = authorization(node_token(b"0123456789abcdef", API_AUDIENCE))
    assert run("config", "set", "secret_file", str(secret)).code == 0
    assert proof_now() == {"authorization": expected}
    assert f'secret_file = "{secret}"' in run("config", "show").out
    monkeypatch.setenv("FLARE_SECRET_FILE", str(tmp_path / "none"))
    assert "secret_file, from FLARE_SECRET_FILE" in run("ls").err
    monkeypatch.delenv("FLARE_SECRET_FILE")
    secret.chmod(0o644)
    with pytest.raises(Usage, match="everybody"):
        proof_now()


def test_every_call_carries_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: FakeApi, run: Run, tree: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef")
    secret.chmod(0o600)
    monkeypatch.setenv("FLARE_SECRET_FILE", str(secret))
    large = Path("large")
    large.write_bytes(bytes(300 * KIB))
    for words in (
        ["put", "-r", "tree", "large", ":"], ["ls", "-l"], ["stat", "large", "--chunks"], ["cp", "large", "copy"],
        ["get", "large", "out"], ["cat", "large"], ["mv", "copy", "other"], ["rm", "large"], ["bucket", "ls"],
        ["status"],
    ):  # fmt: skip
        run(*words)
    assert len(api.requests) > 15
    expected = proof_now()["authorization"]
    assert {fields.get("authorization") for _, _, fields in api.requests} == {expected}
