"""A web page that somebody opens beside a cluster neither reads nor writes; programs notice nothing."""

from __future__ import annotations

import socket

import pytest

from tests.hostile.foreign_pages import attack, find_harm, prepare
from tests.support.daemons import Cluster


def test_no_page_of_another_site_gets_through(shared: Cluster) -> None:
    client = shared.client()
    prepare(client)
    for row in attack(shared.daemons["api"].port):
        assert row.status in (400, 401, 403, 405), row
        assert not row.allowed, row
    assert find_harm(client) == []
    client.close()


def test_a_page_does_not_read_the_metrics_of_a_data_node(shared: Cluster) -> None:
    client = shared.client("data1")
    assert client.call("GET", "/metrics").status == 200
    assert client.call("GET", "/metrics", fields={"host": "evil.example"}).status == 403
    client.close()


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8000", "10.1.2.3", socket.gethostname()])
def test_programs_may_call_the_node_by_its_names(shared: Cluster, host: str) -> None:
    client = shared.client()
    assert client.put("own", b"x", fields={"host": host}).status in (200, 201)
    assert client.put("own", b"y", fields={"host": host, "origin": f"http://{host}"}).status == 200
    assert client.get("own", fields={"host": host}).body == b"y"
    client.close()
