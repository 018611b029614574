"""The api role in one process, on data nodes and metadata in memory: for scenarios on a virtual clock."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

from flared.api.admin.advice import advise
from flared.api.admin.obstacles import explain_stay, explain_write_obstacle
from flared.api.admin.sentences import explain
from flared.catalog.chunks import list_chunks
from flared.catalog.totals import Totals
from flared.chunks.budget import MemoryBudget
from flared.chunks.chunk import Chunks
from flared.chunks.damage import DamageList
from flared.chunks.delays import HEDGE_SECONDS, STRAGGLER_SECONDS, Delay
from flared.chunks.inflight import InFlight
from flared.chunks.nodes import Nodes
from flared.chunks.recent import RecentChunks
from flared.chunks.spill import Spills
from flared.data.mark import mark_fields
from flared.data.report import VolumeReport, report_fields
from flared.errors import Conflict, NodeUnreachable
from flared.http.turns import Turns
from flared.meta.memory import MemoryKV
from flared.names import DEFAULT_BUCKET, NodeName, ObjectName, parse_key
from flared.objects.buckets import ensure_default_bucket
from flared.objects.commit import ObjectHeaders, PutResult
from flared.objects.get import open_object
from flared.objects.put import put_object
from flared.objects.store import Defaults, Limits, Store
from flared.upkeep.failure import reason_node_must_stay
from flared.upkeep.membership.heartbeat import Heartbeat
from flared.upkeep.membership.membership import Membership
from flared.upkeep.status import ClusterStatus, find_status, find_write_obstacle
from flared.upkeep.workers import Upkeep
from tests.support.piece_nodes import MemoryNode, MemorySource
from tests.support.threads import InlineThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from flared.chunks.nodes import PieceNode
    from flared.data.mark import SeenMark
    from flared.data.pieces import Piece

CHUNK = 256 * 1024
PART_SIZE_MIN = 64 * 1024
GRACE = 60.0
MULTIPART_TTL = 1200.0
REPAIR_AFTER = 600.0


class SmallNode(MemoryNode):
    """A node that also says of itself what membership wants to hear."""

    instance = 1
    failed_at = 0.0
    volume_id = "first"
    cluster: str | None = None
    """Which it says that its volumes belong to."""
    doubles: dict[str, SmallNode] = {}  # noqa: RUF012  # replaced by tests that have some
    """By address, other processes under its name."""
    mark: SeenMark | None = None
    """The metadata's mark from the answer to its last heartbeat; it is on its disk."""
    refused = ""
    """The refusal of its last heartbeat."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.address = f"{name}:9000"
        self.lost: dict[str, tuple[Piece, bytes]] = {}
        """On the failed volume."""

    def fail_volume(self) -> None:
        """Make one of its two disks fail: its pieces are then unknown."""
        self.failed_volumes, self.failed_at = ("/disk2",), trio.current_time()
        self.lost = {name: self.pieces.pop(name) for name in sorted(self.pieces)[::2]}

    def return_volume(self) -> None:
        """The node was started again, and its disk is back with what it held."""
        self.failed_volumes = ()
        self.instance += 1
        self.pieces = {**self.lost, **self.pieces}
        self.lost = {}

    def set_address(self, address: str) -> None:
        pass

    async def status(self) -> dict[str, object]:
        await super().status()
        volumes = [report_fields(report) for report in self.heartbeat().volumes]
        volumes[0] |= {"pieces": len(self.pieces)}
        marks = [mark_fields(self.mark)] if self.mark else []
        return {"instance": str(self.instance), "storage": {"volumes": volumes}, "marks": marks}

    async def status_at(self, address: str) -> dict[str, object]:
        double = self.doubles.get(address)
        if address == self.address:
            return await self.status()
        if double is None:
            raise NodeUnreachable(self.name, "connection refused")
        return await double.status()

    def heartbeat(self) -> Heartbeat:
        used = sum(piece.size for piece, _ in self.pieces.values())
        state = "full" if self.full else "ok"
        volumes = [VolumeReport(f"{self.name}-{self.volume_id}", "/disk", 1 << 40, used, (1 << 40) - used, state)]
        for path in self.failed_volumes:
            lasted = trio.current_time() - self.failed_at
            volumes.append(VolumeReport(path, path, 0, 0, 0, "failed", "Input/output error", 0, lasted))
        return Heartbeat(
            self.name,
            self.address,
            "z",
            "0",
            self.cluster,
            str(self.instance),
            tuple(volumes),
            len(self.pieces),
            (),
            0.0,
            (self.mark,) if self.mark else (),
        )


def reasons_of(status: ClusterStatus) -> list[str]:
    return [explain(problem) for problem in status.problems]


def advice_of(status: ClusterStatus) -> list[str]:
    return advise(status)


class Cluster:
    """One api node over ``nodes`` data nodes. ``restart`` keeps the metadata and the pieces, nothing else."""

    def __init__(
        self,
        nodes: int = 3,
        *,
        scheme: str = "replica:3",
        budget: int = 64 << 20,
        cache: int = 0,
        spill: int = 64 << 20,
    ) -> None:
        self.members = self._make_members([f"data{number}" for number in range(1, nodes + 1)])
        self.kv = MemoryKV()
        self.random = random.Random(1)
        self.clock_ahead = 0.0
        """How far the wall clock has jumped."""
        self._scheme = scheme
        self._budget = budget
        self._cache = cache
        self._spill = spill
        self._build()

    def _make_members(self, names: Sequence[str]) -> dict[str, SmallNode]:
        return {name: SmallNode(name) for name in names}

    def _connect(self, name: NodeName) -> PieceNode:
        """Return the api node's client of a data node."""
        return self.members[name]

    def _now(self) -> float:
        return 1_700_000_000.0 + trio.current_time() + self.clock_ahead

    def _build(self) -> None:
        self.nodes = Nodes()
        self.damage = DamageList()
        self.turns = Turns()
        chunks = Chunks(
            nodes=self.nodes,
            budget=MemoryBudget(self._budget),
            stages=MemoryBudget(self._budget),
            units=MemoryBudget(self._budget),
            blocks=MemoryBudget(1 << 20),
            spills=Spills("/tmp", self._spill, InlineThreads()),
            rereads=trio.Semaphore(2),
            damage=self.damage,
            in_flight=InFlight(),
            recent=RecentChunks(self._cache),
            turns=self.turns,
            stragglers=Delay(self.turns, STRAGGLER_SECONDS),
            hedges=Delay(self.turns, HEDGE_SECONDS),
            prefetches=trio.Semaphore(4),
            threads=InlineThreads(),
            now=self._now,
            random_bits=self.random.getrandbits,
        )
        self.store = Store(
            kv=self.kv,
            chunks=chunks,
            totals=Totals(self.kv),
            now=self._now,
            random_bits=self.random.getrandbits,
            defaults=Defaults(self._scheme, CHUNK, compress=False),
            limits=Limits(part_size_min=PART_SIZE_MIN),
            garbage_grace_seconds=GRACE,
            multipart_ttl_seconds=MULTIPART_TTL,
        )
        self.membership = Membership(
            self.kv,
            self.nodes,
            self.damage,
            cluster="c",
            connect=lambda name, _: self._connect(name),
            repair_after_seconds=REPAIR_AFTER,
        )
        self.upkeep = Upkeep(self.store)
        self.upkeep.follow(self.membership)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The api node serves inside the block; leaving it is a crash."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.turns.run)
            await ensure_default_bucket(self.store)
            await nursery.start(self.membership.run)
            await nursery.start(self._beat)
            await nursery.start(self.upkeep.run)
            yield
            nursery.cancel_scope.cancel()
        assert self.turns.statistics().failures == 0
        self.turns.close()
        self._build()

    async def _beat(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Heartbeats, for as long as the api node serves; started when the first ones were heard."""
        for member in self.members.values():
            if not member.down:
                with suppress(Conflict):
                    await self.membership.receive_heartbeat(member.heartbeat())
        task_status.started()
        while True:
            await trio.sleep(3)
            for member in self.members.values():
                if not member.down and not member.silent and member.link.carries_heartbeats:
                    try:
                        await self.membership.receive_heartbeat(member.heartbeat())
                        member.refused = ""
                        moment = int(self.store.now() * 1000)
                        member.mark = self.membership.age.mark_for(member.name, moment) or member.mark
                    except Conflict as error:
                        member.refused = str(error)

    async def put(self, key: str, data: bytes, *, known: bool = True) -> PutResult:
        return await put_object(self.store, name(key), MemorySource(data, known=known), headers=ObjectHeaders())

    async def get(self, key: str, version: int | None = None) -> bytes:
        async with open_object(self.store, name(key), version=version) as reading:
            parts = []
            while (view := await reading.next()) is not None:
                parts.append(bytes(view))
            return b"".join(parts)

    def status(self) -> ClusterStatus:
        return find_status(self.store, self.membership, self.upkeep)

    def write_obstacle(self) -> str:
        """Why no put is taken, in words; empty if it is."""
        obstacle = find_write_obstacle(self.store, self.membership)
        return "" if obstacle is None else explain_write_obstacle(obstacle)

    def stay_reason(self, node: str) -> str:
        """Why the node must not go down, in words; empty if it may."""
        reason = reason_node_must_stay(self.store, self.membership, self.upkeep, node)
        return "" if reason is None else explain_stay(reason)

    def piece_count(self) -> int:
        return sum(len(member.pieces) for member in self.members.values())

    async def recorded_pieces(self) -> set[tuple[str, str]]:
        """(node, piece) of everything that the records place and do not call missing."""
        return {
            (node, f"{record.id}.{number}")
            for record in await list_chunks(self.kv, None, 100_000)
            for number, node in enumerate(record.nodes)
            if node and number not in record.missing
        }

    async def find_held(self) -> set[tuple[str, str]]:
        """(node, piece) of everything that the nodes hold."""
        return self.held_pieces()

    def held_pieces(self) -> set[tuple[str, str]]:
        return {(node, piece) for node, member in self.members.items() for piece in member.pieces}


def name(key: str) -> ObjectName:
    return ObjectName(DEFAULT_BUCKET, parse_key(key))


def node_name(text: str) -> NodeName:
    return NodeName(text)
