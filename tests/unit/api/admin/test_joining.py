"""Invites over real HTTP: who gets the secret of the cluster, and which errors all others get."""

from __future__ import annotations

import json
from base64 import b64decode
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.access.invites import VALID_SECONDS_MAX, invite_key, prove, unseal
from flared.access.keys import API_AUDIENCE, Keyring, authorization, node_token
from flared.catalog.invites import INVITES_MAX
from flared.http.pool import Pool, PoolSettings
from flared.http.server import Server
from flared.meta import keys
from tests.support.cluster import Cluster
from tests.support.entry import make_entry
from tests.support.memory_net import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Clock = trio.testing.MockClock
SECRET = b"the cluster's secret"
NONCE = bytes(range(16))
Json = dict[str, object]


class Caller:
    def __init__(self, pool: Pool, keyring: Keyring, cluster: Cluster) -> None:
        self._pool = pool
        self.keyring = keyring
        self.cluster = cluster

    async def post(self, path: str, fields: object, *, secret: bytes | None = None) -> tuple[int, Json]:
        head = [("authorization", authorization(node_token(secret, API_AUDIENCE)))] if secret else []
        async with self._pool.request("POST", path, head, (json.dumps(fields).encode(),)) as response:
            answer = json.loads(await response.body.read_all(1 << 20))
        assert isinstance(answer, dict)
        return response.status, answer

    async def invite(self, **fields: object) -> bytes:
        status, answer = await self.post("/cluster/invite", {"valid_seconds": 3600, **fields}, secret=SECRET)
        assert status == 201, answer
        assert (answer["cluster"], answer["listen"]) == ("c", "0.0.0.0:8000")
        return bytes.fromhex(str(answer["invite"]))

    async def join(
        self, invite: bytes, node: str = "data9", nonce: bytes = NONCE, secret: bytes = SECRET
    ) -> tuple[int, Json]:
        proof = prove(invite_key(secret, invite), invite, node, nonce)
        asked = {"invite": invite.hex(), "node": node, "nonce": nonce.hex(), "proof": proof.hex()}
        return await self.post("/cluster/join", asked)

    async def refusal(self, invite: bytes, node: str = "data9", nonce: bytes = NONCE, secret: bytes = SECRET) -> str:
        status, answer = await self.join(invite, node, nonce, secret)
        error = answer["error"]
        assert isinstance(error, dict)
        return f"{status} {error['code']} {error['message']}"


@asynccontextmanager
async def serving(*, host: str = "10.0.0.9", anonymous: str = "none") -> AsyncIterator[Caller]:
    cluster, keyring = Cluster(), Keyring([SECRET])
    entry = make_entry(cluster, keyring, anonymous)
    network = MemoryNetwork()
    network.host = host
    async with cluster.running(), trio.open_nursery() as nursery:
        await nursery.start(Server(entry.answer).serve, [network.listen("api:8000")])
        yield Caller(Pool("api:8000", PoolSettings(), network.connect), keyring, cluster)
        nursery.cancel_scope.cancel()


async def test_a_host_with_a_token_gets_the_secrets_sealed_and_once(autojump_clock: Clock) -> None:
    async with serving() as call:
        invite = await call.invite()
        call.keyring.change([b"the secret after it", SECRET])  # begun meanwhile
        for _ in range(2):  # the first answer may be lost
            status, answer = await call.join(invite)
            assert status == 200
            sealed = b64decode(str(answer["sealed"]))
            assert unseal(sealed, invite_key(SECRET, invite), invite, "data9", NONCE) == (
                b"the secret after it",
                SECRET,
            )
        assert "403 Forbidden this join token was used already, by node data9" in await call.refusal(invite, "data8")
        assert "403 Forbidden this join token was used already" in await call.refusal(invite, nonce=bytes(16))


async def test_a_token_is_for_its_time_its_node_and_its_cluster(autojump_clock: Clock) -> None:
    async with serving() as call:
        bound = await call.invite(node="data9", valid_seconds=60)
        assert "is for a node named data9, not for data8" in await call.refusal(bound, "data8")
        assert "401 Unauthenticated this join token is of another cluster" in await call.refusal(
            bound, secret=b"another cluster's"
        )
        unknown = bytes(16)  # one that was forgotten, or never recorded
        assert "403 Forbidden this join token has expired" in await call.refusal(unknown)
        await trio.sleep(61)
        assert "403 Forbidden this join token has expired" in await call.refusal(bound)
        replaced = await call.invite()
        call.keyring.change([b"the secret after it"])
        assert "401 Unauthenticated" in await call.refusal(replaced)


@pytest.mark.parametrize("host", ["10.0.0.9", "127.0.0.1"])
async def test_an_invite_takes_the_secret_wherever_it_is_made(autojump_clock: Clock, host: str) -> None:
    async with serving(host=host, anonymous="read-write") as call:
        for secret in (None, b"another secret"):
            status, answer = await call.post("/cluster/invite", {"valid_seconds": 60}, secret=secret)
            assert status == 401
            assert "takes the secret" in str(answer)
        call.keyring.change([])
        status, answer = await call.post("/cluster/invite", {"valid_seconds": 60})
        assert status == 409
        assert "no secret to hand out" in str(answer)
        assert "401 Unauthenticated" in await call.refusal(bytes(16))


async def test_calls_that_make_no_sense_are_refused(autojump_clock: Clock) -> None:
    async with serving() as call:
        for fields, word in (
            ([], "JSON object"),
            ({"valid_seconds": 60, "nodes": "a"}, "JSON object"),
            ({}, "valid_seconds"),
            ({"valid_seconds": True}, "valid_seconds"),
            ({"valid_seconds": 0}, "valid_seconds"),
            ({"valid_seconds": VALID_SECONDS_MAX + 1}, "valid_seconds"),
            ({"valid_seconds": 60, "node": "a b"}, "not a valid node name"),
            ({"valid_seconds": 60, "node": 5}, "not a valid node name"),
        ):
            status, answer = await call.post("/cluster/invite", fields, secret=SECRET)
            assert (status, word in str(answer)) == (400, True), answer
        good = {"invite": "0" * 32, "node": "data9", "nonce": "0" * 32, "proof": "0" * 64}
        for name, value in (("invite", "0"), ("nonce", None), ("proof", "x" * 64), ("node", "a b"), ("node", None)):
            status, answer = await call.post("/cluster/join", {**good, name: value})
            assert (status, name in str(answer)) == (400, True), answer
        assert (await call.post("/cluster/join", good))[0] == 401
        assert (await call.post("/cluster/join", {**good, "node": "d" * 5000}))[0] == 413


async def test_invites_are_bounded_and_hold_no_key(autojump_clock: Clock) -> None:
    async with serving() as call:
        invite = await call.invite(valid_seconds=60)
        for _ in range(INVITES_MAX - 1):
            await call.invite()
        status, answer = await call.post("/cluster/invite", {"valid_seconds": 60}, secret=SECRET)
        assert (status, "256 invites" in str(answer)) == (409, True)
        rows = await call.cluster.kv.scan(*keys.under(b"invite/"), 1000)
        key = invite_key(SECRET, invite)
        assert not any(key in value or key.hex().encode() in value for _, value in rows)
        await trio.sleep(61)
        await call.invite()
        left = [name for name, _ in await call.cluster.kv.scan(*keys.under(b"invite/"), 1000)]
        assert len(left) == INVITES_MAX
        assert keys.invite(invite.hex()) not in left
