"""One cluster that speaks S3, for the whole suite, and boto3 clients of two keys and of none.

The suite follows ceph/s3-tests in what it asks. Names of buckets are new for each test, so nothing is cleaned up.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from tests.support.client import Client
from tests.support.daemons import API, Cluster, free_ports, running
from tests.support.scratch import scratch_directory

HERE = Path(__file__).parent
REGION = "us-east-1"
S3Client = Any
"""boto3's clients have no types of their own."""

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.process)


@dataclass(frozen=True)
class Key:
    id: str
    secret: str


@dataclass(frozen=True)
class Place:
    """A cluster that speaks S3, and its keys."""

    cluster: Cluster
    port: int
    main: Key
    alt: Key

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def client(self, key: Key | None, **options: Any) -> S3Client:
        settings = {"s3": {"addressing_style": "path"}, "retries": {"total_max_attempts": 1}, **options}
        # Without this boto3 makes pre-signed URLs by version 2 of the signature.
        settings["signature_version"] = "s3v4" if key else UNSIGNED
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=key.id if key else None,
            aws_secret_access_key=key.secret if key else None,
            config=Config(**settings),
        )


def create_key(cluster: Cluster, name: str, *grants: str) -> Key:
    """Make an access key, as ``flarectl key create`` does."""
    from flared.access.keys import API_AUDIENCE, authorization, node_token

    proof = {"authorization": authorization(node_token(cluster.secret.encode(), API_AUDIENCE))}
    client = Client(cluster.daemons[API].port)
    answer = client.call("POST", "/cluster/key", json.dumps({"name": name, "grants": grants}).encode(), proof)
    assert answer.status == 201, answer.body
    made = answer.json()
    return Key(str(made["id"]), str(made["secret"]))


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    with scratch_directory() as fresh:
        port = free_ports(1)[0]
        api = {"s3_listen": f"127.0.0.1:{port}", "s3": {"domain": "localhost"}}
        with running(Cluster(fresh, nodes=3, scheme="replica:2", api=api)) as cluster:
            yield Place(cluster, port, create_key(cluster, "main", "create:*"), create_key(cluster, "alt", "create:*"))


@pytest.fixture(scope="session")
def s3(place: Place) -> S3Client:
    """A client of the main key."""
    return place.client(place.main)


@pytest.fixture(scope="session")
def alt(place: Place) -> S3Client:
    """A client of another key, which may create buckets of its own."""
    return place.client(place.alt)


@pytest.fixture(scope="session")
def stranger(place: Place) -> S3Client:
    """A client without a key."""
    return place.client(None)


@pytest.fixture
def new_name() -> str:
    return f"bucket-{next(_numbers)}"


@pytest.fixture
def bucket(s3: S3Client, new_name: str) -> str:
    """An empty bucket of the main key."""
    s3.create_bucket(Bucket=new_name)
    return new_name
