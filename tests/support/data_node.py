"""The real code of a data node in one process: service, volumes and segments, over a disk and a network handed in.

``RealNode`` serves for the length of ``run``; what the api node holds of it is a ``Remote`` over the same network.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from flared.access.keys import Keyring, data_audience, node_token
from flared.chunks.budget import MemoryBudget
from flared.data.pieces import PIECE_SIZE_MAX
from flared.data.transport.heartbeat import HeartbeatSender, HeartbeatSettings
from flared.data.transport.remote import Remote, RemoteSettings
from flared.data.transport.service import DataService
from flared.data.volume.open import open_volumes
from flared.data.volume.values import DataSettings
from flared.data.volume.volumes import Volumes
from flared.http.server import InTurns, Server
from flared.http.turns import open_turns
from flared.names import NodeName
from tests.support.lanes import InlineLane
from tests.support.threads import InlineThreads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.data.disk.disk import Disk
    from flared.http.turns import Turns
    from tests.support.memory_net import MemoryNetwork

MIB = 1 << 20
SECRET = b"only for tests"
PORT = 9000


class RealNode:
    """A data node named ``name`` at ``address``. Its disk outlives it: run it again after a stop or a crash."""

    def __init__(
        self,
        name: str,
        net: MemoryNetwork,
        disk: Disk,
        volumes: Sequence[str],
        *,
        seed: int = 0,
        api: str = "",
        scrub_seconds: float = 30 * 86400.0,
    ) -> None:
        self.name = NodeName(name)
        self.address = f"{name}:{PORT}"
        self.keyring = Keyring([SECRET])
        self.disk = disk
        self.volumes: Volumes | None = None
        self.server: Server | None = None
        self.service: DataService | None = None
        self.starts = 0
        self._api = api
        """Where heartbeats go; none are sent if it is empty."""
        self._net = net
        self._random = random.Random(seed)
        self._settings = DataSettings(
            name,
            tuple(volumes),
            segment_size=MIB,
            reserve=MIB,
            buffer_bytes=PIECE_SIZE_MAX,
            scrub_period_seconds=scrub_seconds,
        )

    def remote(self, turns: Turns) -> Remote:
        """The api node's end; run it, and the turns in which its small calls go on."""
        token = node_token(SECRET, data_audience(self.name))
        return Remote(self.name, self.address, token, turns, RemoteSettings(), connect=self._net.connect)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started when the volumes are ready."""
        self.starts += 1
        try:
            async with open_turns() as turns:
                self.volumes = volumes = await open_volumes(
                    self._settings,
                    turns,
                    disk=self.disk,
                    threads=InlineThreads(),
                    make_lane=InlineLane,
                    random_bits=self._random,
                )
                async with trio.open_nursery() as nursery:
                    await nursery.start(volumes.run)
                    await volumes.wait_ready()
                    await nursery.start(self._server(volumes, turns).serve, [self._net.listen(self.address)])
                    if self._api:
                        nursery.start_soon(self._heartbeat(volumes).run)
                    task_status.started()
        finally:
            self.volumes = None

    def _server(self, volumes: Volumes, turns: Turns) -> Server:
        self.service = service = DataService(self.name, volumes, self.keyring)
        self.server = Server(service.handler, in_turns=InTurns(turns, service, MemoryBudget(MIB)))
        return self.server

    def _heartbeat(self, volumes: Volumes) -> HeartbeatSender:
        settings = HeartbeatSettings(self.name, [self._api], self.address, "z", str(self.starts))
        return HeartbeatSender(settings, volumes, self.keyring, connect=self._net.connect, clock=wall_clock)


def wall_clock() -> float:
    """Of everything that runs on the virtual clock."""
    return 1_700_000_000.0 + trio.current_time()
