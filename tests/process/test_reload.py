"""SIGHUP: a running node reloads its files, and refuses no request in the meantime."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Self

from flared.access.keys import authorization, node_token
from tests.support.client import NO_ANSWER

if TYPE_CHECKING:
    from tests.support.daemons import Cluster, Daemon, Start

NEXT = "the-next-secret-0123456789abcdef"
LARGE = bytes(300_000)


class Askers:
    """Threads that put, get and delete without rest, and note every answer that is not a success."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(4)]
        self.answered = 0
        self.refused: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, number: int) -> None:
        client, body = self._cluster.client(), LARGE if number % 2 else b"small"
        while not self._stop.is_set():
            for method in ("PUT", "GET", "DELETE"):
                try:
                    answer = client.call(method, f"/object/{number}", body if method == "PUT" else b"")
                except NO_ANSWER as error:
                    self.refused.append(f"{method}: {error!r}")
                else:
                    self.answered += 1
                    if answer.status not in (200, 201, 204):
                        self.refused.append(f"{method}: {answer.status} {answer.body[:300]!r}")


def reload(cluster: Cluster, daemon: Daemon) -> str:
    """Have the node read its files again; what it logged since."""
    before = len(daemon.log.read_text())
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)

    def logged() -> str:
        return daemon.log.read_text()[before:]

    cluster.wait_until(lambda: "event=node_reloaded" in logged() or "event=reload_refused" in logged(), "no reload")
    time.sleep(0.05)  # the line that follows
    return logged()


def edit(daemon: Daemon, old: str, new: str) -> None:
    text = daemon.config.read_text()
    assert old in text
    daemon.config.write_text(text.replace(old, new))


def test_a_secret_is_replaced_and_no_request_is_refused(start: Start) -> None:
    cluster = start(nodes=3, scheme="replica:2")
    secret, old = cluster.directory / "secret", cluster.secret
    with Askers(cluster) as askers:
        for lines in ([old, NEXT], [NEXT, old], [NEXT]):
            secret.write_text("".join(line + "\n" for line in lines))
            for daemon in cluster.daemons.values():
                assert "changed=secrets" in reload(cluster, daemon)
                time.sleep(0.2)
            time.sleep(4)  # a heartbeat of each node
            assert cluster.health() == "ok"
    assert askers.refused == []
    assert askers.answered > 100
    for name in cluster.data_names():
        log = cluster.daemons[name].log.read_text()
        assert "answered 401" not in log  # a beat may come late on a busy machine, but never be turned away
        for known, status in ((NEXT, 200), (old, 401)):
            token = authorization(node_token(known.encode(), f"data:{name}"))
            answer = cluster.client(name).call("GET", "/chunks", fields={"authorization": token})
            assert answer.status == status
            if status == 401:
                assert answer.fields["www-authenticate"] == "Flare"


def test_a_file_of_secrets_with_a_mistake_changes_nothing(start: Start) -> None:
    cluster = start()
    (cluster.directory / "secret").write_text(cluster.secret + "\nshort\n")
    for daemon in cluster.daemons.values():
        assert "line 2 holds 5 bytes" in reload(cluster, daemon)
    assert cluster.client().put("a", LARGE).status == 201


def test_limits_change_while_the_node_runs(start: Start) -> None:
    cluster = start(api={"limits": {"memory": "64MiB", "object_max": "1MiB", "connections": 100}})
    api, client = cluster.daemons["api"], cluster.client()
    assert client.put("a", bytes(2 << 20)).status == 413
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (2 << 20, bytes(2 << 20))  # its length is known only at its end
    assert client.put("a", iter([chunked]), fields={"transfer-encoding": "chunked"}).status == 413
    with Askers(cluster) as askers:
        edit(api, '"1MiB"', '"4MiB"')
        assert "changed=object_max" in reload(cluster, api)
        assert client.put("a", bytes(2 << 20)).status == 201
        for memory in ('"16MiB"', '"128MiB"', '"16MiB"'):
            for known in ('"64MiB"', '"16MiB"', '"128MiB"'):
                if known != memory and f"memory = {known}" in api.config.read_text():
                    edit(api, known, memory)
            assert "changed=memory" in reload(cluster, api)
            assert client.put("b", bytes(3 << 20)).status in (200, 201)
            assert client.get("b").body == bytes(3 << 20)
    assert askers.refused == []


def test_a_setting_that_needs_a_restart_is_logged_each_time(start: Start) -> None:
    cluster = start()
    data = cluster.daemons["data1"]
    edit(data, "role =", 'zone = "elsewhere"\nrole =')
    for _ in range(2):
        assert "event=restart_needed changed=zone" in reload(cluster, data)


def test_a_node_that_is_to_become_local_keeps_its_secret_until_its_restart(start: Start) -> None:
    cluster = start()
    data = cluster.daemons["data1"]
    cluster.terminate("data1")
    beyond, local = f'"0.0.0.0:{data.port}"', f'"127.0.0.1:{data.port}"'
    edit(data, f"listen = {local}", f"listen = {beyond}\nadvertise = {local}")
    cluster.start()
    edit(data, f"listen = {beyond}\n", f"listen = {local}\n")
    edit(data, 'secret_file = "secret"\n', "")
    assert "restart_needed changed=listen,secrets,secret_file" in reload(cluster, data)
    assert cluster.client("data1").call("GET", "/chunks").status == 401
