from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from flared.data.pieces import Piece, describe_piece
from flared.data.transport.read_coalescer import NAMES_MAX, ReadCoalescer
from flared.errors import Busy, FlareError, NoSuchPiece

if TYPE_CHECKING:
    from collections.abc import Sequence


def found(name: str) -> tuple[Piece, bytes]:
    return describe_piece(name, name.encode(), codec=0, scheme="", plain_size=1), name.encode()


class Store:
    """Reads names; those that begin with "no" are absent."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def read_many(self, names: Sequence[str]) -> list[tuple[Piece, bytes] | FlareError]:
        self.groups.append(list(names))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [NoSuchPiece(name) if name.startswith("no") else found(name) for name in names]


async def read_all(gather: ReadCoalescer, names: Sequence[str]) -> dict[str, object]:
    answers: dict[str, object] = {}

    async def read(name: str) -> None:
        answers[name] = await gather.read(name)

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(read, name)
    return answers


async def test_who_is_ready_in_one_turn_is_read_together() -> None:
    store = Store()
    answers = await read_all(ReadCoalescer(store.read_many), ["a", "b", "none"])
    assert {name: type(answer) for name, answer in answers.items()} == {"a": tuple, "b": tuple, "none": NoSuchPiece}
    assert answers["a"] == found("a")
    assert answers["b"] == found("b")
    assert [sorted(group) for group in store.groups] == [["a", "b", "none"]]


async def test_a_group_has_a_bound() -> None:
    store = Store()
    names = [f"n{i}x" for i in range(2 * NAMES_MAX + 1)]
    answers = await read_all(ReadCoalescer(store.read_many), names)
    assert answers == {name: found(name) for name in names}
    assert sorted(map(len, store.groups)) == [1, NAMES_MAX, NAMES_MAX]


async def test_the_next_group_does_not_wait_for_a_slow_one() -> None:
    store = Store()
    gather = ReadCoalescer(store.read_many)
    async with trio.open_nursery() as nursery:
        store.gate = gate = trio.Event()
        nursery.start_soon(gather.read, "slow")
        await trio.testing.wait_all_tasks_blocked()
        store.gate = trio.Event()
        store.gate.set()
        assert await gather.read("quick") == found("quick")
        gate.set()


async def test_a_reader_that_gives_up_leaves_the_others_in_peace() -> None:
    store = Store()
    gather = ReadCoalescer(store.read_many)
    store.gate = trio.Event()
    answers: list[object] = []

    async def read(name: str) -> None:
        answers.append(await gather.read(name))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, "a")
        nursery.start_soon(read, "b")
        async with trio.open_nursery() as fickle:
            for name in ("c", "d"):
                fickle.start_soon(gather.read, name)
            await trio.testing.wait_all_tasks_blocked()
            late = store.groups[0][1:]
            fickle.cancel_scope.cancel()
        store.gate.set()
    assert len(late) == 3
    assert {found("a"), found("b")} >= {answer for answer in answers if isinstance(answer, tuple)}
    assert len(answers) == 2


async def test_readers_whose_leader_is_cancelled_hear_busy() -> None:
    store = Store()
    gather = ReadCoalescer(store.read_many)
    store.gate = trio.Event()
    leader = trio.CancelScope()
    answers: list[object] = []

    async def lead() -> None:
        with leader:
            await gather.read("a")

    async def follow() -> None:
        answers.append(await gather.read("b"))

    for early in (True, False):
        leader = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lead)
            if early:
                leader.cancel()
            await trio.lowlevel.checkpoint()
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            leader.cancel()
            store.gate.set()
    assert all(isinstance(answer, Busy | tuple) for answer in answers)
    assert len(answers) == 2


async def test_a_failure_reaches_the_leader_and_frees_the_others() -> None:
    store = Store()
    store.failure = Busy("not open")
    gather = ReadCoalescer(store.read_many)
    answers: list[object] = []

    async def read(name: str) -> None:
        try:
            answers.append(await gather.read(name))
        except Busy as error:
            answers.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, "a")
        nursery.start_soon(read, "b")
    assert [type(answer) for answer in answers] == [Busy, Busy]
    store.failure = None
    assert await gather.read("c") == found("c")
