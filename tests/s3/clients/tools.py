"""The programs: each is found on this machine or installed below ``.clients`` in the checkout, never in the system.

``install`` takes them from PyPI, npm, Debian's archive (unpacked) and Go's module proxy. What cannot be had is skipped,
with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

CLIENTS = Path(__file__).parents[3] / ".clients"
INSTALL_SECONDS = 600
NODE_PACKAGES = ("@aws-sdk/client-s3", "@aws-sdk/lib-storage", "@aws-sdk/s3-request-presigner")


class Missing(Exception):
    """The program cannot be had here."""


def python(name: str) -> Path:
    """The interpreter of a virtual environment of clients."""
    return _present(CLIENTS / name / "bin" / "python", name)


def program(name: str, environment: str = "python") -> Path:
    """A program that PyPI has, from its own environment, or that Debian has, unpacked; else the system's."""
    for place in (
        CLIENTS / environment / "bin" / name,
        CLIENTS / "debian" / "usr" / "bin" / name,
        CLIENTS / "go" / name,
    ):
        if place.exists():
            return place
    return _present(Path(shutil.which(name) or f"/usr/bin/{name}"), name)


def node_modules() -> Path:
    program("node")
    return _present(CLIENTS / "node" / "node_modules" / "@aws-sdk" / "client-s3", "@aws-sdk/client-s3").parents[1]


def _present(path: Path, name: str) -> Path:
    if not path.exists():
        raise Missing(f"{name} is not here; python -m tests.s3.clients --install fetches it")
    return path


def install(*, quick: bool) -> list[str]:
    """Fetch what is missing; return a sentence for each program that could not be had."""
    wanted: list[tuple[str, Callable[[], None]]] = [
        ("aws", lambda: _pip("python", "aws", "awscli")),
        ("rclone", lambda: _debian("rclone", "rclone")),
        ("restic", lambda: _debian("restic", "restic")),
    ]
    if not quick:
        wanted += [
            ("minio-py and s3cmd", lambda: _pip("python", "s3cmd", "awscli", "minio", "s3cmd")),
            ("s3fs", lambda: _pip("s3fs", "pytest", "s3fs", "pyarrow", "pandas", "pytest")),
            ("@aws-sdk/client-s3", _npm),
            ("s5cmd", _go),
            ("duplicity", _duplicity),
        ]
    failures = []
    for name, fetch in wanted:
        try:
            fetch()
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", b"") or str(error).encode()
            failures.append(f"{name} cannot be had: {said.decode(errors='replace').strip().splitlines()[-1][:200]}")
    return failures


def _run(*command: str, directory: Path | None = None, **environment: str) -> None:
    subprocess.run(
        command, cwd=directory, env={**os.environ, **environment}, check=True, capture_output=True,
        timeout=INSTALL_SECONDS,
    )  # fmt: skip


def _pip(environment: str, proof: str, *packages: str) -> None:
    directory = CLIENTS / environment
    if (directory / "bin" / proof).exists():
        return
    if not (directory / "bin" / "pip").exists():
        venv.create(directory, with_pip=True)
    _run(str(directory / "bin" / "pip"), "install", "--quiet", *packages)


def _debian(proof: str, *packages: str) -> None:
    if (CLIENTS / "debian" / "usr" / "bin" / proof).exists() or shutil.which(proof):
        return
    scratch = CLIENTS / "archives"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        _run("apt-get", "download", *packages, directory=scratch)
    except subprocess.SubprocessError:
        _run("apt-get", "update")
        _run("apt-get", "download", *packages, directory=scratch)
    for archive in scratch.glob("*.deb"):
        _run("dpkg-deb", "-x", str(archive), str(CLIENTS / "debian"))
    shutil.rmtree(scratch)


def _npm() -> None:
    directory = CLIENTS / "node"
    if not (directory / "node_modules" / "@aws-sdk" / "s3-request-presigner").exists():
        directory.mkdir(parents=True, exist_ok=True)
        _run("npm", "install", "--no-audit", "--no-fund", "--silent", *NODE_PACKAGES, directory=directory)


def _go() -> None:
    if not (CLIENTS / "go" / "s5cmd").exists():
        _run("go", "install", "github.com/peak/s5cmd/v2@latest", GOBIN=str(CLIENTS / "go"), GOFLAGS="-mod=mod")


def _duplicity() -> None:
    _debian("duplicity", "duplicity", "librsync2", "libb2-1", "python3-fasteners")
    _pip("duplicity", "pytest", "boto3", "future", "fasteners", "pytest")


def versions(commands: Sequence[Path | str]) -> str:
    """What a program says of its version, in its first line."""
    try:
        done = subprocess.run([str(part) for part in commands], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ""
    said = (done.stdout or done.stderr).strip().splitlines()
    return said[0] if said else ""


PYTHON = Path(sys.executable)
