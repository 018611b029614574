"""The S3 entry of an api node over a cluster in memory, as ``api_role`` makes it, and a client of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from flared.access.authorize import GRANTS, Policy
from flared.access.keys import Keyring
from flared.api.entry import Entry
from flared.api.s3.callers import S3Callers
from flared.api.s3.face import s3_face
from flared.api.s3.routes import S3Router
from flared.api.s3.settings import S3Settings
from flared.api.s3.xml import Element, parse_xml
from flared.catalog.buckets import find_access
from flared.chunks.budget import MemoryBudget
from flared.http.messages import encode_fields
from flared.http.pool import Pool, PoolSettings
from flared.http.server import InTurns, Server
from tests.support.cluster import Cluster
from tests.support.memory_net import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


def make_s3_entry(cluster: Cluster, keyring: Keyring, anonymous: str, settings: S3Settings | None = None) -> Entry:
    chosen = settings or S3Settings()
    callers = S3Callers(
        Policy(keyring, GRANTS[anonymous], partial(find_access, cluster.store.kv), frozenset({"api"})), chosen
    )
    return Entry([s3_face(cluster.store, callers, chosen)], S3Router(chosen.domain))


class Answer(NamedTuple):
    status: int
    fields: Mapping[str, str]
    body: bytes

    def xml(self, root: str) -> Element:
        return parse_xml(self.body, root)

    @property
    def code(self) -> str:
        return self.xml("Error").text_of("Code")


class Asker:
    def __init__(self, pool: Pool, cluster: Cluster) -> None:
        self._pool = pool
        self.cluster = cluster

    async def __call__(
        self, method: str, target: str, body: bytes = b"", fields: Mapping[str, str] | None = None
    ) -> Answer:
        lines = encode_fields(list((fields or {}).items()))
        async with self._pool.request(method, target, lines, (body,)) as response:
            content = await response.body.read_all(1 << 20)
        assert response.fields["x-amz-request-id"]
        return Answer(response.status, response.fields, content)


@asynccontextmanager
async def speaking_s3(
    settings: S3Settings | None = None, anonymous: str = "read-write", secret: bytes = b"the cluster's secret"
) -> AsyncIterator[Asker]:
    """A client of the S3 face; without a ``secret`` everything is granted."""
    cluster = Cluster()
    entry = make_s3_entry(cluster, Keyring([secret] if secret else []), anonymous, settings)
    network = MemoryNetwork()
    server = Server(entry.answer, in_turns=InTurns(cluster.turns, entry, MemoryBudget(1 << 20)))
    async with cluster.running(), trio.open_nursery() as nursery:
        await nursery.start(server.serve, [network.listen("api:8333")])
        yield Asker(Pool("api:8333", PoolSettings(), network.connect), cluster)
        nursery.cancel_scope.cancel()
