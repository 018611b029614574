"""`flarectl` with an access key against a real cluster of two processes, and its links with a foreign client."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support.daemons import API
from tests.support.flarectl import create_key, flarectl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemons import Cluster, Start

SMALL, LARGE = b"small", bytes(range(256)) * 65_536
"""Of one chunk, and of several."""


@pytest.fixture
def cluster(start: Start) -> Cluster:
    return start(nodes=1, api={"workers": 2, "defaults": {"chunk_size": 4 << 20}})


def test_a_key_is_all_that_flarectl_needs(cluster: Cluster, tmp_path: Path) -> None:
    port = cluster.daemons[API].port
    grants = [f"--{word}=default/mine/" for word in ("read", "write", "list", "delete")]
    key_id, secret = create_key(port, cluster.directory / "secret", "laptop", *grants)
    key = {"FLARE_ACCESS_KEY": key_id, "FLARE_SECRET_KEY": secret}

    def run(*words: str, code: int = 0) -> str:
        return flarectl(port, *words, code=code, environment=key)

    for name, content in (("small", SMALL), ("large", LARGE), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        run("put", str(tmp_path / name), "mine/")
        run("get", f"mine/{name}", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == content
        (tmp_path / "back").unlink()
    assert "mine/large" in run("ls", "-l", "mine/")
    run("cp", "mine/small", "mine/copy")
    run("rm", "mine/copy")

    pipe = [sys.executable, "-m", "flarectl", "put", "-", "mine/pipe"]
    around = {**key, "FLARE_ENDPOINT": f"http://127.0.0.1:{port}", "XDG_CONFIG_HOME": str(tmp_path)}
    subprocess.run(pipe, env=around, input=LARGE, check=True, timeout=60)
    run("get", "mine/pipe", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == LARGE

    # What the key has no grant for is refused, although unsigned calls from this machine would not be.
    run("put", str(tmp_path / "small"), "theirs", code=6)
    run("ls", "theirs/", code=6)
    run("status", code=6)
    run("share", "theirs", code=6)


def test_links_are_for_clients_without_a_key(cluster: Cluster, tmp_path: Path) -> None:
    port = cluster.daemons[API].port
    key_id, secret = create_key(port, cluster.directory / "secret", "laptop", "--read", "*", "--write", "*")
    key = {"FLARE_ACCESS_KEY": key_id, "FLARE_SECRET_KEY": secret}
    client = cluster.client()

    def link(*words: str) -> str:
        parts = urlsplit(flarectl(port, "share", *words, environment=key).strip())
        return f"{parts.path}?{parts.query}"

    put = link("--put", "a b/ü")
    assert client.call("PUT", put, LARGE).status == 201
    assert client.call("PUT", put, SMALL).status == 200
    get = link("a b/ü")
    assert client.call("GET", get).body == SMALL
    assert client.call("DELETE", get).status == 401
    flarectl(port, "key", "rm", "laptop", environment={"FLARE_SECRET_FILE": str(cluster.directory / "secret")})
    assert client.call("GET", get).status == 401
    assert client.call("PUT", put, LARGE).status == 401


def test_an_admin_key_is_good_at_every_process(cluster: Cluster) -> None:
    port = cluster.daemons[API].port
    key_id, secret = create_key(port, cluster.directory / "secret", "root", "--admin")
    key = {"FLARE_ACCESS_KEY": key_id, "FLARE_SECRET_KEY": secret}
    for number in range(3):
        assert "health" in flarectl(port, "status", environment=key)
        assert "root" in flarectl(port, "key", "ls", environment=key)
        flarectl(port, "key", "create", f"more{number}", environment=key)
        flarectl(port, "bucket", "create", f"photos{number}", environment=key)
        flarectl(port, "bucket", "rm", f"photos{number}", environment=key)
    flarectl(port, "node", "invite", code=2, environment=key)
