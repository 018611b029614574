"""packaging/deb/build.sh without its build dependencies: root gets them installed, others get the command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "packaging/deb/build.sh"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Debian's tools where nothing that a build needs is installed, and apt-get cannot install anything."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, script in {
        "dpkg-checkbuilddeps": "exit 1",
        "dpkg-buildpackage": "exit 1",
        "apt-get": f'echo "$*" >> {tmp_path}/asked; [ "$1" = update ]',
        "id": "echo ${FAKE_UID:?}",
    }.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return directory


def build(tools: Path, uid: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{tools}:/usr/bin:/bin", "FAKE_UID": str(uid)}
    command = ["sh", str(SCRIPT), str(tools.parent / "out")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_others_get_the_one_command(tools: Path) -> None:
    done = build(tools, 1000)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    command = f"sudo apt-get build-dep --yes --no-install-recommends '{SCRIPT.parents[0]}'"
    assert done.stderr.endswith(f"Type this, then run me again: {command}\n")
    assert not (tools.parent / "asked").exists()


def test_root_gets_them_installed(tools: Path) -> None:
    done = build(tools, 0)
    asked = (tools.parent / "asked").read_text().splitlines()
    assert asked == ["update --quiet", f"build-dep --yes --no-install-recommends {SCRIPT.parents[0]}"]
    assert done.returncode == 1
    assert "this failed: apt-get build-dep" in done.stderr


def test_without_apt_it_says_where_packages_are_built(tools: Path) -> None:
    (tools / "apt-get").unlink()
    for name in ("sh", "dirname", "sed", "mkdir", "cat"):
        (tools / name).symlink_to(f"/bin/{name}")
    environment = {"PATH": str(tools), "FAKE_UID": "0"}
    command = ["/bin/sh", str(SCRIPT), str(tools.parent / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Debian 12 or newer" in done.stderr) == (1, True)
