"""What is signed cannot be altered, nor sent again: not to another process, nor after a restart. Nor does guessing keep
honest clients from being served."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.hostile.signatures import KEPT, OTHER, PATH, Key, Signer, attack, make_keys
from tests.support.client import Client
from tests.support.daemons import API

if TYPE_CHECKING:
    from tests.support.daemons import Cluster, Start

CONNECTIONS = 4
"""So many one after the other reach each of two processes twice."""


@pytest.fixture
def cluster(start: Start) -> Cluster:
    return start(nodes=1, api={"workers": 2})


@pytest.fixture
def key(cluster: Cluster) -> Key:
    return make_keys(cluster)[0]


def test_nothing_that_was_altered_gets_through(start: Start) -> None:
    cluster = start(nodes=1, api={"workers": 2})
    key, other = make_keys(cluster)
    assert cluster.client().put("kept", KEPT).status == 201
    for row in attack(cluster.daemons[API].port, key, other):
        assert row.status in (400, 401, 403), row
    assert cluster.client().get("kept").body == KEPT


def everywhere(cluster: Cluster, method: str, body: bytes, head: dict[str, str]) -> list[int]:
    """Send the same call on connections to every process, one after the other."""
    statuses = []
    for _ in range(CONNECTIONS):
        client = cluster.client()
        statuses.append(client.call(method, PATH, body, head).status)
        client.close()
    return statuses


@pytest.mark.parametrize("body", [OTHER, OTHER * 50_000], ids=["small", "large"])
@pytest.mark.parametrize("how", [{}, {"nonce": ""}], ids=["strict", "plain"])
def test_a_write_is_carried_out_once_by_all_processes_and_after_a_restart(
    cluster: Cluster, key: Key, body: bytes, how: dict[str, str]
) -> None:
    signer = Signer(cluster.daemons[API].port, key)
    put = signer.head("PUT", PATH, body, **how)
    assert everywhere(cluster, "PUT", body, put) == [201, 403, 403, 403]
    delete = signer.head("DELETE", PATH, **how)
    assert everywhere(cluster, "DELETE", b"", delete) == [204, 403, 403, 403]
    cluster.kill(API)
    cluster.launch(API)
    cluster.wait_ready()
    assert everywhere(cluster, "PUT", body, put) == [403] * CONNECTIONS
    assert everywhere(cluster, "DELETE", b"", delete) == [403] * CONNECTIONS
    assert everywhere(cluster, "GET", b"", signer.head("GET", PATH, **how)) == [404] * CONNECTIONS


def test_wrong_keys_keep_no_honest_client_waiting(cluster: Cluster, key: Key) -> None:
    """Some hundred wrong signatures beside an honest client, whose every call is answered."""
    port = cluster.daemons[API].port
    signer, guesser = Signer(port, key), Signer(port, Key(key.id, "t" * 40))
    statuses: list[int] = []
    stop = threading.Event()

    def guess() -> None:
        client = Client(port, timeout=10)
        while not stop.is_set():
            statuses.append(client.call("PUT", PATH, OTHER, guesser.head("PUT", PATH, OTHER)).status)
        client.close()

    threads = [threading.Thread(target=guess) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        honest = cluster.client()
        number = 0
        while number < 200 or len(statuses) < 200:
            number += 1
            body = b"%d" % number
            assert honest.call("PUT", PATH, body, signer.head("PUT", PATH, body)).status in (200, 201)
            assert honest.call("GET", PATH, b"", signer.head("GET", PATH)).body == body
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) <= {401, 429}
