"""/metrics of both roles, as Prometheus reads it: the manual has exactly their names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.daemons import API, Cluster
from tests.support.promtool import needs_promtool, promtool

MANUAL = Path(__file__).parents[2] / "docs/metrics.md"
SECTIONS = {
    API: ("Should be zero (api node)", "Both roles", "Api node"),
    "data1": ("Both roles", "Data node"),
    "workers": ("Several workers",),
}


def metrics(cluster: Cluster, node: str) -> str:
    client = cluster.client()
    for key, size in (("small", 10), ("large", 3 * 1024 * 1024)):
        assert client.put(key, b"x" * size).status in (200, 201)
        assert len(client.get(key).body) == size
    return cluster.client(node).call("GET", "/metrics").body.decode()


def documented(node: str) -> set[str]:
    sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", MANUAL.read_text(), flags=re.MULTILINE | re.DOTALL))
    rows = "\n".join(line for title in SECTIONS[node] for line in sections[title].splitlines() if line.startswith("|"))
    return set(re.findall(r"`((?:flare|process)_[a-z_]+)`", rows))


@pytest.mark.parametrize("node", [API, "data1"])
def test_the_manual_lists_all_metrics(shared: Cluster, node: str) -> None:
    if node == API:  # absent until the first pass of the check is over
        shared.wait_until(
            lambda: "flare_meta_check_age_seconds" in metrics(shared, node), "the metadata is not checked"
        )
    listed = set(re.findall(r"^# TYPE (\w+)", metrics(shared, node), flags=re.MULTILINE))
    assert listed == documented(node)


@needs_promtool
@pytest.mark.parametrize("node", [API, "data1"])
def test_prometheus_finds_no_fault_with_it(shared: Cluster, node: str) -> None:
    promtool("check", "metrics", text=metrics(shared, node))


def test_buckets_are_counted_each_by_itself(shared: Cluster) -> None:
    client = shared.client()
    assert client.call("PUT", "/bucket/counted").status in (200, 201)
    assert client.call("PUT", "/bucket/counted/object/a", b"12345").status == 201
    text = metrics(shared, API)
    assert 'flare_bucket_objects{bucket="counted"} 1.0' in text
    assert 'flare_bucket_object_bytes{bucket="counted"} 5.0' in text
    assert 'flare_bucket_requests_total{bucket="counted",method="PUT"} 2.0' in text
