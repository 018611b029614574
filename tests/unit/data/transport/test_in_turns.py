"""The small batches of a data node in turns, and what a task answers instead, by the same decisions."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from flared.data.pieces import LARGE_SIZE
from flared.data.transport.batch_calls import TURN_BYTES_MAX
from flared.errors import BadDigest, FlareError, NodeUnreachable, NoSuchPiece
from flared.http.turns import Turns
from flared.log import current_request
from flared.names import PieceName
from tests.support.data_node import MIB, RealNode
from tests.support.engine import payload_of, piece_of
from tests.support.memory_disk import MemoryDisk
from tests.support.memory_net import MemoryNetwork
from tests.support.piece_nodes import read_small

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from flared.data.pieces import Piece
    from flared.data.transport.metrics import CallCounts
    from flared.data.transport.remote import Remote
    from flared.data.volume.volumes import Volumes


STALL_SECONDS = 60.0


class Node:
    """A data node, and the api node's end of it."""

    def __init__(self, real: RealNode, remote: Remote, net: MemoryNetwork, disk: MemoryDisk) -> None:
        self.real = real
        self.remote = remote
        self.net = net
        self.disk = disk

    @property
    def volumes(self) -> Volumes:
        assert self.real.volumes is not None
        return self.real.volumes

    @property
    def handed_over(self) -> int:
        """Requests that a task answered."""
        assert self.real.server is not None
        return self.real.server.statistics().handed_over

    def put_nowait(self, items: Sequence[tuple[Piece, bytes]]) -> list[FlareError | None]:
        """Queue the pieces in one batch; what came of them is added to the list."""
        outcomes: list[FlareError | None] = []
        for piece, payload in items:
            self.remote.put_nowait(piece, payload, outcomes.append)
        return outcomes

    async def put(self, *names: str, size: int = 100, seconds: float = 0.1) -> list[FlareError | None]:
        outcomes = self.put_nowait(
            [(piece_of(name, body), body) for name in names for body in [payload_of(name, size)]]
        )
        await trio.sleep(seconds)
        assert len(outcomes) == len(names)
        return outcomes

    async def delete(self, *names: str, seconds: float = 0.1) -> Sequence[FlareError | None]:
        with trio.fail_after(seconds):
            return await self.remote.delete([PieceName(name) for name in names])

    @property
    def counts(self) -> CallCounts:
        assert self.real.service is not None
        return self.real.service._counts

    async def get(self, name: str) -> bytes:
        return (await read_small(self.remote, PieceName(name)))[1]


@asynccontextmanager
async def data_node(*volumes: str) -> AsyncIterator[Node]:
    net, disk, turns = MemoryNetwork(), MemoryDisk(1, capacity=1 << 30), Turns()
    disk.cold_share = 0.0
    real = RealNode("data1", net, disk, volumes or ["/srv/v1"])
    remote = real.remote(turns)
    async with trio.open_nursery() as nursery:
        await nursery.start(turns.run)
        await nursery.start(real.run)
        await nursery.start(remote.run)
        yield Node(real, remote, net, disk)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("volumes", [["/srv/v1"], ["/srv/v1", "/srv/v2"]])
async def test_small_batches_take_no_task(volumes: list[str], autojump_clock: object) -> None:
    async with data_node(*volumes) as node:
        assert await node.put("a", "b", "c") == [None] * 3
        assert await node.put("b", "d") == [None] * 2, "an existing piece is not a failure"
        assert [await node.get(name) for name in "abcd"] == [payload_of(name, 100) for name in "abcd"]
        await trio.sleep(60)
        assert await node.get("a") == payload_of("a", 100), "the index has it now"
        assert node.handed_over == 0
        assert node.volumes.status().pieces == 4


@pytest.mark.parametrize("volumes", [["/srv/v1"], ["/srv/v1", "/srv/v2"]])
async def test_deletes_take_no_task(volumes: list[str], autojump_clock: object) -> None:
    async with data_node(*volumes) as node:
        await node.put("a", "b", "c")
        await trio.sleep(60)  # the index has these
        await node.put("d")
        assert await node.delete("a", "missing", "d") == [None] * 3, "a missing piece counts as deleted"
        assert await node.volumes.list("", 10) == [("b", 100), ("c", 100)]
        with pytest.raises(NoSuchPiece):
            await node.get("a")
        assert await node.put("a") == [None]
        assert await node.get("a") == payload_of("a", 100)
        assert node.handed_over == 0
        assert node.counts.deleted == 2


async def test_deletes_travel_in_one_group(autojump_clock: object) -> None:
    async with data_node() as node:
        names = [f"{number:03}" for number in range(200)]
        await node.put(*names)
        await node.delete(*names)
        (volume,) = node.volumes.status().volumes
        assert (volume.syncs, volume.records, volume.pieces) == (2, 400, 0)


async def test_a_delete_that_has_to_wait_takes_a_task(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    monkeypatch.setattr("flared.data.index.piece_map.CROWD", 2)
    async with data_node() as node:
        await node.put("a", "b")
        assert await node.delete("a", "a") == [None, None], "one comes twice"
        assert node.handed_over == 1
        await node.put("c", "d", "e")
        assert await node.delete("d", seconds=1.0) == [None], "the index lags behind"
        assert node.handed_over == 2
        node.volumes._volumes[0].stop_writes("Input/output error")
        (refused, missing) = await node.delete("e", "missing")
        assert isinstance(refused, NodeUnreachable), "a volume that takes no change keeps what it has"
        assert missing is None
        assert node.handed_over == 3
        assert [name for name, _ in await node.volumes.list("", 10)] == ["b", "c", "e"]


async def test_a_hidden_piece_is_deleted_in_a_turn(autojump_clock: object) -> None:
    async with data_node() as node:
        await node.put("a", "b")
        assert await node.volumes.quarantine_many(["a"]) == [True]
        assert await node.delete("a", "b") == [None, None]
        assert node.handed_over == 0
        assert await node.volumes.list_quarantined("", 10) == []
        assert node.volumes.status().pieces == 0


async def test_a_failed_sync_deletes_nothing(autojump_clock: object) -> None:
    async with data_node() as node:
        await node.put("a", "b")
        node.disk.fail_syncs = 1
        assert [type(outcome) for outcome in await node.delete("a", "b", "missing")] == [
            NodeUnreachable, NodeUnreachable, type(None),
        ]  # fmt: skip
        assert node.volumes.status().volumes[0].state == "readonly"
        assert await node.get("a") == payload_of("a", 100)


async def test_a_put_travels_in_one_group_with_all_of_its_batch(autojump_clock: object) -> None:
    async with data_node() as node:
        await node.put(*(f"{number:03}" for number in range(200)))
        (volume,) = node.volumes.status().volumes
        assert (volume.syncs, volume.records) == (1, 200)


async def test_a_record_that_is_refused_does_not_stop_its_neighbours(autojump_clock: object) -> None:
    async with data_node() as node:
        bad = piece_of("bad", b"right")._replace(checksum=bytes(16))
        outcomes = node.put_nowait([(piece_of("a", b"1"), b"1"), (bad, b"right"), (piece_of("b", b"2"), b"2")])
        await trio.sleep(1)
        assert [type(outcome) for outcome in outcomes] == [type(None), BadDigest, type(None)]
        assert node.handed_over == 0


async def test_what_is_larger_than_a_turn_takes_a_task(autojump_clock: object) -> None:
    names = [f"{number:03}" for number in range(TURN_BYTES_MAX // (LARGE_SIZE - 1) + 1)]
    async with data_node() as node:
        assert await node.put(*names, size=LARGE_SIZE - 1) == [None] * len(names)
        assert node.handed_over == 1
        got: list[bytes] = []
        async with trio.open_nursery() as nursery:

            async def get(name: str) -> None:
                got.append(await node.get(name))

            for name in names:
                nursery.start_soon(get, name)
        assert sorted(got) == sorted(payload_of(name, LARGE_SIZE - 1) for name in names)
        assert node.handed_over == 2


async def test_one_name_twice_in_a_batch_takes_a_task(autojump_clock: object) -> None:
    async with data_node() as node:
        assert await node.put("a", "b", "a") == [None] * 3
        assert node.handed_over == 1
        assert node.volumes.status().pieces == 2


async def test_what_the_disk_must_be_asked_for_takes_a_task(autojump_clock: object) -> None:
    async with data_node() as node:
        await node.put("a")
        node.disk.cold_share = 1.0
        assert await node.get("a") == payload_of("a", 100)
        assert node.handed_over == 1


async def test_a_damaged_piece_takes_a_task_and_is_reported(autojump_clock: object) -> None:
    async with data_node() as node:
        await node.put("a")
        (volume,) = node.volumes._volumes
        location = volume.piece_map.find("a")
        assert location is not None
        node.disk.flip(volume.segments.known[location.segment].path, location.offset + location.length - 50)
        with pytest.raises(FlareError):
            await node.get("a")
        assert node.handed_over == 1
        assert node.volumes.take_damage() == ["a"]
        assert await node.put("a") == [None], "a good copy takes the place of a bad one"
        assert await node.get("a") == payload_of("a", 100)


async def test_what_is_wanted_again_is_taken_out_of_quarantine(autojump_clock: object) -> None:
    async with data_node() as node:
        await node.put("a", "b", "c")
        assert await node.volumes.quarantine_many(["a", "b"]) == [True, True]
        assert await node.get("c") == payload_of("c", 100)
        assert node.handed_over == 0, "it is not one of those"
        assert await node.get("a") == payload_of("a", 100)
        assert await node.put("b") == [None]
        assert node.handed_over == 2
        assert await node.volumes.list_quarantined("", 10) == []


async def test_a_batch_waits_in_a_task_while_the_index_lags_behind(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    monkeypatch.setattr("flared.data.index.piece_map.CROWD", 2)
    async with data_node() as node:
        await node.put("a", "b", "c")
        assert node.volumes._volumes[0].piece_map.backlog_soft
        assert await node.put("d", seconds=1.0) == [None]
        assert node.handed_over == 1
        assert not node.volumes._volumes[0].piece_map.backlog_soft


async def test_what_is_missing_is_logged_with_the_requests_that_asked(
    caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    caplog.set_level("INFO")
    seen: list[int | str] = []

    def note(record: logging.LogRecord) -> bool:
        if "event=pieces_absent" in record.getMessage():
            seen.append(current_request.get())
        return True

    caplog.handler.addFilter(note)
    async with data_node() as node:
        token = current_request.set("asked-by-me")
        try:
            with pytest.raises(NoSuchPiece):
                await node.get("a")
        finally:
            current_request.reset(token)
        assert node.handed_over == 0
    assert seen == ["asked-by-me"]


async def test_a_volume_that_takes_nothing_says_so_in_the_turn(autojump_clock: object) -> None:
    async with data_node() as node:
        node.volumes._volumes[0].stop_writes("Input/output error")
        (outcome,) = await node.put("a")
        assert isinstance(outcome, NodeUnreachable)
        assert node.handed_over == 0


async def test_a_failed_sync_fails_its_group_and_stops_the_volume(autojump_clock: object) -> None:
    async with data_node() as node:
        await node.put("a")
        node.disk.fail_syncs = 1
        assert [type(outcome) for outcome in await node.put("b", "c")] == [NodeUnreachable] * 2
        assert node.volumes.status().volumes[0].state == "readonly"
        assert await node.get("a") == payload_of("a", 100)


async def test_a_link_that_died_idle_answers_its_next_batch(autojump_clock: object) -> None:
    async with data_node() as node:
        await node.put("a")
        node.net.cut(node.real.address)
        node.net.heal(node.real.address)
        assert await node.put("b") == [None]
        assert await node.get("b") == payload_of("b", 100)


async def test_a_batch_that_stops_half_way_is_cut_and_holds_nothing(autojump_clock: object) -> None:
    async with data_node() as node:
        await node.put("a")
        node.net.freeze(node.real.address)
        outcomes = node.put_nowait([(piece_of("b", b"2" * 60_000), b"2" * 60_000)])
        await trio.sleep(STALL_SECONDS)
        assert [type(outcome) for outcome in outcomes] == [NodeUnreachable]
        node.net.heal(node.real.address)
        for number in range(2 * MIB // LARGE_SIZE):
            assert await node.put(f"{number}", size=100_000) == [None]
        assert node.handed_over == 0, "what was gathered was given back"


async def test_a_client_that_leaves_does_not_take_its_batch_along(autojump_clock: object) -> None:
    async with data_node() as node:
        outcomes = node.put_nowait([(piece_of("a", b"1"), b"1")])
        node.net.lose_reply(node.real.address)
        await trio.sleep(1)
        assert await node.get("a") == b"1"
        assert await node.put("a") == [None]
        assert len(outcomes) == 1
