"""Access keys over real HTTP: who may manage them, and where a secret is seen."""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.access.keys import API_AUDIENCE, Keyring, authorization, node_token
from flared.catalog.key_store import KeyStore
from flared.http.pool import Pool, PoolSettings
from flared.http.server import Server
from tests.support.cluster import Cluster
from tests.support.entry import make_entry
from tests.support.memory_net import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Clock = trio.testing.MockClock
SECRET = b"the cluster's secret"
Json = dict[str, object]


class Caller:
    def __init__(self, pool: Pool, keyring: Keyring, cluster: Cluster) -> None:
        self._pool = pool
        self.keyring = keyring
        self.cluster = cluster
        self.keys = KeyStore(cluster.store.kv, keyring, cluster.store.now)

    async def send(
        self, method: str, fields: object = None, *, query: str = "", secret: bytes | None = SECRET
    ) -> tuple[int, Json]:
        head = [("authorization", authorization(node_token(secret, API_AUDIENCE)))] if secret else []
        body = (json.dumps(fields).encode(),) if fields is not None else ()
        async with self._pool.request(method, f"/cluster/key{query}", head, body) as response:
            content = await response.body.read_all(1 << 20)
            self.fields = response.fields
        answer = json.loads(content) if content else {}
        assert isinstance(answer, dict)
        return response.status, answer

    async def create(self, name: str, *grants: str, expires: float | None = None) -> Json:
        status, answer = await self.send("POST", {"name": name, "grants": list(grants), "expires": expires})
        assert status == 201, answer
        return answer

    async def names(self) -> list[object]:
        status, answer = await self.send("GET")
        assert status == 200
        keys = answer["keys"]
        assert isinstance(keys, list)
        assert all("secret" not in key for key in keys)
        return [key["name"] for key in keys]

    async def refusal(self, method: str, fields: object = None, *, query: str = "") -> str:
        status, answer = await self.send(method, fields, query=query)
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


async def test_a_key_is_created_shown_replaced_and_removed(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as call:
        made = await call.create("laptop", "write:backup/", "list:backup", "list:backup")
        assert call.fields["cache-control"] == "no-store"
        assert (made["grants"], made["expires"], made["state"]) == (["write:backup", "list:backup"], None, "works")
        found = call.keys.find(str(made["id"]))
        assert found is not None
        assert found.secret == made["secret"]
        await call.create("admin", "admin")
        assert await call.names() == ["admin", "laptop"]

        status, shown = await call.send("GET", query="?name=laptop")
        assert (status, shown) == (200, {name: value for name, value in made.items() if name != "secret"})

        status, replaced = await call.send("PUT", {"grace_seconds": 60}, query="?name=laptop")
        assert status == 200
        assert replaced["grants"] == made["grants"]
        assert [old["id"] for old in replaced["replaced"]] == [made["id"]]  # type: ignore[attr-defined]
        assert call.keys.find(str(made["id"])) is not None
        await trio.sleep(61)
        assert call.keys.find(str(made["id"])) is None
        newest = call.keys.find(str(replaced["id"]))
        assert newest is not None
        assert newest.secret == replaced["secret"] != made["secret"]

        assert (await call.send("DELETE", query="?name=laptop"))[0] == 204
        assert call.keys.find(str(replaced["id"])) is None
        assert await call.names() == ["admin"]
        assert str(made["secret"]) not in caplog.text
        assert "event=key_created key=laptop" in caplog.text
        rows = await call.cluster.store.kv.scan(b"", b"\xff", 1000)
        assert not any(str(made["secret"]).encode() in value for _, value in rows)


async def test_an_old_key_works_for_a_day_unless_the_call_says_otherwise(autojump_clock: Clock) -> None:
    async with serving() as call:
        first = await call.create("laptop", "read:*")
        _, second = await call.send("PUT", query="?name=laptop")
        old = call.keys.find(str(first["id"]))
        assert old is not None
        assert old.expires_ms - int(call.cluster.store.now() * 1000) == pytest.approx(86_400_000, abs=2000)
        await call.send("PUT", {"grace_seconds": 0}, query="?name=laptop")
        assert call.keys.find(str(first["id"])) is None
        assert call.keys.find(str(second["id"])) is None


async def test_a_key_that_no_secret_opens_is_shown_as_such(autojump_clock: Clock) -> None:
    async with serving() as call:
        await call.create("laptop", "read:*")
        other = b"another secret of the cluster"
        call.keyring.change([other])
        status, shown = await call.send("GET", query="?name=laptop", secret=other)
        assert (status, shown["state"]) == (200, "unreadable")
        call.keyring.change([other, SECRET])
        assert (await call.send("GET", query="?name=laptop"))[1]["state"] == "works"


async def test_a_key_expires(autojump_clock: Clock) -> None:
    async with serving() as call:
        until = call.cluster.store.now() + 60
        made = await call.create("laptop", "read:*", expires=until)
        assert made["expires"] == pytest.approx(until, abs=0.01)
        assert call.keys.find(str(made["id"])) is not None
        await trio.sleep(61)
        assert call.keys.find(str(made["id"])) is None
        _, shown = await call.send("GET", query="?name=laptop")
        assert shown["state"] == "expired"
        assert "409 Conflict the key laptop has expired" in await call.refusal("PUT", query="?name=laptop")


@pytest.mark.parametrize("host", ["10.0.0.9", "127.0.0.1"])
async def test_keys_take_the_secret_wherever_they_are_managed(autojump_clock: Clock, host: str) -> None:
    async with serving(host=host, anonymous="read-write") as call:
        for method in ("GET", "POST", "PUT", "DELETE"):
            for secret in (None, b"another secret"):
                status, answer = await call.send(method, {"name": "x"}, secret=secret)
                assert (status, answer["error"]["code"]) == (401, "Unauthenticated")  # type: ignore[index]
        call.keyring.change([])
        status, answer = await call.send("POST", {"name": "laptop"}, secret=None)
        assert status == 409, answer
        assert "this one has none" in str(answer)


async def test_calls_that_make_no_sense_are_refused(autojump_clock: Clock) -> None:
    async with serving() as call:
        await call.create("laptop")
        for fields, word in (
            ([], "JSON object"),
            ({"name": "a", "secret": "mine"}, "JSON object"),
            ({}, "BadName"),
            ({"name": "a b"}, "BadName"),
            ({"name": "laptop"}, "409 Conflict there is a key named laptop"),
            ({"name": "a", "grants": "admin"}, "list of texts"),
            ({"name": "a", "grants": [1]}, "list of texts"),
            ({"name": "a", "grants": ["own:x"]}, "is not a permission"),
            ({"name": "a", "grants": ["read:X"]}, "BadName"),
            ({"name": "a", "grants": ["admin"] * 129}, "129 grants"),
            ({"name": "a", "expires": 5}, "in the past"),
            ({"name": "a", "expires": "soon"}, "seconds since 1970"),
            ({"name": "a", "expires": True}, "seconds since 1970"),
            ({"name": "a", "expires": 1e15}, "seconds since 1970"),
        ):
            assert word in await call.refusal("POST", fields)
        for method in ("GET", "PUT", "DELETE"):
            assert "404 NoSuchKey" in await call.refusal(method, query="?name=other")
            assert "BadName" in await call.refusal(method, query="?name=")
        for grace in (-1, 1.5, True, "1", 365 * 86400 + 1):
            assert "grace_seconds" in await call.refusal("PUT", {"grace_seconds": grace}, query="?name=laptop")
        assert await call.names() == ["laptop"]
