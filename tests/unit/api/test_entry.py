"""Both ways in give the same answers, and let the same callers in."""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count, product
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from flared.access.keys import API_AUDIENCE, Keyring, authorization, node_token
from flared.access.origin import foreign_reason
from flared.api.callers import REMEMBERED_MAX
from flared.api.entry import Entry
from flared.api.face import Face
from flared.api.gate import Gate
from flared.api.native import routes
from flared.chunks.budget import MemoryBudget
from flared.http.eviction import Standing
from flared.http.exchange import Exchange
from flared.http.messages import EMPTY_BODY, Reply, ReplyFields, Request, encode_fields
from flared.http.parsing import Fields, RequestHead
from flared.http.pool import Pool, PoolSettings
from flared.http.server import InTurns, Server
from tests.support.cluster import Cluster
from tests.support.entry import HOSTS, make_entry, make_faces
from tests.support.memory_net import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from flared.http.stream import Buffer

Clock = trio.testing.MockClock
SECRET = b"the cluster's secret"
PROOF = {"authorization": authorization(node_token(SECRET, API_AUDIENCE))}
WRONG = {"authorization": authorization("0" * 64)}
PAGE = {"origin": "http://evil.example"}
AWAY, HERE = "10.0.0.9", "127.0.0.1"

TABLE: list[tuple[str, str, bytes, dict[str, str]]] = [
    ("GET", "/object/a", b"", {}),
    ("PUT", "/object/a", b"first", {"x-flare-meta-colour": "blue", "content-type": "text/x"}),
    ("GET", "/object/a", b"", {}),
    ("HEAD", "/object/a", b"", {}),
    ("GET", "/bucket/default/object/a", b"", {}),
    ("GET", "/object/a", b"", {"range": "bytes=1-2"}),
    ("GET", "/object/a", b"", {"if-match": '"other"'}),
    ("PUT", "/object/a", b"second", {"if-none-match": "*"}),
    ("PUT", "/object/a", b"second", {"content-md5": "x"}),
    ("PUT", "/object/a", b"second", {"x-flare-content-sha256": "0" * 64}),
    ("PUT", "/object/a", b"", {"x-flare-copy-source": "/bucket/default/object/none"}),
    ("PUT", "/object/a", b"x", {"content-range": "bytes 0-0/1"}),
    ("PUT", "/object/empty", b"", {}),
    ("GET", "/object/empty", b"", {}),
    ("GET", "/object/a?chunks=1", b"", {}),
    ("GET", "/object/%ff", b"", {}),
    ("GET", "/object/%zz", b"", {}),
    ("PUT", "/object/" + "k" * 1025, b"x", {}),
    ("GET", "/bucket/No/object/a", b"", {}),
    ("PUT", "/bucket/missing/object/a", b"x", {}),
    ("GET", "/bucket//object/a", b"", {}),
    ("GET", "/bucket/default/objects", b"", {}),
    ("PATCH", "/object/a", b"x", {}),
    ("BREW", "/object/", b"", {}),
    ("GET", "/nowhere", b"", {}),
    ("HEAD", "/nowhere", b"", {}),
    ("PUT", "/status", b"x", {}),
    ("GET", "/cluster/heartbeat", b"", {}),
    ("POST", "/object/a", b"no form", {}),
    ("GET", "/object/", b"", {}),
    ("GET", "/healthz", b"", {}),
    ("GET", "/healthz", b"", PAGE),
    ("GET", "/object/a", b"", PAGE),
    ("PUT", "/object/a", b"x", PAGE),
    ("PUT", "/object/a", b"third", PAGE | PROOF),
    ("GET", "/object/a", b"", WRONG),
    ("PUT", "/object/a", b"x", WRONG),
    ("DELETE", "/object/a", b"", PROOF),
    ("DELETE", "/object/a", b"", {"if-match": '"other"'}),
    ("DELETE", "/object/a", b"x", {}),
    ("GET", "/object/a", b"", PROOF),
    ("POST", "/cluster/heartbeat", b"{}", {}),
    ("POST", "/cluster/invite", b"{}", {}),
    ("DELETE", "/cluster/node?node=data1", b"", {}),
    ("GET", "/metrics?name=a", b"", {}),
]


@asynccontextmanager
async def serving(*, in_turns: bool, anonymous: str, host: str) -> AsyncIterator[tuple[Pool, Server]]:
    cluster = Cluster()
    entry = make_entry(cluster, Keyring([SECRET]), anonymous)
    network = MemoryNetwork()
    network.host = host
    turns = InTurns(cluster.turns, entry, MemoryBudget(1 << 20)) if in_turns else None
    server = Server(entry.answer, in_turns=turns)
    async with cluster.running(), trio.open_nursery() as nursery:
        await nursery.start(server.serve, [network.listen("api:8000")])
        yield Pool("api:8000", PoolSettings(), network.connect), server
        nursery.cancel_scope.cancel()


async def ask(pool: Pool, method: str, target: str, body: bytes, fields: Mapping[str, str]) -> tuple[object, ...]:
    """The answer, without what two servers cannot have in common."""
    lines = encode_fields(list(fields.items()))
    async with pool.request(method, target, lines, (body,)) as response:
        content = await response.body.read_all(1 << 20)
    shown = {name: value for name, value in response.fields.items() if name not in ("x-flare-version", "last-modified")}
    found: object = content
    if shown.get("content-type") == "application/json" and content:
        found = json.loads(content)
        assert isinstance(found, dict)
        found.pop("version", None)
        found.get("error", {}).pop("request_id", None)
        for entry in found.get("objects", ()):
            entry["version"] = entry["modified"] = None
        shown["content-length"] = ""
    return method, target, response.status, shown, found


@pytest.mark.parametrize("method", ["PUT", "GET"])
async def test_a_bug_in_a_late_answer_is_answered_to_its_client(
    autojump_clock: Clock, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing else would end the request: its connection stayed open, and its client waited, for good."""

    def fail(_: object) -> bytes:
        raise ZeroDivisionError

    async with serving(in_turns=True, anonymous="read-write", host=HERE) as (pool, _):
        assert (await ask(pool, "PUT", "/object/a", b"a", {}))[2] == 201
        with monkeypatch.context() as patch, trio.fail_after(60):
            patch.setattr("flared.api.native.quick.manifest_head", fail)
            patch.setattr("flared.api.native.quick.put_reply", fail)
            assert (await ask(pool, method, "/object/a", b"b" if method == "PUT" else b"", {}))[2] == 500
        assert (await ask(pool, "GET", "/object/a", b"", {}))[2] == 200
    assert "event=handler_failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("host", [HERE, AWAY])
@pytest.mark.parametrize("anonymous", ["none", "read", "read-write"])
async def test_tasks_and_turns_answer_alike(autojump_clock: Clock, anonymous: str, host: str) -> None:
    async def run(*, in_turns: bool) -> tuple[list[tuple[object, ...]], int]:
        async with serving(in_turns=in_turns, anonymous=anonymous, host=host) as (pool, server):
            answers = [await ask(pool, *request) for request in TABLE]
            return answers, server.statistics().handed_over

    by_tasks, none = await run(in_turns=False)
    by_turns, handed_over = await run(in_turns=True)
    for one, other in zip(by_tasks, by_turns, strict=True):
        assert one == other
    assert none == 0
    assert 0 < handed_over < len(TABLE) - 15, "the rest was shown in turns"


def old_rule(method: str, path: str, peer: str, fields: Mapping[str, str], anonymous: str) -> int:
    """The decisions when one rule over methods and paths made them; 200 means that the call itself went on."""
    reads = {"GET", "HEAD"}
    opened = {"none": set(), "read": reads, "read-write": {*reads, "PUT", "POST", "DELETE"}}[anonymous]
    proved = fields.get("authorization") == PROOF["authorization"]
    local = peer.startswith(("127.", "[::1]:"))
    operators = {"/cluster/node", "/cluster/orphans", "/cluster/metadata"}
    shut = not local and path not in {"/healthz", "/cluster/heartbeat", "/cluster/join"}
    keys = path == "/cluster/key" and method in {"GET", "POST", "PUT", "DELETE"}
    operators_call = (path in operators and method not in reads) or (path, method) == ("/bucket/b", "POST") or keys
    granted = method in opened and not operators_call
    if shut and not granted and not proved:
        return 401
    if path not in {"/healthz", "/cluster/join"} and not proved and foreign_reason(method, fields, HOSTS):
        return 403
    if ((path, method) in {("/cluster/heartbeat", "POST"), ("/cluster/invite", "POST")} and not proved) or (
        keys and not proved
    ):
        return 401
    if path == "/metrics" and method in reads and not local:
        return 401
    return 200


@dataclass
class Connection:
    """The connection of an exchange."""

    peer: str
    proved: list[Standing] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)

    def prove(self, standing: Standing) -> None:
        self.proved.append(standing)

    def answer(self, exchange: Exchange, reply: bytes) -> None:
        self.replies.append(reply)

    def hand_over(self, exchange: Exchange) -> None:
        raise AssertionError

    @property
    def status(self) -> int:
        return int(self.replies[-1].split()[1])


async def say_ran(request: Request, reply: Reply, _: object) -> None:
    await reply.send(200, b"")


def say_ran_in_turn(exchange: Exchange, _: object) -> bool:
    exchange.send(200, b"")
    return True


class TaskReply(Reply):
    """Keeps the status, and sends nothing."""

    def __init__(self) -> None:
        self.close = False

    def prove(self, standing: Standing) -> None:
        pass

    async def send(self, status: int, fields: ReplyFields, body: Buffer = b"") -> None:
        self.status = status


@pytest.mark.parametrize("anonymous", ["none", "read", "read-write"])
async def test_the_same_callers_are_let_in_as_by_the_old_rule(autojump_clock: Clock, anonymous: str) -> None:
    """All calls of both faces, and some that do not exist, with handlers that only say that they ran."""
    faces = [
        replace(
            face,
            handlers=dict.fromkeys(face.handlers, say_ran),
            in_turns=dict.fromkeys(face.in_turns, say_ran_in_turn),
        )
        for face in make_faces(Cluster(), Keyring([SECRET]), anonymous)
    ]
    entry = Entry(faces, gate=Gate(now=count(step=60.0).__next__))  # slowly, so that no one is asked to slow down
    paths = [
        "/object/a", "/object/", "/bucket", "/bucket/b", "/bucket/b/object/a", "/bucket/b/x", "/nowhere", "/status",
        "/healthz", "/readyz", "/metrics", "/cluster/failure", "/cluster/node", "/cluster/heartbeat",
        "/cluster/invite", "/cluster/join", "/cluster/orphans", "/cluster/metadata",
        "/cluster/key",
    ]  # fmt: skip
    heads: list[dict[str, str]] = [
        {"host": "api:8000"} | page | proof
        for page, proof in product(
            ({}, PAGE, {"host": "evil.example"}, {"sec-fetch-site": "cross-site"}), ({}, PROOF, WRONG)
        )
    ]
    memos: dict[tuple[int, str], dict[str, object]] = {}
    for path, method, (number, fields), peer in product(
        paths, ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"), enumerate(heads), (f"{AWAY}:5", f"{HERE}:5")
    ):
        connection = Connection(peer)
        # One memo for each head and peer, over all paths and methods: nothing may leak from one to another.
        memo = memos.setdefault((number, peer), {})
        if entry.begin(Exchange(connection, entry, head_of(method, path, fields, memo), b"")):
            found = connection.status
        else:
            reply = TaskReply()
            await entry.answer(Request(method, path, "", fields, EMPTY_BODY, peer), reply)
            found = reply.status
        assert (found if found in (401, 403) else 200) == old_rule(method, path, peer, fields, anonymous), (
            method, path, peer, fields,
        )  # fmt: skip
    assert all(len(memo) <= REMEMBERED_MAX for memo in memos.values())


def head_of(method: str, path: str, fields: dict[str, str], memo: dict[str, object]) -> RequestHead:
    shared = Fields(fields, 0, False, False, False, False, has_host=True, memo=memo)
    return method, path, "", 1, shared, 0


def begin(entry: Entry, method: str, fields: dict[str, str], memo: dict[str, object], peer: str = AWAY + ":5") -> int:
    connection = Connection(peer)
    assert entry.begin(Exchange(connection, entry, head_of(method, "/nowhere", fields, memo), b""))
    return connection.status


async def test_what_is_remembered_ends_with_the_secret(autojump_clock: Clock) -> None:
    keyring = Keyring([SECRET])
    entry = make_entry(Cluster(), keyring)
    memo: dict[str, object] = {}
    fields = {"host": "api"} | PROOF
    assert [begin(entry, "PUT", fields, memo) for _ in range(2)] == [404, 404]
    keyring.change([b"another secret altogether"])
    assert begin(entry, "PUT", fields, memo) == 401
    keyring.change([b"another secret altogether", SECRET])
    assert begin(entry, "PUT", fields, memo) == 404


async def test_what_is_remembered_is_of_one_method_and_one_peer(autojump_clock: Clock) -> None:
    entry = make_entry(Cluster(), Keyring([SECRET]), "read")
    memo: dict[str, object] = {}
    fields = {"host": "api"}
    assert begin(entry, "GET", fields, memo, HERE + ":5") == 404
    assert begin(entry, "PUT", fields, memo, HERE + ":5") == 404
    assert begin(entry, "PUT", fields, memo) == 401
    assert begin(entry, "GET", fields, memo) == 404
    for number in range(100):
        begin(entry, "M" + chr(65 + number % 26) * (1 + number // 26), fields, memo)
    assert len(memo) <= REMEMBERED_MAX


async def test_a_refusal_is_logged_with_the_grant_that_was_lacking(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    entry = make_entry(Cluster(), Keyring([SECRET]), "read")
    connection = Connection(AWAY + ":5")
    with caplog.at_level(logging.DEBUG, "flared.api.errors"):
        assert entry.begin(Exchange(connection, entry, head_of("PUT", "/object/a", {"host": "api"}, {}), b"x"))
    assert "error=Unauthenticated" in caplog.text
    assert "lacking='object:write'" in caplog.text
    assert b"lacking" not in connection.replies[0]


async def test_a_face_with_a_route_that_nothing_answers_is_a_mistake(autojump_clock: Clock) -> None:
    native = make_faces(Cluster(), Keyring([SECRET]), "none")[0]
    handlers = {call: way for call, way in native.handlers.items() if call is not routes.LIST_BUCKETS}
    with pytest.raises(ValueError, match="list_buckets"):
        Face("native", native.routes, handlers, native.identify, native.errors)


async def test_the_heartbeat_of_a_node_makes_its_connection_a_trusted_one(autojump_clock: Clock) -> None:
    entry = make_entry(Cluster(), Keyring([SECRET]))

    class Proving(TaskReply):
        def prove(self, standing: Standing) -> None:
            proved.append(standing)

    proved: list[Standing] = []
    for fields in ({}, WRONG, PROOF):
        await entry.answer(Request("POST", "/cluster/heartbeat", "", fields, EMPTY_BODY, AWAY + ":5"), Proving())
    assert proved == [Standing.TRUSTED]  # the others were refused before they had proved anything
