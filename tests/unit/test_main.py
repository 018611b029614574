from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flared.__main__ import main
from flared.config.load import load_config

if TYPE_CHECKING:
    from pathlib import Path


def test_init_writes_a_file_that_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "api"]) == 0
    load_config(tmp_path / "api.toml")
    assert main(["init", "api"]) == 1
    assert main(["init", "data", "mine.toml"]) == 0
    load_config(tmp_path / "mine.toml")


@pytest.mark.parametrize(("role", "option"), [("api", "--listen"), ("data", "--secret-file"), ("data", "--volume")])
def test_init_shows_a_file_but_with_nothing_beside_it(
    capsys: pytest.CaptureFixture[str], role: str, option: str
) -> None:
    assert main(["init", role, "-"]) == 0
    assert f'role = "{role}"' in capsys.readouterr().out
    assert main(["init", role, "-", option, "x"]) == 2
    output = capsys.readouterr()
    assert (output.out, f"leave out {option}" in output.err) == ("", True)


def test_check_config_names_all_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.toml"
    file.write_text('role = "api"\nlisten = 5\nvolums = []\n')
    assert main(["check-config", str(file)]) == 2
    assert main(["--config", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["listen", "volums"] * 2
    file.write_text('role = "api"\n')
    assert main(["check-config", str(file)]) == 0


def test_without_a_command_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "--config FILE" in capsys.readouterr().err


def test_the_command_line_loads_nothing_it_does_not_need() -> None:
    code = "import sys, flared.__main__; print(','.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split(",")
    assert not {"trio", "httpx", "prometheus_client", "httptools", "typer"} & set(loaded)


@pytest.mark.parametrize("role", ["flared.api_role", "flared.data_role"])
def test_a_role_leaves_alone_what_it_rarely_needs(role: str) -> None:
    code = f"import sys, {role}, flared.daemon; print(','.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split(",")
    assert not {"httpx", "prometheus_client", "typer", "rich", "asyncio", "hypothesis"} & set(loaded)
