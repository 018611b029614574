from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest
import trio
import trio.testing

from flared.data.pieces import Piece, describe_piece
from flared.data.transport import statuses, wire
from flared.data.transport.links import LINKS, GetLinks, PutLinks
from flared.errors import Busy, ConnectionLost, FlareError, NodeUnreachable, NoSuchPiece, PieceCorrupt, VolumeFull
from flared.http.turns import Turns
from flared.names import NodeName

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

NODE = NodeName("data1")
Outcome = FlareError | None


def piece(name: str, payload: bytes = b"x") -> tuple[Piece, bytes]:
    return describe_piece(name, payload, codec=0, scheme="replica:1", plain_size=len(payload)), payload


class Node:
    """The node behind ``post``: it keeps pieces, and lets a batch through only on request."""

    def __init__(self) -> None:
        self.pieces: dict[str, tuple[Piece, bytes]] = {}
        self.batches: list[list[str]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.status = 201

    async def post(self, path: str, body: bytes) -> bytes:
        names = self._names(path, body)
        self.batches.append(names)
        await self.gate.wait()
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        if path == wire.PATH_PUT:
            return wire.pack_statuses([self.status] * len(names))
        return wire.pack_answers(names, self.read(names))

    def _names(self, path: str, body: bytes) -> list[str]:
        if path != wire.PATH_PUT:
            return wire.parse_names(body)
        items = wire.parse_pieces(body)
        self.pieces |= {item[0].name: item for item in items}
        return [item.name for item, _ in items]

    def read(self, names: list[str]) -> list[tuple[Piece, bytes] | int]:
        return [self.pieces.get(name, 404) for name in names]


L = TypeVar("L", PutLinks, GetLinks)


@asynccontextmanager
async def running(
    kind: type[L], post: Callable[[str, bytes], Awaitable[bytes]], links_max: int = LINKS
) -> AsyncIterator[tuple[L, trio.Nursery]]:
    """Links over a node whose ``post`` takes its time."""

    def begin(path: str, body: bytes, requests: str, answered: Callable[[bytes | FlareError], None]) -> None:
        async def answer() -> None:
            try:
                answered(await post(path, body))
            except FlareError as error:
                answered(error)
            except trio.Cancelled:
                answered(ConnectionLost("the pool is being closed"))
                raise

        nursery.start_soon(answer)

    turns = Turns()
    links = kind(NODE, begin, turns, links_max)
    async with trio.open_nursery() as nursery:
        await nursery.start(turns.run)
        links.open()
        yield links, nursery
        links.close()
        nursery.cancel_scope.cancel()
    assert turns.statistics().failures == 0
    turns.close()


def put(links: PutLinks, *names: str, payload: bytes = b"x") -> dict[str, list[Outcome]]:
    heard: dict[str, list[Outcome]] = {name: [] for name in names}
    for name in names:
        links.put_nowait(*piece(name, payload), heard[name].append)
    return heard


async def test_what_is_queued_in_one_turn_travels_together() -> None:
    node = Node()
    async with running(PutLinks, node.post) as (links, _):
        heard = put(links, "a", "b", "c")
        await trio.testing.wait_all_tasks_blocked()
    assert node.batches == [["a", "b", "c"]]
    assert heard == {"a": [None], "b": [None], "c": [None]}
    assert node.pieces["b"] == piece("b")


async def test_the_next_batch_gathers_while_both_links_are_under_way() -> None:
    node = Node()
    async with running(PutLinks, node.post) as (links, _):
        node.gate = trio.Event()
        for name in "abcdef":
            put(links, name)
            await trio.testing.wait_all_tasks_blocked()
        assert node.batches == [["a"], ["b"]]
        assert LINKS == 2
        assert links.statistics().waiting == 4
        node.gate.set()
        await trio.testing.wait_all_tasks_blocked()
    assert node.batches == [["a"], ["b"], ["c", "d", "e", "f"]]
    assert links.statistics().records == 6


async def test_one_of_several_processes_has_one_link() -> None:
    node = Node()
    async with running(PutLinks, node.post, 1) as (links, _):
        node.gate = trio.Event()
        for name in "abc":
            put(links, name)
            await trio.testing.wait_all_tasks_blocked()
        node.gate.set()
        await trio.testing.wait_all_tasks_blocked()
    assert node.batches == [["a"], ["b", "c"]]


async def test_a_batch_has_bounds_in_records_and_bytes() -> None:
    node = Node()
    async with running(PutLinks, node.post) as (links, _):
        small = put(links, *[f"r{i}" for i in range(wire.RECORDS_MAX + 1)])
        await trio.testing.wait_all_tasks_blocked()
        large = put(links, *[f"b{i}" for i in range(41)], payload=bytes(100 * 1024))
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(map(len, node.batches)) == [1, 1, 40, wire.RECORDS_MAX]
    assert all(outcomes == [None] for outcomes in (small | large).values())


async def test_each_put_hears_its_own_status() -> None:
    node = Node()
    node.status = 507
    async with running(PutLinks, node.post) as (links, _):
        heard = put(links, "a")
        await trio.testing.wait_all_tasks_blocked()
    assert [type(error) for error in heard["a"]] == [VolumeFull]


@pytest.mark.parametrize("failure", [ConnectionLost("cut"), NodeUnreachable(NODE, "503")])
async def test_a_lost_batch_is_heard_by_all_and_the_next_is_tried(failure: FlareError) -> None:
    node = Node()
    async with running(PutLinks, node.post) as (links, _):
        node.failure = failure
        lost = put(links, "a", "b")
        await trio.testing.wait_all_tasks_blocked()
        node.failure = None
        kept = put(links, "c")
        await trio.testing.wait_all_tasks_blocked()
    assert [type(error) for outcomes in lost.values() for error in outcomes] == [NodeUnreachable] * 2
    assert kept == {"c": [None]}
    assert links.statistics().failed_batches == 1


async def test_an_answer_of_the_wrong_length_fails_the_whole_batch() -> None:
    async def post(path: str, body: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return wire.pack_statuses([201])

    async with running(PutLinks, post) as (links, _):
        heard = put(links, "a", "b")
        await trio.testing.wait_all_tasks_blocked()
    assert [type(error) for outcomes in heard.values() for error in outcomes] == [NodeUnreachable] * 2


async def test_cancelled_links_tell_everybody_once() -> None:
    node = Node()
    node.gate = trio.Event()
    async with running(PutLinks, node.post) as (links, _):
        first = put(links, "a")
        await trio.testing.wait_all_tasks_blocked()
        second = put(links, "b")
        await trio.testing.wait_all_tasks_blocked()
        third = put(links, "c")
    fourth = put(links, "d")
    heard = first | second | third | fourth
    assert [type(error) for outcomes in heard.values() for error in outcomes] == [NodeUnreachable] * 4


async def test_a_callback_may_queue_again() -> None:
    node = Node()
    heard: list[Outcome] = []

    def again(error: Outcome) -> None:
        node.status = 201
        links.put_nowait(*piece("b"), heard.append)

    async with running(PutLinks, node.post) as (links, _):
        node.status = 503
        links.put_nowait(*piece("a"), again)
        await trio.testing.wait_all_tasks_blocked()
    assert heard == [None]


async def test_a_queue_that_is_far_too_long_refuses_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flared.data.transport.links.WAITING_RECORDS_MAX", 1)
    async with running(PutLinks, Node().post) as (links, _):
        heard = put(links, "a", "b")
        assert heard["a"] == []
        assert [type(error) for error in heard["b"]] == [Busy]
        await trio.testing.wait_all_tasks_blocked()
    assert heard["a"] == [None]


async def test_gets_travel_together_and_hear_their_own_answers() -> None:
    node = Node()
    node.pieces = {"a": piece("a", b"aa"), "b": piece("b", b"")}
    got: dict[str, object] = {}

    async def get(name: str) -> None:
        try:
            got[name] = await links.read(name)
        except FlareError as error:
            got[name] = type(error)

    async with running(GetLinks, node.post) as (links, _), trio.open_nursery() as nursery:
        for name in ("a", "b", "c"):
            nursery.start_soon(get, name)
    assert got == {"a": piece("a", b"aa"), "b": piece("b", b""), "c": NoSuchPiece}
    assert [sorted(batch) for batch in node.batches] == [["a", "b", "c"]]


async def test_those_who_want_the_same_piece_share_it() -> None:
    node = Node()
    node.pieces = {"a": piece("a")}
    got: list[tuple[Piece, bytes]] = []

    async def get() -> None:
        got.append(await links.read("a"))

    async with running(GetLinks, node.post) as (links, _), trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(get)
    assert got == [piece("a")] * 5
    assert node.batches == [["a"]]


async def test_a_piece_that_is_not_what_it_says_is_refused() -> None:
    node = Node()
    node.pieces = {"a": (piece("a", b"good")[0], b"evil")}
    async with running(GetLinks, node.post) as (links, _):
        with pytest.raises(PieceCorrupt):
            await links.read("a")


class SmallAnswers(Node):
    """Answers one piece a batch."""

    def read(self, names: list[str]) -> list[tuple[Piece, bytes] | int]:
        return [self.pieces.get(names[0], 404), *[statuses.ASK_AGAIN] * (len(names) - 1)]


async def test_what_did_not_fit_is_asked_again() -> None:
    node = SmallAnswers()
    node.pieces = {name: piece(name) for name in "abc"}
    got: list[str] = []

    async def get(name: str) -> None:
        got.append((await links.read(name))[0].name)

    async with running(GetLinks, node.post) as (links, _), trio.open_nursery() as nursery:
        for name in "abcab":
            nursery.start_soon(get, name)
    assert sorted(got) == ["a", "a", "b", "b", "c"]


async def test_who_joins_a_piece_asked_again_may_still_give_up() -> None:
    node = SmallAnswers()
    node.pieces = {name: piece(name) for name in "abc"}
    gates = [trio.Event() for _ in range(4)]
    got: list[str] = []

    async def post(path: str, body: bytes) -> bytes:
        names = wire.parse_names(body)
        node.batches.append(names)
        await gates[len(node.batches) - 1].wait()
        return wire.pack_answers(names, node.read(names))

    async def get(name: str) -> None:
        got.append((await links.read(name))[0].name)

    async def give_up(name: str, interest: trio.CancelScope) -> None:
        with interest:
            await get(name)

    interest = trio.CancelScope()
    async with running(GetLinks, post) as (links, nursery):
        for names in ("ab", "c"):  # both links are under way now
            for name in names:
                nursery.start_soon(get, name)
            await trio.testing.wait_all_tasks_blocked()
        again = node.batches[0][1]
        nursery.start_soon(give_up, again, interest)
        await trio.testing.wait_all_tasks_blocked()
        gates[0].set()  # what did not fit meets the late getter, and they leave together
        await trio.testing.wait_all_tasks_blocked()
        assert node.batches == [node.batches[0], ["c"], [again]]
        interest.cancel()
        await trio.testing.wait_all_tasks_blocked()
        gates[1].set()
        gates[2].set()
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(got) == ["a", "b", "c"]


async def test_an_answer_that_only_says_ask_again_is_an_error() -> None:
    async def post(path: str, body: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        names = wire.parse_names(body)
        return wire.pack_answers(names, [statuses.ASK_AGAIN] * len(names))

    async with running(GetLinks, post) as (links, _):
        with pytest.raises(NodeUnreachable):
            await links.read("a")


async def test_a_cancelled_getter_leaves_the_others_in_peace() -> None:
    node = Node()
    node.pieces = {name: piece(name) for name in "abcd"}
    got: list[str] = []

    async def get(name: str) -> None:
        got.append((await links.read(name))[0].name)

    async with running(GetLinks, node.post) as (links, _):
        node.gate = trio.Event()
        async with trio.open_nursery() as kept, trio.open_nursery() as dropped:
            for name in "abcd":
                kept.start_soon(get, name)
                dropped.start_soon(get, name)
                await trio.testing.wait_all_tasks_blocked()
            dropped.cancel_scope.cancel()
            node.gate.set()
    assert sorted(got) == ["a", "b", "c", "d"]


async def test_a_dropped_name_is_not_requested() -> None:
    node = Node()
    node.pieces = {name: piece(name) for name in "abc"}
    async with running(GetLinks, node.post) as (links, nursery):
        node.gate = trio.Event()
        for name in "ab":
            nursery.start_soon(links.read, name)
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await links.read("c")
        node.gate.set()
        await trio.testing.wait_all_tasks_blocked()
    assert node.batches == [["a"], ["b"]]


async def test_lost_gets_hear_it_each_with_an_error_of_its_own() -> None:
    node = Node()
    node.failure = ConnectionLost("cut")
    errors: list[NodeUnreachable] = []

    async def get() -> None:
        with pytest.raises(NodeUnreachable) as caught:
            await links.read("a")
        errors.append(caught.value)

    async with running(GetLinks, node.post) as (links, _), trio.open_nursery() as nursery:
        nursery.start_soon(get)
        nursery.start_soon(get)
    assert len(errors) == 2
    assert errors[0] is not errors[1]


async def test_closed_links_refuse_gets() -> None:
    node = Node()
    node.gate = trio.Event()
    async with trio.open_nursery() as nursery:

        async def get(name: str) -> None:
            with pytest.raises(NodeUnreachable):
                await links.read(name)

        async with running(GetLinks, node.post) as (links, _):
            for name in "abc":
                nursery.start_soon(get, name)
                await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(NodeUnreachable):
        await links.read("d")
