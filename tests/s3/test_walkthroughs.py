"""The walk-throughs of ``docs/``, typed as they stand on a cluster that ``flared init api --tls`` began.

Each block of shell says where it is typed; ``fails`` marks one that must be refused. Only the name of the host and its
ports are replaced, and each machine is a home directory.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.s3.clients import tools
from tests.support.daemons import Cluster, Daemon, free_ports
from tests.support.scratch import scratch_directory

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```sh\n# on: (?P<machine>\w+)(?P<fails>, fails)?\n(?P<lines>.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = ("flarectl", "flared")
WAIT_SECONDS = 60


class Site(NamedTuple):
    """One host that runs the cluster, and a home directory for each machine."""

    directory: Path
    port: int
    s3_port: int

    def home(self, machine: str) -> Path:
        home = self.directory / "home" / machine
        home.mkdir(parents=True, exist_ok=True)
        return home

    def type(self, machine: str, lines: str) -> subprocess.CompletedProcess[str]:
        """What a shell does with these lines."""
        home = self.home(machine)
        text = lines.replace("storage.example.org:8333", f"localhost:{self.s3_port}")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FLARE_", "RESTIC_"))}
        environment = {
            **kept, "HOME": str(home), "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "FLARE_ENDPOINT": f"http://127.0.0.1:{self.port}", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip
        if machine == "api":  # where root has /etc/flare/secret
            environment["FLARE_SECRET_FILE"] = str(self.directory / "etc" / "secret")
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=home, env=environment, capture_output=True, text=True,
            timeout=240, check=False,
        )  # fmt: skip


@pytest.fixture
def site() -> Iterator[Site]:
    with scratch_directory() as fresh:
        ports = free_ports(3)
        site = Site(fresh, ports[0], ports[1])
        _install_programs(fresh / "bin")
        api, data = fresh / "etc" / "api.toml", fresh / "etc" / "data.toml"
        api.parent.mkdir()
        _flared("init", "api", api, "--tls", "--scheme", "replica:1", "--listen", f"127.0.0.1:{ports[0]}",
                "--s3-listen", f"127.0.0.1:{ports[1]}")  # fmt: skip
        cluster = Cluster(api.parent)
        try:
            cluster.daemons["api"] = Daemon("api", api, ports[0])
            cluster.launch("api")
            cluster.wait_until(lambda: cluster.health() != "no answer", "the api node does not answer")
            url, secret = f"https://127.0.0.1:{ports[0]}", api.parent / "secret"
            _flared("init", "data", data, "--api", url, "--secret-file", secret,
                    "--listen", f"127.0.0.1:{ports[2]}", "--volume", fresh / "volume")  # fmt: skip
            cluster.daemons["data"] = Daemon("data", data, ports[2])
            cluster.launch("data")
            cluster.wait_until(lambda: cluster.health() == "ok", "the cluster is not healthy", WAIT_SECONDS)
            yield site
        finally:
            cluster.stop()


def _flared(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "flared", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def _install_programs(directory: Path) -> None:
    """Have the shell find the programs of this tree and those of the clients."""
    directory.mkdir()
    root = DOCS.parent
    for name in PROGRAMS:
        (directory / name).write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} -m {name} "$@"\n')
    for name in ("restic", "aws"):
        (directory / name).write_text(f'#!/bin/sh\nexec {tools.program(name)} "$@"\n')
    (directory / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for path in directory.iterdir():
        path.chmod(0o755)


def _prepare(site: Site) -> None:
    """What the page says to bring along, and what is there to be backed up."""
    for machine in ("api", "laptop", "web"):
        (site.home(machine) / "ca.pem").write_bytes((site.directory / "etc" / "tls" / "ca.pem").read_bytes())
    documents = site.home("laptop") / "Documents"
    documents.mkdir()
    for number in range(5):
        (documents / f"letter {number} é.txt").write_text(f"Dear reader {number}\n" * 1000)


def _bring_keys(site: Site) -> None:
    for key in site.home("api").glob("*.key"):
        for machine in ("laptop", "web"):
            (site.home(machine) / key.name).write_bytes(key.read_bytes())


@pytest.mark.parametrize("page", ["backup-a-laptop.md", "uploads-from-a-web-page.md"])
def test_a_walk_through_does_what_it_says(page: str, site: Site) -> None:
    try:
        tools.program("restic"), tools.program("aws")
    except tools.Missing as missing:
        pytest.skip(str(missing))
    _prepare(site)
    blocks = list(BLOCK.finditer((DOCS / page).read_text()))
    assert len(blocks) >= 5
    for block in blocks:
        done = site.type(block["machine"], block["lines"])
        said = f"{block[0]}\nended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert (done.returncode != 0) == bool(block["fails"]), said
        if block["machine"] == "api":
            _bring_keys(site)
