"""Buckets through the S3 face, on a cluster in memory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import trio.testing

from flared.access.keys import Keyring
from flared.api.s3.settings import S3Settings
from flared.api.s3.xml import Element, parse_xml
from flared.chunks.budget import MemoryBudget
from flared.http.messages import encode_fields
from flared.http.pool import Pool, PoolSettings
from flared.http.server import InTurns, Server
from tests.support.cluster import Cluster
from tests.support.memory_net import MemoryNetwork
from tests.support.s3 import make_s3_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

Clock = trio.testing.MockClock


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
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __call__(
        self, method: str, target: str, body: bytes = b"", fields: Mapping[str, str] | None = None
    ) -> Answer:
        lines = encode_fields(list((fields or {}).items()))
        async with self._pool.request(method, target, lines, (body,)) as response:
            content = await response.body.read_all(1 << 20)
        assert response.fields["x-amz-request-id"]
        return Answer(response.status, response.fields, content)


@asynccontextmanager
async def speaking_s3(settings: S3Settings | None = None, anonymous: str = "read-write") -> AsyncIterator[Asker]:
    cluster = Cluster()
    entry = make_s3_entry(cluster, Keyring([b"the cluster's secret"]), anonymous, settings)
    network = MemoryNetwork()
    server = Server(entry.answer, in_turns=InTurns(cluster.turns, entry, MemoryBudget(1 << 20)))
    async with cluster.running(), trio.open_nursery() as nursery:
        await nursery.start(server.serve, [network.listen("api:8333")])
        yield Asker(Pool("api:8333", PoolSettings(), network.connect))
        nursery.cancel_scope.cancel()


async def test_a_bucket_comes_and_goes(autojump_clock: Clock) -> None:
    async with speaking_s3() as ask:
        assert (await ask("PUT", "/one")).status == 200
        assert (await ask("PUT", "/one")).status == 200
        assert (await ask("HEAD", "/one")).fields["x-amz-bucket-region"] == "us-east-1"
        assert (await ask("GET", "/one?location")).xml("LocationConstraint").text == ""
        listed = (await ask("GET", "/")).xml("ListAllMyBucketsResult").find("Buckets")
        assert listed is not None
        assert [bucket.text_of("Name") for bucket in listed.children] == ["default", "one"]
        assert (await ask("DELETE", "/one")).status == 204
        assert (await ask("DELETE", "/one")).code == "NoSuchBucket"
        assert (await ask("HEAD", "/one")).status == 404


async def test_buckets_are_listed_in_pages(autojump_clock: Clock) -> None:
    async with speaking_s3() as ask:
        for number in range(5):
            await ask("PUT", f"/some-{number}")
        names, token = [], ""
        while True:
            page = (await ask("GET", f"/?max-buckets=2&prefix=some&continuation-token={token}")).xml(
                "ListAllMyBucketsResult"
            )
            buckets = page.find("Buckets")
            assert buckets is not None
            names += [bucket.text_of("Name") for bucket in buckets.children]
            token = page.text_of("ContinuationToken")
            if not token:
                break
        assert names == [f"some-{number}" for number in range(5)]


async def test_a_region_of_ones_own(autojump_clock: Clock) -> None:
    wanted = b"<CreateBucketConfiguration><LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>"
    async with speaking_s3(S3Settings(region="here")) as ask:
        assert (await ask("PUT", "/one", wanted % b"there")).code == "InvalidLocationConstraint"
        assert (await ask("PUT", "/one", wanted % b"here")).status == 200
        assert (await ask("PUT", "/one")).code == "BucketAlreadyOwnedByYou"
        assert (await ask("GET", "/one?location")).xml("LocationConstraint").text == "here"
        assert (await ask("PUT", "/one", b"<x>")).code == "MalformedXML"


async def test_errors_are_s3s(autojump_clock: Clock) -> None:
    async with speaking_s3() as ask:
        assert (await ask("PUT", "/NO")).code == "InvalidBucketName"
        assert (await ask("GET", "/one?replication")).code == "NotImplemented"
        assert (await ask("DELETE", "/one?acl")).code == "MethodNotAllowed"
        error = (await ask("GET", "/none/?location")).xml("Error")
        assert error.text_of("Resource") == "/none/"
        assert error.text_of("RequestId")
        assert error.text_of("HostId")
        assert (await ask("PUT", "/one?acl&policy")).code == "InvalidArgument"


async def test_a_stranger_hears_only_access_denied(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        for method, target in (
            ("GET", "/"),
            ("PUT", "/one"),
            ("GET", "/NO"),
            ("GET", "/one?replication"),
            ("GET", "/"),
        ):
            answer = await ask(method, target)
            assert (answer.status, answer.code) == (403, "AccessDenied")
            assert answer.xml("Error").text_of("Message") == "Access Denied"
