"""When a connection has waited for too long, in numbers; and that the kernel tells what has arrived."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from flared.http.patience import CREDIT_SECONDS_MAX, PACE_BYTES, Watch
from flared.http.server import ServerSettings
from flared.http.stream import TcpStream
from tests.unit.http.bench import serve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio.testing import MockClock

    from flared.http.messages import Reply, Request

STALL = 30.0
KIB = 1024


def time_until_overdue(arrivals: Iterable[tuple[int, int]], *, busy: frozenset[int] = frozenset()) -> int | None:
    """When a watch that looks every second loses patience, given (received, acknowledged) at each second."""
    watch = Watch(STALL)
    for now, (received, acknowledged) in enumerate(arrivals):
        moved = watch.observe(
            float(now), stage="body", patience_seconds=STALL, busy=now in busy,
            received=received, acknowledged=acknowledged,
        )  # fmt: skip
        if not moved and now >= watch.deadline:
            return now
    return None


def in_lumps(pace: int, lump: int, seconds: int) -> list[tuple[int, int]]:
    """A reader of this pace whose kernel takes a lump at once, and another one whenever that much was read."""
    return [(0, (pace * now // lump + 1) * lump) for now in range(seconds)]


@pytest.mark.parametrize(
    ("arrivals", "overdue"),
    [
        ([(0, 0)] * 100, 30),
        ([(now * KIB, 0) for now in range(600)], None),
        ([(now * 40, 0) for now in range(600)], None),  # a KiB in 26 s
        ([(now * 30, 0) for now in range(600)], 30),  # not one in 30
        ([(min(now, 10) * 1_000_000, 0) for now in range(100)], 40),  # an upload that stops has no credit
        ([(0, min(now, 10) * 1_000_000) for now in range(600)], 310),
        ([(0, min(now, 10) * KIB) for now in range(100)], 40),
        (in_lumps(2000, 65_536, 2000), None),
        (in_lumps(KIB, 65_536, 2000), None),
        (in_lumps(2000, 200_000, 2000), None),
        (in_lumps(20_000, 1_400_000, 2000), None),
        (in_lumps(200, 65_536, 2000), 64),  # too slow: a lump is worth 64 s and takes 328
    ],
    ids=range(12),
)
def test_who_is_cut_and_when(arrivals: list[tuple[int, int]], overdue: int | None) -> None:
    assert time_until_overdue(arrivals) == overdue


@given(st.integers(PACE_BYTES, 50_000), st.integers(1, 200_000))
def test_who_keeps_the_pace_is_never_cut_however_it_is_acknowledged(pace: int, lump: int) -> None:
    assert time_until_overdue(in_lumps(pace, lump, 1000)) is None


@given(st.lists(st.integers(0, 5000), max_size=50))
def test_a_dead_peer_is_cut_within_the_credit(acknowledged: list[int]) -> None:
    totals = [sum(acknowledged[: count + 1]) for count in range(len(acknowledged))]
    totals += [sum(acknowledged)] * int(STALL + CREDIT_SECONDS_MAX + 2)
    overdue = time_until_overdue([(0, total) for total in totals])
    assert overdue is not None
    assert overdue <= len(acknowledged) + CREDIT_SECONDS_MAX + 1


def test_who_does_not_wait_for_the_peer_is_never_cut_and_another_stage_begins_anew() -> None:
    assert time_until_overdue([(0, 0)] * 100, busy=frozenset(range(0, 100, 20))) is None
    watch = Watch(STALL)
    assert watch.observe(0.0, stage=1, patience_seconds=STALL, busy=False, received=0, acknowledged=0)
    assert watch.deadline == STALL
    watch.observe(1.0, stage=1, patience_seconds=STALL, busy=False, received=0, acknowledged=1 << 31)
    assert watch.deadline == 1 + CREDIT_SECONDS_MAX
    assert watch.observe(2.0, stage=2, patience_seconds=10.0, busy=False, received=0, acknowledged=1 << 31)
    assert watch.deadline == 12.0


async def test_a_reader_in_lumps_is_not_cut(autojump_clock: MockClock) -> None:
    """The network in memory holds 256 KiB, as the kernel holds megabytes."""
    ended: list[bool] = []

    async def send(request: Request, reply: Reply) -> None:
        await reply.send(200, [], bytes(400_000))
        ended.append(True)

    async with serve(send, ServerSettings(stall_seconds=STALL, idle_seconds=STALL)) as bench:
        raw = await bench.connect()
        await raw.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        taken = 0
        while taken < 400_000:
            await trio.sleep(2)
            taken += len(await raw.receive(2 * KIB))
            assert bench.server.statistics().connections == 1, f"cut after {taken} bytes"
        assert ended


async def test_the_kernel_says_what_has_arrived() -> None:
    """A receiver that reads nothing acknowledges what fits into its buffer, and more when it reads."""
    with socket.socket() as listening, socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        reader.connect(listening.getsockname())
        stream = TcpStream(listening.accept()[0], "127.0.0.1:1")
        try:
            assert stream.unacknowledged() == 0
            while stream.send_nowait(bytes(100_000)):
                pass
            waiting = stream.unacknowledged()
            assert 0 < waiting <= stream.sent
            reader.setblocking(True)
            taken = 0
            while stream.unacknowledged() > waiting - 10_000:
                taken += len(reader.recv(1000))
            assert taken < stream.sent
        finally:
            stream.close()
        assert stream.unacknowledged() == 0
