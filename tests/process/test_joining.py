"""A host joins: `flarectl node invite` there, `flared init data --join` here, as their users run them."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.daemons import Cluster, Daemon, free_ports
from tests.support.flarectl import flarectl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemons import Start


@pytest.fixture
def cluster(start: Start, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    started = start()
    monkeypatch.setenv("FLARE_SECRET_FILE", str(started.directory / "secret"))
    return started


def invite(cluster: Cluster, *arguments: str) -> str:
    port = cluster.daemons["api"].port
    return flarectl(port, "node", "invite", "--api", f"http://127.0.0.1:{port}", *arguments).strip()


def init_data(
    directory: Path, *arguments: str, word: str | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """``flared init data`` in a directory of its own, with ``word`` on standard input."""
    directory.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "flared", "init", "data", str(directory / "data.toml"), *arguments]
    command += ["--volume", str(directory / "volume")]
    done = subprocess.run(command, input=word or "", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_what_joins_starts_as_it_stands(cluster: Cluster, directory: Path) -> None:
    place, (port,) = directory / "new", free_ports(1)
    token = invite(cluster, "--name", "data2")
    init_data(place, "--join", "-", "--listen", f"127.0.0.1:{port}", word=token + "\n")
    assert stat.S_IMODE((place / "secret").stat().st_mode) == 0o600
    assert (place / "secret").read_text() == (cluster.directory / "secret").read_text()
    cluster.daemons["data2"] = Daemon("data2", place / "data.toml", port)
    cluster.start()
    cluster.wait_until(lambda: "data2" in flarectl(cluster.daemons["api"].port, "node", "ls"), "data2 is not there")
    assert "secret_handed_out" in cluster.log_tail("api")
    assert token not in cluster.log_tail("api", 1000)

    other = directory / "other"
    output = init_data(other, "--join", token, code=1).stderr
    assert "used already, by node data2" in output
    assert list(other.iterdir()) == []


def test_a_secret_that_was_fetched_stays_when_the_rest_fails(cluster: Cluster, directory: Path) -> None:
    place, token = directory / "new", invite(cluster)
    output = init_data(place, "--join", token, "--name", "data2", "--zone", "a b", code=2).stderr
    assert "zone" in output
    assert [path.name for path in place.iterdir()] == ["secret"]
    again = init_data(place, "--join", token, "--name", "data2", "--zone", "a").stdout
    assert "the join token was not used" in again
    stranger = directory / "stranger"
    stranger.mkdir()
    (stranger / "secret").write_text("another cluster's secret\n")
    (stranger / "secret").chmod(0o600)
    assert "another secret" in init_data(stranger, "--join", invite(cluster), "--name", "x", code=1).stderr


def test_invalid_tokens_are_refused_with_a_sentence(cluster: Cluster, directory: Path, start: Start) -> None:
    place = directory / "new"
    bound = invite(cluster, "--name", "data7")
    assert "is for a node named data7" in init_data(place, "--join", bound, "--name", "data8", code=1).stderr
    expired = invite(cluster, "--valid", "1s")
    time.sleep(1.2)
    assert "has expired" in init_data(place, "--join", expired, "--name", "data8", code=1).stderr
    assert "not a whole join token" in init_data(place, "--join", bound[:-3], code=1).stderr
    assert "standard input is empty" in init_data(place, "--join", "-", code=1).stderr
    (port,) = free_ports(1)
    for api, word in (
        (f"http://127.0.0.1:{port}", "no api node answers"),
        (f"http://127.0.0.1:{cluster.daemons['data1'].port}", "this is data node data1"),
    ):
        output = init_data(place, "--join", bound, "--api", api, code=1).stderr
        assert word in output
        assert output.count("\n") == 1
    (cluster.directory / "secret").write_text("a-secret-that-came-later-0123456789\n")
    cluster.terminate("api")
    cluster.launch("api")
    cluster.wait_until(lambda: cluster.health() != "no answer", "the api node is not back")
    assert "of another cluster" in init_data(place, "--join", bound, code=1).stderr
    assert "leave out --secret-file" in init_data(place, "--join", bound, "--secret-file", "x", code=2).stderr
    assert list(place.iterdir()) == []


def test_an_invite_needs_the_secret_also_on_the_host(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    port = cluster.daemons["api"].port
    record = json.loads(flarectl(port, "node", "invite", "--api", "http://10.0.0.1:8000", "--json"))
    assert set(record) == {"token", "api", "node", "cluster", "expires"}
    assert (record["api"], record["node"]) == (["http://10.0.0.1:8000"], None)
    flarectl(port, "node", "invite", code=6)  # an address that is each host itself
    flarectl(port, "node", "invite", "--valid", "8d", code=2)
    answer = cluster.client().call("POST", "/cluster/invite", b'{"valid_seconds": 60}')
    assert (answer.status, answer.fields["www-authenticate"]) == (401, "Flare")
    monkeypatch.delenv("FLARE_SECRET_FILE")
    flarectl(port, "node", "invite", code=2)
