"""Both ends of the wire for real: a Remote, an HTTP server, the service, and volumes on a disk."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio

from flared.access.keys import Keyring, authorization, data_audience, node_token
from flared.chunks.budget import MemoryBudget
from flared.data.pieces import BLOCK_SIZE, LARGE_SIZE, Piece, Span, block_is_good, describe_piece, piece_is_good
from flared.data.transport import statuses, wire
from flared.data.transport.remote import Remote
from flared.data.transport.service import DataService
from flared.data.volume.open import open_volumes
from flared.data.volume.values import DataSettings, VolumeStatus
from flared.data.volume.volumes import Volumes
from flared.errors import BadDigest, FlareError, NodeUnreachable, NoSuchPiece, PieceCorrupt, TooLarge, Unauthenticated
from flared.http.pool import Pool
from flared.http.server import InTurns, Server
from flared.http.turns import Turns
from flared.names import NodeName, PieceName
from tests.support.memory_net import MemoryNetwork
from tests.support.piece_nodes import read_small

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

PLACE = "data1:9000"
NODE = NodeName("data1")
KEYRING = Keyring([b"secret"])
FOREIGN = {"origin": "http://evil.example"}
TOKEN = node_token(b"secret", data_audience(NODE))
NAME = PieceName(64 * "0" + ".0123456789abcdef.0")
BODY = bytes(range(256)) * (LARGE_SIZE // 64) + b"tail"  # two blocks and a bit


@dataclass
class Node:
    remote: Remote
    volumes: Volumes
    pool: Pool
    net: MemoryNetwork
    directory: Path

    async def call(
        self, method: str, target: str, body: bytes = b"", fields: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """As curl would: status, fields, body."""
        sent = {"authorization": authorization(TOKEN)} | dict(fields or {})
        async with self.pool.request(method, target, list(sent.items()), (body,) if body else ()) as response:
            return response.status, response.fields, await response.body.read_all(1 << 26)

    async def put(self, payload: bytes, name: str = NAME) -> Piece:
        """Store a piece as the api node does."""
        piece = describe_piece(name, payload, codec=1, scheme="replica:3", plain_size=2 * len(payload))
        await self.remote.put(piece, payload)
        return piece

    async def read(self, name: PieceName = NAME, *, offset: int = 0, length: int | None = None) -> bytes:
        size = (await self.remote.head(name)).size
        buffer = bytearray(100_000)
        got = b""
        async with self.remote.read(name, Span(offset, size if length is None else offset + length, size)) as stream:
            while count := await stream.receive_into(memoryview(buffer)):
                got += buffer[:count]
        return got

    def damage(self, payload: bytes) -> None:
        """Flip a bit of these bytes, wherever a segment holds them."""
        for path in self.directory.rglob("*"):
            if path.is_file() and (at := path.read_bytes().find(payload)) >= 0:
                with path.open("r+b") as file:
                    file.seek(at)
                    file.write(bytes([payload[0] ^ 1]))
                return
        raise AssertionError("nowhere")


async def put_small(remote: Remote, piece: Piece, payload: bytes) -> FlareError | None:
    heard: list[FlareError | None] = []
    finished = trio.Event()

    def done(error: FlareError | None) -> None:
        heard.append(error)
        finished.set()

    remote.put_nowait(piece, payload, done)
    await finished.wait()
    (outcome,) = heard
    return outcome


@asynccontextmanager
async def data_node(directory: Path, token: str | None = TOKEN) -> AsyncIterator[Node]:
    net = MemoryNetwork()
    turns = Turns()
    remote = Remote(NODE, PLACE, token, turns, connect=net.connect)
    volumes = await open_volumes(DataSettings(NODE, (str(directory),)), turns)
    service = DataService(NODE, volumes, KEYRING if token else Keyring(), hosts=frozenset({NODE}))
    async with trio.open_nursery() as nursery:
        await nursery.start(turns.run)
        await nursery.start(volumes.run)
        await volumes.wait_ready()
        in_turns = InTurns(turns, service, MemoryBudget(1 << 20))
        await nursery.start(Server(service.handler, in_turns=in_turns).serve, [net.listen(PLACE)])
        await nursery.start(remote.run)
        yield Node(remote, volumes, Pool(PLACE, connect=net.connect), net, directory)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "size", [0, 1, 4096, LARGE_SIZE - 1, LARGE_SIZE, BLOCK_SIZE, BLOCK_SIZE + 1, 5 * BLOCK_SIZE + 7]
)
async def test_what_is_put_is_got(tmp_path: Path, size: int) -> None:
    payload = (BODY * 4)[:size]
    async with data_node(tmp_path) as node:
        piece = await node.put(payload)
        assert await node.remote.head(NAME) == piece
        assert await node.read() == payload
        if size < LARGE_SIZE:
            assert await read_small(node.remote, NAME) == (piece, payload)
        else:
            with pytest.raises(TooLarge):
                await read_small(node.remote, NAME)
        assert await node.remote.list("", 10) == [(NAME, size)]


async def test_what_is_put_is_there_after_a_restart(tmp_path: Path) -> None:
    async with data_node(tmp_path) as node:
        piece = await node.put(b"small")
        large = await node.put(BODY, "large")
    async with data_node(tmp_path) as node:
        assert await read_small(node.remote, NAME) == (piece, b"small")
        assert await node.remote.head(PieceName("large")) == large
        assert await node.read(PieceName("large")) == BODY


@pytest.mark.parametrize("size", [5000, 5 * BLOCK_SIZE + 7])
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (1, 100), (4999, 1), (100, None), (4000, 999_999_999), (BLOCK_SIZE - 1, BLOCK_SIZE + 2)],
)
async def test_ranges_verified_or_not(tmp_path: Path, size: int, offset: int, length: int | None) -> None:
    payload = (BODY * 4)[:size]
    if offset >= size:
        return
    end = size if length is None else min(size, offset + length)
    async with data_node(tmp_path) as node:
        await node.put(payload)
        assert await node.read(offset=offset, length=length) == payload[offset:end]
        status, fields, body = await node.call("GET", f"/chunk/{NAME}", fields={"range": f"bytes={offset}-{end - 1}"})
        assert (status, body) == (206, payload[offset:end])
        assert fields["content-range"] == f"bytes {offset}-{end - 1}/{size}"


async def test_curl_needs_no_fields_of_ours(tmp_path: Path) -> None:
    async with data_node(tmp_path) as node:
        for name, payload in (("small", b"hello"), ("large", BODY)):
            assert (await node.call("PUT", f"/chunk/{name}", payload))[0] == 201
            assert (await node.call("PUT", f"/chunk/{name}", payload))[0] == 200
            status, fields, body = await node.call("GET", f"/chunk/{name}")
            assert (status, body) == (200, payload)
            piece = wire.parse_piece_fields(fields, name, len(payload))
            assert piece_is_good(piece, payload)
            assert block_is_good(piece, 0, payload[:BLOCK_SIZE])
            status, head, body = await node.call("HEAD", f"/chunk/{name}")
            assert (status, head["content-length"], body) == (200, str(len(payload)), b"")
            assert (await node.call("GET", f"/chunk/{name}", fields={"range": "bytes=9999999-"}))[0] == 416
            assert (await node.call("DELETE", f"/chunk/{name}"))[0] == 204
            assert (await node.call("DELETE", f"/chunk/{name}"))[0] == 204
            assert (await node.call("GET", f"/chunk/{name}"))[:1] == (404,)


async def test_a_put_that_does_not_have_its_checksum_is_refused(tmp_path: Path) -> None:
    async with data_node(tmp_path) as node:
        for name, payload in (("small", b"hello"), ("large", BODY)):
            piece = describe_piece(name, payload, codec=0, scheme="replica:1", plain_size=len(payload))
            wrong = payload[:-1] + b"?"
            with pytest.raises(BadDigest):
                await node.remote.put(piece, wrong)
            with pytest.raises(NoSuchPiece):
                await node.remote.head(PieceName(name))
        piece = describe_piece(NAME, b"hello", codec=0, scheme="replica:1", plain_size=5)
        assert type(await put_small(node.remote, piece, b"hell?")) is BadDigest
        assert await put_small(node.remote, piece, b"hello") is None


async def test_one_bad_record_does_not_stop_its_neighbours(tmp_path: Path) -> None:
    items = [describe_piece(f"p{i}", b"%d" % i, codec=0, scheme="", plain_size=1) for i in range(3)]
    body = wire.pack_pieces(items, [b"0", b"?", b"2"])
    async with data_node(tmp_path) as node:
        status, _, answer = await node.call("POST", wire.PATH_PUT, body)
        assert (status, wire.parse_statuses(answer, 3)) == (200, (201, 400, 201))
        status, _, answer = await node.call("POST", wire.PATH_PUT, body)
        assert wire.parse_statuses(answer, 3) == (200, 400, 200)
        names = ["p2", "p1", "p0"]
        status, _, answer = await node.call("POST", wire.PATH_GET, wire.pack_names(names))
        assert wire.parse_answers(answer, names) == [(items[2], b"2"), 404, (items[0], b"0")]
        errors = await node.remote.delete([PieceName(name) for name in names])
        assert errors == [None] * 3
        status, _, answer = await node.call("POST", wire.PATH_DELETE, wire.pack_names(names))
        assert wire.parse_statuses(answer, 3) == (404, 404, 404)


async def test_a_get_answers_no_more_than_its_bounds(tmp_path: Path) -> None:
    payload = bytes(100 * 1024)
    names = [f"p{i:03}" for i in range(100)]
    async with data_node(tmp_path) as node:
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(node.put, payload, name)
        _, _, answer = await node.call("POST", wire.PATH_GET, wire.pack_names(names))
        answers = wire.parse_answers(answer, names)
        assert len(answer) < wire.BATCH_BYTES_MAX + 2 * LARGE_SIZE
        assert not isinstance(answers[0], int)
        assert answers[-1] == statuses.ASK_AGAIN
        got: list[str] = []

        async def get(name: str) -> None:
            got.append((await read_small(node.remote, PieceName(name)))[0].name)

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(get, name)
        assert sorted(got) == names


@pytest.mark.parametrize("size", [5000, 5 * BLOCK_SIZE])
async def test_damage_never_leaves_the_node_unless_the_reader_verifies(tmp_path: Path, size: int) -> None:
    payload = bytes(size - 100) + b"at the end" * 10
    async with data_node(tmp_path) as node:
        await node.put(payload)
        node.damage(payload[-100:])
        if size < LARGE_SIZE:
            with pytest.raises(PieceCorrupt):
                await read_small(node.remote, NAME)
            assert (await node.call("GET", f"/chunk/{NAME}"))[0] == 500
        else:
            assert await node.read() != payload
            with pytest.raises(FlareError):
                await node.call("GET", f"/chunk/{NAME}")
            assert (await node.call("GET", f"/chunk/{NAME}", fields={"range": "bytes=-1"}))[0] == 500
            assert (await node.call("GET", f"/chunk/{NAME}", fields={"range": "bytes=0-9"}))[2] == payload[:10]
        assert node.volumes.take_damage() == [NAME]


async def test_a_node_that_knows_the_next_secret_takes_both(tmp_path: Path) -> None:
    first, following = (node_token(secret, data_audience(NODE)) for secret in (b"secret", b"next"))
    try:
        async with data_node(tmp_path, token=first) as node:
            await node.put(BODY[:1000])
            KEYRING.change([b"secret", b"next"])
            for token in (first, following):
                node.remote.set_token(token)
                assert (await node.remote.head(NAME)).size == 1000
                assert (await read_small(node.remote, NAME))[0].size == 1000
            KEYRING.change([b"next"])
            assert (await node.remote.head(NAME)).size == 1000
            node.remote.set_token(first)
            with pytest.raises(Unauthenticated):
                await node.remote.head(NAME)
    finally:
        KEYRING.change([b"secret"])


async def test_no_token_no_answer(tmp_path: Path) -> None:
    async with data_node(tmp_path, token=node_token(b"secret", "api")) as node:
        with pytest.raises(Unauthenticated):
            await node.remote.head(NAME)
        with pytest.raises(Unauthenticated):
            await read_small(node.remote, NAME)
        for path in ("/chunks", "/status", "/metrics", f"/chunk/{NAME}"):
            assert (await node.call("GET", path, fields={"authorization": ""}))[0] == 401
        for path in ("/healthz", "/readyz"):
            assert (await node.call("GET", path, fields={"authorization": ""}))[0] == 200


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/", b"", 404),
        ("GET", "/object/x", b"", 404),
        ("POST", "/chunk/x", b"", 405),
        ("GET", "/chunks/put", b"", 405),
        ("GET", "/chunk/", b"", 400),
        ("PUT", "/chunk/..%2fx", b"x", 400),
        ("PUT", "/chunk/a/b", b"x", 400),
        ("GET", "/chunk/.x", b"", 400),
        ("GET", "/chunks?limit=no", b"", 400),
        ("GET", "/chunks?limit=0", b"", 400),
        ("GET", "/chunks?limit=1&limit=2", b"", 400),
        ("GET", "/chunks?lmit=1", b"", 400),
        ("GET", "/status?a", b"", 400),
        ("GET", "/healthz?a", b"", 400),
        ("DELETE", "/chunk/a?force=1", b"", 400),
        ("BREW", "/chunk/a", b"", 405),
        ("TRACE", "/chunks", b"", 405),
        ("BREW", "/nowhere", b"", 404),
        ("POST", "/chunks/put", b"no batch", 400),
        ("POST", "/chunks/get", b"../x\n", 400),
        ("POST", "/chunks/delete", b"no line end", 400),
        ("POST", "/chunks/get", b"x" * (wire.NAMES_BYTES_MAX + 1), 413),
    ],
)
async def test_what_cannot_be_right_is_refused(
    tmp_path: Path, method: str, target: str, body: bytes, status: int
) -> None:
    async with data_node(tmp_path) as node:
        answer, fields, raw = await node.call(method, target, body)
        assert answer == status
        assert json.loads(raw)["error"]["code"] == fields[statuses.ERROR_FIELD]


async def test_a_large_record_in_a_batch_is_refused(tmp_path: Path) -> None:
    piece = describe_piece("a", bytes(LARGE_SIZE), codec=0, scheme="", plain_size=1)
    async with data_node(tmp_path) as node:
        assert (await node.call("POST", wire.PATH_PUT, wire.pack_pieces([piece], [bytes(LARGE_SIZE)])))[0] == 413


async def test_a_body_that_breaks_off_stores_nothing_and_leaks_no_buffer(tmp_path: Path) -> None:
    async with data_node(tmp_path) as node:
        for size in (5000, len(BODY)):
            stream = await node.net.connect(PLACE)
            head = f"PUT /chunk/{NAME} HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n"
            head += f"authorization: {authorization(TOKEN)}\r\n\r\n"
            stream.send_nowait(head.encode() + b"x" * (size - 1))
            await trio.testing.wait_all_tasks_blocked(0.01)
            stream.close()
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert node.volumes.status().buffer_bytes == 0
        with pytest.raises(NoSuchPiece):
            await node.remote.head(NAME)


async def test_what_is_looked_for_and_not_here_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Repair asks for pieces that are noted as missing."""
    caplog.set_level("INFO")
    async with data_node(tmp_path) as node:
        with pytest.raises(NoSuchPiece):
            await read_small(node.remote, NAME)
        with pytest.raises(NoSuchPiece):
            await node.remote.head(NAME)
    reports = [record for record in caplog.records if "event=pieces_absent" in record.getMessage()]
    assert [record.levelname for record in reports] == ["INFO", "INFO"]
    assert "event=call_failed" not in caplog.text


async def test_the_inventory_comes_in_pages(tmp_path: Path) -> None:
    names = [f"p{i:02}" for i in range(25)]
    async with data_node(tmp_path) as node:
        for name in names:
            await node.put(b"x", name)
        page = await node.remote.list("", 10)
        assert page == [(name, 1) for name in names[:10]]
        assert await node.remote.list(page[-1][0], 100) == [(name, 1) for name in names[10:]]
        assert json.loads((await node.call("GET", "/chunks?after=p20&limit=2"))[2]) == {
            "pieces": [["p21", 1], ["p22", 1]],
            "next": "p22",
        }
        assert json.loads((await node.call("GET", "/chunks?after=p24"))[2]) == {"pieces": [], "next": None}
        assert await node.remote.list_working("p23", 10) == ([("p24", 1)], ())


async def test_a_failed_volume_is_left_out_of_what_is_asked_of_the_others(tmp_path: Path) -> None:
    async with data_node(tmp_path) as node:
        await node.put(b"x", NAME)
        node.volumes._failed.append(VolumeStatus("", "/srv/dead", 0, 0, 0, "failed", "Input/output error"))
        with pytest.raises(NodeUnreachable, match="/srv/dead"):
            await node.remote.list("", 10)
        assert await node.remote.list_working("", 10) == ([(NAME, 1)], ("/srv/dead",))
        assert await node.remote.delete([NAME, PieceName(NAME[:-1] + "1")]) == [None, None]
        assert (await node.call("DELETE", f"/chunk/{NAME}"))[0] == 202


async def test_status_and_metrics(tmp_path: Path) -> None:
    async with data_node(tmp_path) as node:
        assert (await node.call("GET", "/metrics"))[0] == 401  # not from this machine, whatever it knows
        node.pool.close()
        node.net.host = "127.0.0.1"
        await node.put(b"hello")
        await read_small(node.remote, NAME)
        status = await node.remote.status()
        assert status["name"] == "data1"
        storage = status["storage"]
        assert isinstance(storage, dict)
        assert storage["pieces"] == 1
        code, fields, text = await node.call("GET", "/metrics")
        assert (code, fields["content-type"].split(";")[0]) == (200, "text/plain")
        assert b"flare_data_pieces_stored_total 1.0" in text
        assert re.search(rb'flare_volume_syncs_total{path="[^"]+"} 1.0', text)
        assert re.search(rb'flare_volume_records_total{path="[^"]+"} 1.0', text)
        assert b'flare_data_call_seconds_count{call="put_batch"} 1.0' in text
        node.pool.close()
        assert (await node.call("GET", "/metrics", fields=FOREIGN))[0] == 403


async def test_without_a_secret_a_foreign_web_page_may_do_nothing(tmp_path: Path) -> None:
    async with data_node(tmp_path, token=None) as node:
        for method, target in (("POST", "/chunks/put"), ("PUT", "/chunk/a"), ("GET", "/chunks"), ("GET", "/status")):
            code, fields, _ = await node.call(method, target, fields=FOREIGN)
            assert (code, fields[statuses.ERROR_FIELD]) == (403, "Forbidden")
        assert (await node.call("GET", "/chunk/a"))[0] == 404
        assert (await node.call("GET", "/healthz", fields=FOREIGN))[0] == 200


async def test_a_node_whose_volumes_are_closed_is_not_ready_and_says_503(tmp_path: Path) -> None:
    net = MemoryNetwork()
    turns = Turns()
    volumes = await open_volumes(DataSettings(NODE, (str(tmp_path),)), turns)
    remote = Remote(NODE, PLACE, TOKEN, turns, connect=net.connect)
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(DataService(NODE, volumes, KEYRING).handler).serve, [net.listen(PLACE)])
        await nursery.start(turns.run)
        await nursery.start(remote.run)
        with pytest.raises(NodeUnreachable, match="503"):
            await remote.head(NAME)
        with pytest.raises(NodeUnreachable):
            await read_small(remote, NAME)
        async with Pool(PLACE, connect=net.connect).request("GET", "/readyz") as response:
            assert response.status == 503
            assert response.fields["retry-after"] == "1"
        nursery.cancel_scope.cancel()
