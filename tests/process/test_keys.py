"""`flarectl key` against a real cluster, as an operator types it."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from tests.process.test_workers import clients, wait_for_serving_worker
from tests.support.daemons import API
from tests.support.flarectl import flarectl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemons import Cluster, Start


@pytest.fixture
def cluster(start: Start, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    started = start(nodes=1, api={"workers": 2, "audit": {"file": "audit.log"}})
    monkeypatch.setenv("FLARE_SECRET_FILE", str(started.directory / "secret"))
    return started


def test_a_key_lives_as_its_operator_says(cluster: Cluster, tmp_path: Path) -> None:
    port, file = cluster.daemons[API].port, tmp_path / "credentials"
    made = flarectl(port, "key", "create", "laptop", "--write", "backup/laptop/", "--list", "backup/laptop/")
    first, secret = re.findall(r"^(?:id|secret) +(\S+)$", made, re.MULTILINE)
    assert re.fullmatch(r"FL[A-Z2-7]{18}", first)
    assert len(secret) == 40

    flarectl(port, "key", "create", "root", "--admin", "--expires", "30d", "--output", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = re.fullmatch(
        r"\[default\]\naws_access_key_id = (FL\w{18})\naws_secret_access_key = (\S{40})\n", file.read_text()
    )
    assert kept
    flarectl(port, "key", "create", "other", "--output", str(file), code=6)
    flarectl(port, "key", "create", "laptop", code=6)

    listed = [json.loads(line) for line in flarectl(port, "key", "ls", "--json").splitlines()]
    assert [key["name"] for key in listed] == ["laptop", "root"], "the one that found its file there was never made"
    assert listed[1]["id"] == kept[1]
    shown = flarectl(port, "key", "show", "laptop")
    assert "write:backup/laptop/" in shown

    rotated = json.loads(flarectl(port, "key", "rotate", "laptop", "--grace", "1h", "--json"))
    assert [old["id"] for old in rotated["replaced"]] == [first]
    assert rotated["secret"] != secret

    flarectl(port, "key", "rm", "laptop")
    flarectl(port, "key", "show", "laptop", code=4)
    assert "laptop" not in flarectl(port, "key", "ls")

    cluster.stop()
    audited = (cluster.directory / "audit.log").read_text()
    for line in (
        "call=admin.create_key on='name=laptop' allowed=yes status=201",
        "call=admin.replace_key on='name=laptop' allowed=yes status=200",
        "call=admin.remove_key on='name=laptop' allowed=yes status=204",
    ):
        assert audited.count(line) == 1, "once, also where another process passed it on"
    for place in cluster.directory.rglob("*"):
        if place.is_file() and place.name != "secret":
            content = place.read_bytes()
            for hidden in (secret, kept[2], rotated["secret"]):
                assert hidden.encode() not in content, f"{place} holds the secret of a key"


def test_keys_take_the_secret(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLARE_SECRET_FILE")
    for _ in range(3):  # to each process
        flarectl(cluster.daemons[API].port, "key", "create", "laptop", code=6)
    audited = (cluster.directory / "audit.log").read_text()
    assert audited.count("call=admin.create_key on='-' allowed=no status=401 reason=Unauthenticated") == 3, audited
    assert "lacking='cluster:keys'" in audited


def test_a_key_does_what_its_grants_say_through_every_process(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, file = cluster.daemons[API].port, tmp_path / "file"
    file.write_text("content")
    flarectl(port, "bucket", "create", "backup")
    flarectl(port, "put", str(file), "backup:other")
    made = json.loads(
        flarectl(port, "key", "create", "laptop", "--write", "backup/laptop/", "--list", "backup/laptop/", "--json")
    )
    flarectl(port, "key", "create", "maker", "--create", "maker-*", "--json", "--output", str(tmp_path / "maker"))
    root = json.loads(flarectl(port, "key", "create", "root", "--admin", "--json"))
    monkeypatch.delenv("FLARE_SECRET_FILE")

    def use(key: dict[str, str]) -> None:
        monkeypatch.setenv("FLARE_ACCESS_KEY", key["id"])
        monkeypatch.setenv("FLARE_SECRET_KEY", key["secret"])

    use(made)
    for number in range(3):  # to each process
        flarectl(port, "put", str(file), f"backup:laptop/{number}")
        assert f"laptop/{number}" in flarectl(port, "ls", "-r", "backup:laptop/")
        for refused in (
            ("put", str(file), "backup:other"), ("cat", f"backup:laptop/{number}"), ("ls", "-r", "backup:"),
            ("rm", f"backup:laptop/{number}"), ("cp", "backup:other", "backup:laptop/copy"), ("key", "ls"),
            ("bucket", "create", "mine"), ("bucket", "set", "backup", "--public"), ("bucket", "rm", "backup"),
        ):  # fmt: skip
            flarectl(port, *refused, code=6)
    assert [json.loads(line)["name"] for line in flarectl(port, "bucket", "ls", "--json").splitlines()] == ["backup"]

    credentials = dict(re.findall(r"^aws_(\w+) = (\S+)$", (tmp_path / "maker").read_text(), re.MULTILINE))
    use({"id": credentials["access_key_id"], "secret": credentials["secret_access_key"]})
    flarectl(port, "bucket", "create", "maker-a")
    flarectl(port, "put", str(file), "maker-a:x")
    assert flarectl(port, "cat", "maker-a:x") == "content"
    flarectl(port, "bucket", "set", "maker-a", "--public-list")
    assert json.loads(flarectl(port, "bucket", "ls", "--json"))["owner"] == "maker"
    flarectl(port, "bucket", "create", "other-a", code=6)

    use(root)
    flarectl(port, "key", "rm", "laptop")
    flarectl(port, "node", "ls")
    use(made)
    for _ in range(3):
        flarectl(port, "put", str(file), "backup:laptop/late", code=6)
    audited = (cluster.directory / "audit.log").read_text()
    assert "who=key:laptop" in audited
    assert "lacking='write:backup/other'" in audited
    assert "who=key:root peer=127.0.0.1" in audited
    assert f"reason=BadSignature key={made['id']}" in audited
    assert made["secret"] not in audited + cluster.log_tail(API, 10_000)


def processes_in(file: Path) -> set[str]:
    """The processes that wrote lines about refused listings of keys: ids of requests begin with theirs."""
    return set(re.findall(r"call=admin.show_keys .* request=([0-9a-f]+)-", file.read_text()))


def test_every_process_opens_the_audit_file_anew_and_takes_its_limits(cluster: Cluster) -> None:
    """As after logrotate: the file was moved away, and the node is told to reload."""
    daemon, file = cluster.daemons[API], cluster.directory / "audit.log"
    wait_for_serving_worker(cluster)
    before = clients(cluster)
    for client in before:
        assert client.call("GET", "/cluster/key").status == 401
    file.rename(cluster.directory / "audit.log.1")
    daemon.config.write_text(daemon.config.read_text() + "\n[limits]\nrequests_per_address = 1000\n")
    os.kill(daemon.pid, signal.SIGHUP)
    cluster.wait_until(file.exists, "the audit file is not opened anew")

    def all_write_to_it() -> bool:
        for client in before:
            client.call("GET", "/cluster/key")
        return len(processes_in(file)) == 2

    cluster.wait_until(all_write_to_it, "not every process writes to the new file")
    assert len(processes_in(cluster.directory / "audit.log.1")) == 2
    assert "changed=requests_per_address" in cluster.log_tail(API, 1000)
