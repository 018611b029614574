"""The contract of a data node with the api node (``chunks.nodes.PieceNode``), for every implementation.

``test_piece_node.py`` runs this over the real stack (remote, links, HTTP, service, volumes) on a real disk and in
memory, and over the fake that cluster tests and the simulation stand on.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Protocol

import pytest
import trio

from flared.data.pieces import BLOCK_SIZE, LARGE_SIZE, Piece, Span, piece_is_good
from flared.data.transport.wire import RECORDS_MAX
from flared.errors import (
    BadDigest,
    BadName,
    BadRequest,
    FlareError,
    NodeUnreachable,
    NoSuchPiece,
    PieceCorrupt,
    TooLarge,
    VolumeFull,
)
from flared.names import PieceName
from tests.support.engine import payload_of, piece_of
from tests.support.piece_nodes import read_small

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flared.chunks.nodes import PieceNode
    from flared.data.pieces import PieceStream
    from tests.support.links import Link

SIZES = [0, 1, 4096, LARGE_SIZE - 1, LARGE_SIZE, LARGE_SIZE + 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE + 5]
EITHER_SIZE = pytest.mark.parametrize("size", [1000, LARGE_SIZE + 1000], ids=["small", "large"])
ANSWER_SECONDS = 30.0
"""Within which every call is answered, by a node that is away too."""


class Subject(Protocol):
    """A piece node, and what may happen to it."""

    node: PieceNode
    link: Link
    """Between the two ends; its faults are the same everywhere, too."""

    async def fill(self) -> None:
        """Leave no room for pieces."""

    async def make_room(self) -> None: ...

    def damage(self, name: str, payload: bytes) -> None:
        """Flip a bit of what is stored of this piece."""

    async def fail_volume(self) -> None:
        """One of two volumes fails: the one that holds no piece of the test."""

    def stop(self) -> None:
        """End the api node's end of it (``run``)."""

    def cut(self) -> None:
        """Nothing reaches the node; connections that are open break."""

    def stall(self) -> None:
        """The node takes what it is sent and never answers."""

    def heal(self) -> None:
        """Undo ``cut`` and ``stall``."""


class PieceNodeContract:
    """Fixture: ``subject``. pytest-trio takes the virtual clock only from the arguments of the test itself."""

    @pytest.mark.parametrize("size", SIZES)
    async def test_what_was_put_is_read(self, subject: Subject, autojump_clock: object, size: int) -> None:
        payload, node = payload_of("a", size), subject.node
        await put(node, "a", payload)
        assert await read(node, "a") == (piece_of("a", payload), payload)
        assert await node.head(PieceName("a")) == piece_of("a", payload)
        assert await node.list("", 10) == [("a", size)]
        if size < LARGE_SIZE:
            assert await read_small(node, PieceName("a")) == (piece_of("a", payload), payload)

    @EITHER_SIZE
    async def test_a_put_is_idempotent_and_the_first_one_stays(
        self, subject: Subject, autojump_clock: object, size: int
    ) -> None:
        first, second = payload_of("first", size), payload_of("second", size)
        for payload in (first, first, second):
            await put(subject.node, "a", payload)
        assert await read(subject.node, "a") == (piece_of("a", first), first)
        assert await subject.node.list("", 10) == [("a", size)]

    async def test_everything_about_a_piece_is_kept(self, subject: Subject, autojump_clock: object) -> None:
        described = piece_of("n" * 200, b"x" * 100)
        piece = Piece(described.name, 1, "rs:10+4-abcdef", 1 << 31, 100, described.checksum, described.blocks)
        assert await put_small(subject.node, piece, b"x" * 100) is None
        name = PieceName(piece.name)
        assert await subject.node.head(name) == piece
        assert (await read_small(subject.node, name))[0] == piece
        async with subject.node.read(name, Span(0, 100, 100)) as stream:
            assert stream.piece == piece

    async def test_one_name_put_by_many_at_once(self, subject: Subject, autojump_clock: object) -> None:
        answers: list[FlareError | None] = []
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(_put_noting, subject.node, "a", payload_of("a", 10), answers)
                nursery.start_soon(_put_noting, subject.node, "b", payload_of("b", LARGE_SIZE), answers)
        assert answers == [None] * 20
        assert await subject.node.list("", 10) == [("a", 10), ("b", LARGE_SIZE)]

    async def test_every_put_of_very_many_is_answered_once(self, subject: Subject, autojump_clock: object) -> None:
        count = RECORDS_MAX + 100
        answers: dict[str, list[FlareError | None]] = {f"n{number:04}": [] for number in range(count)}
        for name, heard in answers.items():
            subject.node.put_nowait(piece_of(name, name.encode()), name.encode(), heard.append)
        await trio.sleep(ANSWER_SECONDS)
        assert set(map(tuple, answers.values())) == {(None,)}
        assert len(await subject.node.list("", 10_000)) == count
        assert await subject.node.delete(list(map(PieceName, answers))) == [None] * count
        assert await subject.node.list("", 10_000) == []

    async def test_many_who_ask_for_one_piece_get_it_though_one_gives_up(
        self, subject: Subject, autojump_clock: object
    ) -> None:
        await put(subject.node, "a", b"here")
        got: list[bytes] = []

        async def ask(scope: trio.CancelScope) -> None:
            with scope:
                got.append((await read_small(subject.node, PieceName("a")))[1])

        hasty = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, hasty)
            nursery.start_soon(ask, trio.CancelScope())
            nursery.start_soon(ask, trio.CancelScope())
            await trio.lowlevel.checkpoint()
            hasty.cancel()
        assert got == [b"here", b"here"]

    @EITHER_SIZE
    async def test_bytes_that_are_not_the_pieces_are_refused(
        self, subject: Subject, autojump_clock: object, size: int
    ) -> None:
        good = payload_of("good", size)
        bad = payload_of("bad", size)
        with pytest.raises(BadDigest):
            await put(subject.node, "a", bad, piece_of("a", good))
        assert await subject.node.list("", 10) == []
        await put(subject.node, "a", good)
        assert await read(subject.node, "a") == (piece_of("a", good), good)

    async def test_a_bad_record_does_not_spoil_its_batch(self, subject: Subject, autojump_clock: object) -> None:
        answers: dict[str, list[FlareError | None]] = {"a": [], "b": [], "c": []}
        for name, heard in answers.items():
            piece = piece_of(name, b"good")
            subject.node.put_nowait(piece, b"evil" if name == "b" else b"good", heard.append)
        await trio.sleep(ANSWER_SECONDS)
        assert [type(heard[0]) for heard in answers.values()] == [type(None), BadDigest, type(None)]
        assert await subject.node.list("", 10) == [("a", 4), ("c", 4)]

    @pytest.mark.parametrize("name", ["a/b", ".hidden", "n" * 201, "a b"])
    async def test_a_bad_name_is_refused_and_leaves_nothing(
        self, subject: Subject, autojump_clock: object, name: str
    ) -> None:
        node, asked = subject.node, PieceName(name)
        calls = [
            lambda: put(node, name, b"small"),
            lambda: put(node, name, bytes(LARGE_SIZE)),
            lambda: read_small(node, asked),
            lambda: node.head(asked),
            lambda: read(node, name),
            lambda: node.delete([asked]),
        ]
        for call in calls:
            # Too long or with a blank, it is not a valid request line: the far end must refuse it.
            with pytest.raises((BadName, BadRequest, NodeUnreachable, NoSuchPiece)):
                await call()
        assert await node.list("", 10) == []
        await put(node, "a", b"and the node still works")

    async def test_a_piece_that_is_not_there(self, subject: Subject, autojump_clock: object) -> None:
        name = PieceName("none")
        for call in (
            partial(read_small, subject.node),
            subject.node.head,
            partial(read, subject.node),
            partial(read, subject.node, size=LARGE_SIZE),
        ):
            with pytest.raises(NoSuchPiece):
                await call(name)

    async def test_a_large_piece_does_not_come_in_a_batch(self, subject: Subject, autojump_clock: object) -> None:
        await put(subject.node, "large", bytes(LARGE_SIZE))
        with pytest.raises(TooLarge):
            await read_small(subject.node, PieceName("large"))

    @pytest.mark.parametrize("size", [1000, 3 * BLOCK_SIZE + 5])
    async def test_spans(self, subject: Subject, autojump_clock: object, size: int) -> None:
        payload = payload_of("a", size)
        await put(subject.node, "a", payload)
        for offset, length in ((0, 1), (1, 10), (size - 1, 1), (size // 2, None), (0, size), (5, 10 * size), (0, None)):
            end = size if length is None else offset + length
            assert (await read(subject.node, "a", offset, length))[1] == payload[offset:end]

    async def test_a_span_behind_the_end_of_a_large_piece_is_refused(
        self, subject: Subject, autojump_clock: object
    ) -> None:
        size = LARGE_SIZE + 1000
        await put(subject.node, "a", payload_of("a", size))
        with pytest.raises(NodeUnreachable):
            await read(subject.node, "a", size, 1)

    @pytest.mark.parametrize(("actual", "believed"), [(1000, 999), (1000, 2 * LARGE_SIZE), (2 * LARGE_SIZE, 1000)])
    async def test_a_piece_of_another_size_than_its_reader_believes(
        self, subject: Subject, autojump_clock: object, actual: int, believed: int
    ) -> None:
        """It is described as it is, so that the reader sees it; or it is called corrupt."""
        await put(subject.node, "a", payload_of("a", actual))
        try:
            piece, _ = await read(subject.node, "a", size=believed)
        except PieceCorrupt:
            assert believed < LARGE_SIZE <= actual
        else:
            assert piece.size == actual

    async def test_a_reader_may_leave_early(self, subject: Subject, autojump_clock: object) -> None:
        payload = payload_of("a", 3 * BLOCK_SIZE)
        await put(subject.node, "a", payload)
        async with subject.node.read(PieceName("a"), Span(0, 3 * BLOCK_SIZE, 3 * BLOCK_SIZE)) as stream:
            assert await stream.receive_into(memoryview(bytearray(10))) > 0
        assert (await read(subject.node, "a"))[1] == payload

    async def test_a_damaged_small_piece_is_never_handed_out(self, subject: Subject, autojump_clock: object) -> None:
        payload = payload_of("a", 1000)
        await put(subject.node, "a", payload)
        await put(subject.node, "b", b"well")
        subject.damage("a", payload)
        for _ in range(2):
            with pytest.raises(PieceCorrupt):
                await read_small(subject.node, PieceName("a"))
        assert (await read_small(subject.node, PieceName("b")))[1] == b"well"
        assert await subject.node.list("", 10) == [("a", 1000), ("b", 4)]

    async def test_a_damaged_large_piece_is_for_its_reader_to_find(
        self, subject: Subject, autojump_clock: object
    ) -> None:
        payload = payload_of("a", LARGE_SIZE + 1000)
        await put(subject.node, "a", payload)
        subject.damage("a", payload)
        piece, got = await read(subject.node, "a")
        assert piece == piece_of("a", payload)
        assert not piece_is_good(piece, got)
        assert await subject.node.head(PieceName("a")) == piece

    @EITHER_SIZE
    async def test_a_damaged_piece_is_replaced_by_delete_and_put(
        self, subject: Subject, autojump_clock: object, size: int
    ) -> None:
        """As heal does: a put alone finds that one is there."""
        payload = payload_of("a", size)
        await put(subject.node, "a", payload)
        subject.damage("a", payload)
        assert await subject.node.delete([PieceName("a")]) == [None]
        await put(subject.node, "a", payload)
        assert await read(subject.node, "a") == (piece_of("a", payload), payload)

    async def test_a_small_piece_that_was_found_damaged_can_be_put_again(
        self, subject: Subject, autojump_clock: object
    ) -> None:
        payload = payload_of("a", 1000)
        await put(subject.node, "a", payload)
        subject.damage("a", payload)
        with pytest.raises(PieceCorrupt):
            await read_small(subject.node, PieceName("a"))
        await put(subject.node, "a", payload)
        assert (await read_small(subject.node, PieceName("a")))[1] == payload

    async def test_deletes(self, subject: Subject, autojump_clock: object) -> None:
        node = subject.node
        for name, size in (("a", 10), ("b", LARGE_SIZE), ("c", 10)):
            await put(node, name, payload_of(name, size))
        assert await node.delete([]) == []
        assert await node.delete([PieceName(name) for name in ("a", "none", "b", "a")]) == [None] * 4
        assert await node.list("", 10) == [("c", 10)]
        for name in ("a", "b"):
            with pytest.raises(NoSuchPiece):
                await node.head(PieceName(name))
        await put(node, "a", b"again")
        assert (await read_small(node, PieceName("a")))[1] == b"again"

    async def test_the_inventory_is_paged_in_name_order(self, subject: Subject, autojump_clock: object) -> None:
        names = sorted(f"{number * 7919 % 1000:03}.{number}" for number in range(60))
        for name in names:
            await put(subject.node, name, b"x")
        seen: list[str] = []
        after = ""
        while page := await subject.node.list(after, 7):
            assert await subject.node.list_working(after, 7) == (page, ())
            seen += [name for name, _ in page]
            after = seen[-1]
        assert seen == names

    @EITHER_SIZE
    async def test_a_full_node_takes_nothing_new_and_does_the_rest(
        self, subject: Subject, autojump_clock: object, size: int
    ) -> None:
        payload, node = payload_of("a", size), subject.node
        for name in ("a", "b"):
            await put(node, name, payload)
        await subject.fill()
        with pytest.raises(VolumeFull):
            await put(node, "new", payload)
        await put(node, "a", payload)  # is there: nothing has to be written
        assert (await read(node, "a"))[1] == payload
        assert await node.list("", 10) == [("a", size), ("b", size)]
        assert await node.delete([PieceName("b"), PieceName("none")]) == [None, None]
        await subject.make_room()
        await put(node, "new", payload)
        assert await node.list("", 10) == [("a", size), ("new", size)]

    @EITHER_SIZE
    async def test_what_is_in_quarantine_is_hidden_until_somebody_wants_it(
        self, subject: Subject, autojump_clock: object, size: int
    ) -> None:
        node = subject.node
        names = [PieceName(name) for name in ("a", "b", "c", "d", "e")]
        for name in names:
            await put(node, name, payload_of(name, size))
        assert await node.quarantine([*names, PieceName("none"), names[0]]) == [None] * 7
        assert await node.list("", 10) == await node.list("", 10) == []
        assert (await node.list_working("", 10))[0] == []
        assert await node.quarantine(names[:1]) == [None]
        assert (await node.head(names[0])).size == size
        assert (await read(node, "b"))[1] == payload_of("b", size)
        await put(node, "c", payload_of("c", size))
        assert await node.list("", 10) == [("a", size), ("b", size), ("c", size)]
        assert await node.delete(names[3:4]) == [None]
        with pytest.raises(NoSuchPiece):
            await node.head(names[3])
        if size < LARGE_SIZE:
            assert (await read_small(node, names[4]))[1] == payload_of("e", size)
        else:
            assert (await read(node, "e"))[1] == payload_of("e", size)
        assert [name for name, _ in await node.list("", 10)] == ["a", "b", "c", "e"]
        with pytest.raises((BadName, BadRequest)):
            await node.quarantine([PieceName("../x")])

    async def test_with_a_failed_volume_absence_cannot_be_said(self, subject: Subject, autojump_clock: object) -> None:
        node = subject.node
        for name in ("a", "b", "c"):
            await put(node, name, payload_of(name, 100))
        await subject.fail_volume()
        assert (await read_small(node, PieceName("a")))[1] == payload_of("a", 100)
        assert (await read(node, "b"))[1] == payload_of("b", 100)
        await put(node, "d", b"new")
        none = PieceName("none")
        for call in (
            partial(read_small, node),
            node.head,
            partial(read, node, size=100),
            partial(read, node, size=LARGE_SIZE),
            lambda _: node.list("", 10),
        ):
            with pytest.raises(NodeUnreachable):
                await call(none)
        page, left_out = await node.list_working("", 2)
        assert page == [("a", 100), ("b", 100)]
        assert len(left_out) == 1
        # What the failed volume may hold counts as deleted; it is found in its inventory when it is back.
        assert await node.delete([PieceName("a"), none]) == [None, None]
        assert [name for name, _ in (await node.list_working("", 10))[0]] == ["b", "c", "d"]

    async def test_a_node_that_cannot_be_reached(self, subject: Subject, autojump_clock: object) -> None:
        payload = payload_of("a", LARGE_SIZE)
        await put(subject.node, "a", payload)
        subject.cut()
        await _refuses_everything(subject.node)
        subject.heal()
        await trio.sleep(5)
        assert (await read(subject.node, "a"))[1] == payload
        assert await subject.node.list("", 10) == [("a", LARGE_SIZE)]

    async def test_a_node_that_stalls(self, subject: Subject, autojump_clock: object) -> None:
        await put(subject.node, "a", b"1")
        subject.stall()
        await _refuses_everything(subject.node)
        subject.heal()
        await trio.sleep(60)
        # What was put or deleted meanwhile may have had its effect, or not.
        await put(subject.node, "a", b"1")
        assert (await read_small(subject.node, PieceName("a")))[1] == b"1"

    @pytest.mark.parametrize("fault", ["cut", "stall"])
    async def test_a_stream_that_breaks(self, subject: Subject, autojump_clock: object, fault: str) -> None:
        await put(subject.node, "a", payload_of("a", 12 * BLOCK_SIZE))
        with pytest.raises(NodeUnreachable):
            await _break_while_reading(subject, "a", fault)

    @EITHER_SIZE
    async def test_a_reply_that_is_lost_is_lost_after_its_effect(
        self, subject: Subject, autojump_clock: object, size: int
    ) -> None:
        node, link, payload = subject.node, subject.link, payload_of("a", size)
        await put(node, "other", payload)
        link.lose_reply()
        await _try(lambda: put(node, "a", payload))  # a call that can be repeated may be, unseen
        assert link.replies_lost == 1
        assert (await read(node, "a"))[1] == payload
        link.lose_reply()
        await _try(lambda: node.delete([PieceName("a")]))
        assert link.replies_lost == 2
        assert await node.list("", 10) == [("other", size)]

    @EITHER_SIZE
    async def test_what_does_not_arrive_is_not_done(self, subject: Subject, autojump_clock: object, size: int) -> None:
        subject.link.cut_to()
        with pytest.raises(NodeUnreachable):
            await put(subject.node, "a", payload_of("a", size))
        subject.link.refuse()  # what is still on its way is dropped
        subject.link.heal()
        assert await subject.node.list("", 10) == []

    @EITHER_SIZE
    async def test_a_put_that_is_not_answered_is_done(
        self, subject: Subject, autojump_clock: object, size: int
    ) -> None:
        """On a connection that is there; whether another one can be made is not promised."""
        payload = payload_of("a", size)
        await put(subject.node, "b", payload)
        subject.link.cut_from()
        with pytest.raises(NodeUnreachable):
            await put(subject.node, "a", payload)
        subject.link.heal()
        assert (await read(subject.node, "a"))[1] == payload

    async def test_a_delete_that_is_not_answered_is_done(self, subject: Subject, autojump_clock: object) -> None:
        await put(subject.node, "a", b"1")
        await put(subject.node, "b", b"2")
        assert await subject.node.delete([PieceName("none")]) == [None]  # there is a connection for deletes
        subject.link.cut_from()
        with pytest.raises(NodeUnreachable):
            await subject.node.delete([PieceName("b")])
        subject.link.heal()
        assert await subject.node.list("", 10) == [("a", 1)]

    @pytest.mark.parametrize("fault", ["refuse", "reset"])
    async def test_a_connection_that_breaks(self, subject: Subject, autojump_clock: object, fault: str) -> None:
        payload = payload_of("a", 12 * BLOCK_SIZE)
        await put(subject.node, "a", payload)
        buffer = memoryview(bytearray(10_000))
        async with subject.node.read(PieceName("a"), Span(0, 12 * BLOCK_SIZE, 12 * BLOCK_SIZE)) as stream:
            await stream.receive_into(buffer)
            getattr(subject.link, fault)()
            with pytest.raises(NodeUnreachable):
                await _read_all(stream)
        if fault == "refuse":
            await _refuses_everything(subject.node)
        subject.link.heal()
        assert (await read(subject.node, "a"))[1] == payload

    async def test_a_slow_link_takes_its_time(self, subject: Subject, autojump_clock: object) -> None:
        payload = payload_of("a", LARGE_SIZE)
        await put(subject.node, "a", payload)
        quick = await _seconds(lambda: read(subject.node, "a"))
        subject.link.slow(LARGE_SIZE / 4)
        assert 3 < await _seconds(lambda: read(subject.node, "a")) < 6
        assert 3 < await _seconds(lambda: put(subject.node, "b", payload)) < 6
        subject.link.heal()
        subject.link.delay(0.5)
        assert 0.5 <= await _seconds(lambda: subject.node.head(PieceName("a"))) < 2.5
        subject.link.heal()
        assert await _seconds(lambda: read(subject.node, "a")) == pytest.approx(quick, abs=0.1)

    async def test_small_calls_to_a_node_that_is_not_known_any_more(
        self, subject: Subject, autojump_clock: object
    ) -> None:
        await put(subject.node, "a", b"1")
        subject.link.delay(0.5)  # so that it is under way
        under_way: list[FlareError | None] = []
        subject.node.put_nowait(piece_of("b", b"2"), b"2", under_way.append)
        subject.stop()
        await trio.sleep(ANSWER_SECONDS)
        assert [type(error) for error in under_way] == [NodeUnreachable]
        with pytest.raises(NodeUnreachable):
            await put(subject.node, "c", b"3")
        with pytest.raises(NodeUnreachable):
            await read_small(subject.node, PieceName("a"))


async def _try(call: Callable[[], Awaitable[object]]) -> None:
    """Done, or not answered."""
    with contextlib.suppress(NodeUnreachable):
        await call()


async def _seconds(call: Callable[[], Awaitable[object]]) -> float:
    started = trio.current_time()
    await call()
    return trio.current_time() - started


async def _read_all(stream: PieceStream) -> None:
    buffer = memoryview(bytearray(10_000))
    while await stream.receive_into(buffer):
        pass


async def _break_while_reading(subject: Subject, name: str, fault: str) -> None:
    buffer = memoryview(bytearray(10_000))
    async with subject.node.read(PieceName(name), Span(0, 12 * BLOCK_SIZE, 12 * BLOCK_SIZE)) as stream:
        await stream.receive_into(buffer)
        getattr(subject, fault)()
        await _read_all(stream)


async def _refuses_everything(node: PieceNode) -> None:
    """Every call ends with NodeUnreachable, in time."""
    name = PieceName("a")
    calls = [
        lambda: put(node, "new", b"small"),
        lambda: put(node, "new-large", bytes(LARGE_SIZE)),
        lambda: read_small(node, name),
        lambda: node.head(name),
        lambda: read(node, name),
        lambda: node.delete([PieceName("none")]),
        lambda: node.quarantine([PieceName("none")]),
        lambda: node.list("", 10),
        lambda: node.list_working("", 10),
    ]
    for call in calls:
        with trio.fail_after(ANSWER_SECONDS):
            with pytest.raises(NodeUnreachable):
                await call()


async def put_small(node: PieceNode, piece: Piece, payload: bytes) -> FlareError | None:
    """Return the argument of ``done``, which must be called once."""
    heard: list[FlareError | None] = []
    finished = trio.Event()

    def done(error: FlareError | None) -> None:
        heard.append(error)
        finished.set()

    node.put_nowait(piece, payload, done)
    await finished.wait()
    (answer,) = heard
    return answer


async def put(node: PieceNode, name: str, payload: bytes, piece: Piece | None = None) -> None:
    """Store a piece; raises what refused it."""
    await node.put(piece or piece_of(name, payload), payload)


async def read(
    node: PieceNode, name: str, offset: int = 0, length: int | None = None, *, size: int | None = None
) -> tuple[Piece, bytes]:
    """All that ``read`` gives of a span; not verified. The reader believes that the piece has ``size`` bytes; what it
    has if that is not given."""
    size = (await node.head(PieceName(name))).size if size is None else size
    span = Span(offset, size if length is None else offset + length, size)
    buffer = memoryview(bytearray(100_000))
    got = b""
    async with node.read(PieceName(name), span) as stream:
        while count := await stream.receive_into(buffer):
            got += bytes(buffer[:count])
        return stream.piece, got


async def _put_noting(node: PieceNode, name: str, payload: bytes, answers: list[FlareError | None]) -> None:
    try:
        await put(node, name, payload)
    except FlareError as error:
        answers.append(error)
    else:
        answers.append(None)
