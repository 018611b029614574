"""Each client does what it is for, over http and https. The slow ones run with ``python -m tests.s3.clients``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3.clients.checks import CLIENTS, Client
from tests.s3.clients.endpoint import Endpoint, Shell
from tests.s3.clients.tools import Missing
from tests.s3.conftest import create_key
from tests.support.certificates import OwnAuthority
from tests.support.daemons import Cluster, free_ports, running
from tests.support.scratch import scratch_directory

ALL = "FLARE_ALL_CLIENTS"
"""Set in the environment: the slow ones run, too, and each also over http."""
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["http", "https"] if os.environ.get(ALL) else ["https"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    """A cluster of one data node that speaks S3, with an authority of its own for https."""
    with scratch_directory() as fresh:
        port, secure = free_ports(1)[0], request.param == "https"
        own = OwnAuthority(fresh)
        api: dict[str, object] = {"s3_listen": f"127.0.0.1:{port}"}
        with running(Cluster(fresh / "cluster", api=api | ({"tls": own.write("api")} if secure else {}))) as cluster:
            key = create_key(cluster, "clients", "create:*")
            yield Endpoint(f"{request.param}://localhost:{port}", key.id, key.secret, own.ca if secure else None)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_client(client: Client, endpoint: Endpoint, tmp_path: Path) -> None:
    if not (client.quick or os.environ.get(ALL)):
        pytest.skip("python -m tests.s3.clients runs it")
    try:
        client.check(Shell(endpoint, tmp_path), f"clients-{next(_numbers)}")
    except Missing as missing:
        pytest.skip(str(missing))
