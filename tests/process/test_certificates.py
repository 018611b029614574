"""A cluster with an authority of its own, from `flared init api --tls` on, as its operators type it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flared.access.certificates import is_signed_by, read_certificate
from tests.process.test_reload import reload
from tests.support.daemons import API, Cluster, Daemon, free_ports, running
from tests.support.flarectl import flarectl

if TYPE_CHECKING:
    from collections.abc import Iterator


def flared(*arguments: str, word: str = "", code: int = 0) -> str:
    command = [sys.executable, "-m", "flared", *arguments]
    done = subprocess.run(command, input=word, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def cluster(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """An api node made by ``flared init api --tls``, and a data node that joined it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / "settings"))
    ports = free_ports(3)
    api, data = directory / "api" / "api.toml", directory / "data" / "data1.toml"
    api.parent.mkdir()
    listen = ("--listen", f"127.0.0.1:{ports[0]}", "--s3-listen", f"127.0.0.1:{ports[2]}")
    said = flared("init", "api", str(api), "--tls", "--scheme", "replica:1", *listen)
    (directory / "address").write_text(next(line.split()[-1] for line in said.splitlines() if "set endpoint" in line))
    made = Cluster(api.parent)
    made.daemons[API] = Daemon(API, api, ports[0])
    try:
        made.launch(API)
        made.wait_until(lambda: made.health() != "no answer", "the api node does not answer")
        monkeypatch.setenv("FLARE_SECRET_FILE", str(api.parent / "secret"))
        token = flarectl(
            ports[0], "node", "invite", "--name", "data1", "--api", f"https://127.0.0.1:{ports[0]}"
        ).strip()
        data.parent.mkdir()
        place = ("--listen", f"127.0.0.1:{ports[1]}", "--volume", str(directory / "volume"))
        flared("init", "data", str(data), "--join", "-", *place, word=token + "\n")
        made.daemons["data1"] = Daemon("data1", data, ports[1])
        made.launch("data1")
        made.wait_until(lambda: made.health() == "ok", "the cluster is not healthy")
        yield made
    finally:
        made.stop()


def test_what_init_makes_is_spoken_by_all(cluster: Cluster, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api, data = cluster.daemons[API], cluster.daemons["data1"]
    found = tomllib.loads(data.config.read_text())
    assert found["api"] == [f"https://127.0.0.1:{api.port}"]
    assert found["advertise"] == f"https://127.0.0.1:{data.port}"
    assert found["tls"] == {
        "certificate": "tls/data1.pem", "key": "tls/data1.key", "ca": "tls/ca.pem", "client_ca": "tls/ca.pem",
        "plain": "local",
    }  # fmt: skip
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (api.config.parent / "tls").iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "api.pem": 0o644, "api.key": 0o640}
    assert not (data.config.parent / "tls" / "ca.key").exists()
    assert "data1" in read_certificate((data.config.parent / "tls" / "data1.pem").read_bytes()).names

    for name in (API, "data1"):
        cluster.change(name, {"tls": {"plain": "refuse"}})
        assert "event=node_reloaded" in reload(cluster, cluster.daemons[name])
    address = (directory / "address").read_text()
    assert "another fingerprint" in set_endpoint(address[:-1] + ("0" if address[-1] != "0" else "1"), code=6)
    set_endpoint(address)
    (directory / "file").write_bytes(b"over TLS all the way")
    (ca,) = (directory / "settings" / "flare").glob("ca-*.pem")
    monkeypatch.setenv("FLARE_CA_FILE", str(ca))
    endpoint = ("--endpoint", address.partition("#")[0])
    flarectl(0, *endpoint, "put", str(directory / "file"), "key")
    assert flarectl(0, *endpoint, "cat", "key") == "over TLS all the way"


def set_endpoint(address: str, code: int = 0) -> str:
    """Keep an address that carries a fingerprint, in the settings below the test's directory."""
    command = [sys.executable, "-m", "flarectl", "config", "set", "endpoint", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_certificates_are_renewed_while_the_node_runs(cluster: Cluster) -> None:
    data = cluster.daemons["data1"]
    file = data.config.parent / "tls" / "data1.pem"
    before, key = file.read_bytes(), file.with_suffix(".key").read_bytes()
    assert "is good for 36" in flared("renew-certificates", str(data.config))
    assert file.read_bytes() == before
    assert "is made for data1" in flared("renew-certificates", "--force", str(data.config))
    assert file.read_bytes() != before
    assert is_signed_by(file.read_bytes(), (data.config.parent / "tls" / "ca.pem").read_bytes())
    assert file.with_suffix(".key").read_bytes() == key
    assert "event=node_reloaded" in reload(cluster, data)
    assert "is made for api" in flared("renew-certificates", "--force", str(cluster.daemons[API].config))
    assert "event=node_reloaded" in reload(cluster, cluster.daemons[API])
    assert cluster.client().put("after", b"x").status == 201


def test_the_authority_follows_the_secret(cluster: Cluster) -> None:
    api, data = cluster.daemons[API], cluster.daemons["data1"]
    secret = api.config.parent / "secret"
    new, old = "the-next-secret-0123456789abcdef", secret.read_text()
    for daemon in (api, data):
        (daemon.config.parent / "secret").write_text(f"{new}\n{old}")
        assert "changed=secrets" in reload(cluster, daemon)
    assert "is sealed with the new secret" in flared("renew-certificates", str(api.config))
    for daemon in (api, data):
        (daemon.config.parent / "secret").write_text(f"{new}\n")
        assert "changed=secrets" in reload(cluster, daemon)
    assert "is made for data1" in flared("renew-certificates", "--force", str(data.config))
    stranger = data.config.parent / "secret"
    stranger.write_text("another-clusters-secret-0123456789\n")
    assert "was not made with the secret" in flared("renew-certificates", "--force", str(data.config), code=1)


def test_a_cluster_without_an_authority_says_so(directory: Path) -> None:
    ports = free_ports(1)
    with running(Cluster(directory / "cluster", api={"s3_listen": f"127.0.0.1:{ports[0]}"})) as cluster:
        data = cluster.daemons["data1"]
        cluster.change("data1", {"tls": {"certificate": "tls/a.pem", "key": "tls/a.key", "ca": "tls/ca.pem"}})
        assert "has no authority of its own" in flared("renew-certificates", str(data.config), code=1)
        assert os.listdir(data.config.parent / "tls") == ["a.key"]
