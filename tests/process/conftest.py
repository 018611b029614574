"""Every test in this directory is marked ``process``; clusters end with their test and show their logs if it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import Cluster, Start, Toml, running
from tests.support.scratch import scratch_directory

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.process)


@pytest.fixture
def directory() -> Iterator[Path]:
    """On a real disk, where a sync is a sync."""
    with scratch_directory() as fresh:
        yield fresh


@pytest.fixture
def start(directory: Path) -> Iterator[Start]:
    """Starts a cluster with Cluster's arguments below the test's directory, and ends it."""
    with contextlib.ExitStack() as clusters:

        def start_cluster(
            *,
            nodes: int = 1,
            scheme: str = "replica:1",
            api: Toml | None = None,
            data: Toml | None = None,
            volumes: dict[str, list[Path]] | None = None,
            metadata: Path | None = None,
        ) -> Cluster:
            cluster = Cluster(directory / "cluster", nodes, scheme, api or {}, data or {}, volumes or {}, metadata)
            return clusters.enter_context(running(cluster))

        yield start_cluster


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """One cluster for the tests of a module that leave it as they found it: three nodes, ``replica:2``."""
    with scratch_directory() as fresh, running(Cluster(fresh, nodes=3, scheme="replica:2")) as cluster:
        yield cluster
