"""Profiles, the environment and the file: which of them is gone by, and who may read what."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from flarectl import settings
from flarectl.errors import Usage
from flarectl.profile import find_endpoint
from flarectl.proof import KeyProof, Proof, SecretProof, find_key, find_proof

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.flarectl.conftest import Run

ID, OTHER = "FLABCDEFGHIJKLMNOPQR", "FL22222222222222222A"
SECRET = "S3cret-" + "x" * 33


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in (*settings.VARIABLES.values(), settings.PROFILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "flare" / "config.toml"
    settings.use_profile("")


def key_now() -> str:
    key = find_key()
    return f"{key.access_key} {key.secret}" if key else ""


def test_a_profile_has_settings_of_its_own(run: Run, home: Path) -> None:
    assert run("config", "set", "endpoint", "http://top:1").code == 0
    assert run("--profile", "work", "config", "set", "endpoint", "http://work:1").code == 0
    assert run("--profile", "work", "config", "set", "access_key", ID).code == 0
    assert run("config", "get", "endpoint").out == "http://top:1\n"
    assert run("--profile", "work", "config", "get", "endpoint").out == "http://work:1\n"
    assert run("config", "get", "access_key").code == 4
    assert (
        "its profile work"
        in run("--profile", "work", "config", "unset", "access_key").out
        + run("--profile", "work", "config", "show").out
    )
    assert "[profile.work]" in home.read_text()
    assert settings.list_profiles() == ["work"]


def test_a_profile_that_is_not_there_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("--profile", "work", "ls")
    assert done.code == 2
    assert "no profile 'work'" in done.err
    assert run("--profile", "a/b", "ls").code == 2
    monkeypatch.setenv("FLARE_PROFILE", "home")
    assert "no profile 'home'" in run("ls").err


def test_the_environment_goes_before_the_file_and_a_chosen_profile_before_both(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("config", "set", "endpoint", "http://top:1")
    run("--profile", "work", "config", "set", "endpoint", "http://work:1")
    settings.use_profile("")
    assert find_endpoint("")[0] == "http://top:1"
    monkeypatch.setenv("FLARE_PROFILE", "work")
    assert find_endpoint("")[0] == "http://work:1"
    monkeypatch.setenv("FLARE_ENDPOINT", "http://environment:1")
    assert find_endpoint("")[0] == "http://environment:1"
    settings.use_profile("work")
    assert find_endpoint("")[0] == "http://work:1"
    assert find_endpoint("http://flag:1")[0] == "http://flag:1"


def test_the_secret_key_is_never_an_argument_nor_printed(run: Run, home: Path) -> None:
    done = run("config", "set", "secret_key", SECRET)
    assert done.code == 2
    assert "never an argument" in done.err
    assert not home.exists()
    assert "terminal" in run("config", "set", "secret_key").err
    settings.write_settings({"access_key": ID, "secret_key": SECRET})
    for words in (("config", "get", "secret_key"), ("config", "show")):
        done = run(*words)
        assert SECRET not in done.out + done.err
    assert f'access_key = "{ID}"' in run("config", "show").out


def test_the_secret_key_comes_from_a_file(run: Run, tmp_path: Path, home: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    run("config", "set", "access_key", ID)
    assert run("config", "set", "secret_key", "--file", str(file)).code == 0
    assert key_now() == f"{ID} {SECRET}"
    assert home.stat().st_mode & 0o777 == 0o600


def test_id_and_secret_come_from_the_file_that_key_create_wrote(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"[default]\naws_access_key_id = {OTHER}\naws_secret_access_key = {SECRET}\n")
    assert "access_key and secret_key are kept" in run("config", "set", "access_key", "--file", str(file)).out
    assert key_now() == f"{OTHER} {SECRET}"


@pytest.mark.parametrize("content", ["", "one\ntwo\n", "aws_access_key_id = FLX\n", "a b\n", "x" * 200])
def test_a_file_without_a_key_is_refused(run: Run, tmp_path: Path, home: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    assert run("config", "set", "secret_key", "--file", str(file)).code == 2
    assert run("config", "set", "secret_key", "--file", str(tmp_path / "none")).code == 4
    assert not home.exists()


def test_what_cannot_be_an_id_is_refused(run: Run) -> None:
    assert run("config", "set", "access_key", "AKIA").code == 2
    assert run("config", "set", "endpoint").code == 2
    assert run("config", "set", "endpoint", "--file", "x").code == 2


def test_a_file_with_a_secret_that_others_may_read_is_refused(home: Path, run: Run) -> None:
    settings.write_settings({"access_key": ID, "secret_key": SECRET})
    home.chmod(0o640)
    done = run("ls")
    assert done.code == 2
    assert f"chmod go= {home}" in done.err


def test_half_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.write_settings({"access_key": ID})
    with pytest.raises(Usage, match=re.escape("flarectl config set secret_key")):
        find_proof()
    monkeypatch.setenv("FLARE_SECRET_KEY", SECRET)
    with pytest.raises(Usage, match="set FLARE_ACCESS_KEY as well"):
        find_proof()
    monkeypatch.setenv("FLARE_ACCESS_KEY", OTHER)
    assert key_now() == f"{OTHER} {SECRET}"


def test_a_key_goes_before_the_secret_of_the_cluster_in_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(find_proof()) is Proof
    file = tmp_path / "secret"
    file.write_text("0123456789abcdef")
    file.chmod(0o600)
    settings.write_settings({"access_key": ID, "secret_key": SECRET, "secret_file": str(file)})
    assert isinstance(find_proof(), KeyProof)
    monkeypatch.setenv("FLARE_SECRET_FILE", str(file))
    assert isinstance(find_proof(), SecretProof)


@pytest.mark.parametrize(
    "content", ["profile = 1", "[profile]\nwork = 1", "[profile.work]\nother = 'x'", "[profile.work]\nendpoint = 1"]
)
def test_a_broken_file_is_named(home: Path, content: str) -> None:
    home.parent.mkdir()
    home.write_text(content)
    with pytest.raises(Usage, match=r"config\.toml"):
        find_endpoint("")
