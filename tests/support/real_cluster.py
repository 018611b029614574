"""A cluster in one process on the real code of data nodes: over disks and a network in memory, heartbeats included.

Only the api node's HTTP face is left out. Everything that happens follows from the seed.
"""

from __future__ import annotations

import json
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from flared.data.pieces import piece_is_good
from flared.errors import FlareError
from flared.http.error_body import JSON
from flared.http.server import Server
from flared.names import NodeName
from flared.upkeep.membership.heartbeat import parse_heartbeat
from tests.support.cluster import Cluster
from tests.support.data_node import RealNode, wall_clock
from tests.support.engine import get
from tests.support.links import RealLink
from tests.support.memory_disk import MemoryDisk, PowerCut
from tests.support.memory_net import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from flared.chunks.nodes import PieceNode
    from flared.data.transport.remote import Remote
    from flared.http.messages import Reply, Request
    from flared.http.turns import Turns

CAPACITY = 256 << 20
VOLUMES = ("/disk1", "/disk2")
SCRUB_SECONDS = 60.0
"""So that a bit flip is found within a run."""
HEARTBEAT_BYTES_MAX = 1 << 20
FIRST_HEARTBEATS_SECONDS = 3.5


class RealMember:
    """A data node that crashes, loses power, and is started again."""

    def __init__(self, name: str, net: MemoryNetwork, seed: int) -> None:
        self.api_address = f"api-for-{name}:80"
        self._random = random.Random(seed)
        self._net = net
        self.disk = self._fresh_disk()
        self.node = RealNode(
            name, net, self.disk, VOLUMES, seed=seed, api=self.api_address, scrub_seconds=SCRUB_SECONDS
        )
        self.name = self.node.name
        self.link = RealLink(net, self.node.address, self.api_address)
        self._life = trio.CancelScope()
        self._wanted = trio.Event()
        self._ended = trio.Event()
        self._ended.set()

    def remote(self, turns: Turns) -> Remote:
        return self.node.remote(turns)

    @property
    def is_up(self) -> bool:
        return not self._ended.is_set()

    async def run(self) -> None:
        """Live, whenever ``start`` has been called, until cancelled."""
        while True:
            await self._wanted.wait()
            self._ended = trio.Event()
            with trio.CancelScope() as self._life:
                try:
                    await self.node.run()
                except* PowerCut:
                    pass
            self._wanted = trio.Event()
            self._ended.set()

    def start(self) -> None:
        self._wanted.set()

    async def stop(self, *, power: bool) -> None:
        """End the process at once; with ``power`` what was not synced may be lost, in parts."""
        self.disk.dead = True
        self._life.cancel()
        await self._ended.wait()
        self.link.reset()
        if power:
            self.disk.restart()
        else:
            self.disk.revive()

    async def cut_power(self, syncs: int) -> None:
        """``stop`` in the middle of one of the next syncs; or after some seconds, if there is none."""
        self.disk.cut_at_sync = self.disk.syncs + syncs
        with trio.move_on_after(5):
            await self._ended.wait()
        await self.stop(power=True)

    def fill(self) -> None:
        """Others take what room there is."""
        self.disk.capacity = self.disk.used()

    def fail_volume(self) -> None:
        """One of its two disks dies."""
        self.disk.broken_below.add(self._random.choice(VOLUMES))

    async def replace_disks(self) -> None:
        """Both disks are replaced by empty ones."""
        await self.stop(power=False)
        self.disk = self.node.disk = self._fresh_disk()
        self.start()

    async def recover(self) -> None:
        """Undo every fault; start it if it is down, and again if a volume has failed."""
        self.link.heal()
        self.disk.capacity = CAPACITY
        self.disk.cut_at_sync = 0
        if self.disk.broken_below or self.disk.dead:
            self.disk.broken_below.clear()
            await self.stop(power=self.disk.dead)
        self.start()

    async def flip(self) -> str | None:
        """Flip a bit anywhere in the record of a piece; which one, or None if there is none."""
        volumes = self.node.volumes
        if volumes is None:
            return None
        volume = self._random.choice(volumes._volumes)
        names = [name for name, _ in await volume.piece_map.page("", 1000)]
        if not names or self.node.volumes is not volumes:
            return None
        name = self._random.choice(names)
        place = volume.piece_map.find(name)
        if place is None or place.segment not in volume.segments.known:
            return None
        path = volume.segments.known[place.segment].path
        self.disk.flip(path, place.offset + self._random.randrange(place.length))
        return name

    def _fresh_disk(self) -> MemoryDisk:
        return MemoryDisk(self._random.randrange(1 << 30), capacity=CAPACITY)


class RealCluster(Cluster):
    """``running`` is the api node, ``data_running`` the data nodes: one crashes without the other."""

    real: dict[str, RealMember]

    def __init__(self, seed: int, nodes: int = 3) -> None:
        self.net = MemoryNetwork(seed)
        self.real = {
            f"data{number}": RealMember(f"data{number}", self.net, seed * 10 + number) for number in range(1, nodes + 1)
        }
        super().__init__(nodes)

    def _make_members(self, names: Sequence[str]) -> dict[str, RealMember]:  # type: ignore[override]
        return self.real

    def _connect(self, name: NodeName) -> PieceNode:
        return self.real[name].remote(self.turns)

    @asynccontextmanager
    async def data_running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            for member in self.real.values():
                nursery.start_soon(member.run)
                member.start()
            yield
            nursery.cancel_scope.cancel()

    async def _beat(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            for member in self.real.values():
                await nursery.start(Server(self._hear).serve, [self.net.listen(member.api_address)])
            await trio.sleep(FIRST_HEARTBEATS_SECONDS)
            task_status.started()

    async def _hear(self, request: Request, reply: Reply) -> None:
        """As ``api.admin.nodes`` does."""
        try:
            data = json.loads(await request.body.read_all(HEARTBEAT_BYTES_MAX))
            await self.membership.receive_heartbeat(parse_heartbeat(data, wall_clock()))
        except FlareError as error:
            await reply.send(409, [], str(error).encode())
        else:
            await reply.send(200, JSON, json.dumps({"cluster": self.membership.cluster}).encode())

    def held_pieces(self) -> set[tuple[str, str]]:
        raise AssertionError("nodes of the real code have to be asked: await find_held")

    async def find_held(self) -> set[tuple[str, str]]:
        """Of the nodes that are up; a piece that lies on two volumes once."""
        held: set[tuple[str, str]] = set()
        for name, member in self.real.items():
            if member.node.volumes is not None:
                page, _ = await member.node.volumes.list_working("", 1_000_000)
                held.update((name, piece) for piece, _ in page)
        return held

    async def find_bad(self) -> set[tuple[str, str]]:
        """Return pieces that the records place on a node that lacks them, or has them damaged."""
        bad: set[tuple[str, str]] = set()
        for node, piece in sorted(await self.recorded_pieces()):
            volumes = self.real[node].node.volumes
            try:
                assert volumes is not None
                payload = await get(volumes, piece, verify=False)
                if not piece_is_good(await volumes.head(piece), payload):
                    bad.add((node, piece))
            except FlareError:
                bad.add((node, piece))
        return bad
