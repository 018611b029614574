"""Keep-alive connections to one address for requests sent in turns: a callback for each reply, and no task.

The tasks here only connect, and watch for peers that stall; everything else happens in turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import trio

from flared.errors import ConnectionLost, ProtocolError
from flared.http.address import HTTPS
from flared.http.pool import PoolSettings, PoolStatistics
from flared.http.stream import connect_tcp
from flared.http.turn_client import Replied, TurnClient, TurnReply

if TYPE_CHECKING:
    from flared.http.stream import Buffer, Stream
    from flared.http.turns import Turns

WATCH_SECONDS = 1.0


class _Job:
    """A request whose callback was not called yet."""

    __slots__ = (
        "client",
        "fields",
        "moved",
        "moved_at",
        "parts",
        "received",
        "repeated",
        "replied",
        "stalled",
        "target",
    )

    def __init__(self, target: str, fields: bytes, parts: Sequence[Buffer], replied: Replied) -> None:
        self.target = target
        self.fields = fields
        self.parts = parts
        self.replied = replied
        self.repeated = self.stalled = False
        self.client: TurnClient | None = None
        self.received = 0
        """Bytes that its connection had received before it."""
        self.moved = -1
        self.moved_at = 0.0


class TurnPool:
    """Connections to one address. New ones are made only while ``run`` is running."""

    def __init__(
        self,
        address: str,
        turns: Turns,
        settings: PoolSettings,
        *,
        body_bytes_max: int,
        connect: Callable[[str], Awaitable[Stream]] = connect_tcp,
    ) -> None:
        self._address = address
        self._turns = turns
        self._settings = settings
        self._body_bytes_max = body_bytes_max
        self._connect = connect
        self._waiting: deque[_Job] = deque()
        self._free: list[TurnClient] = []
        self._jobs: set[_Job] = set()
        """The requests in progress, each with its connection."""
        self._old: set[TurnClient] = set()
        """Busy connections to an address that is no longer the peer's."""
        self._connecting = 0
        self._wanted = trio.Semaphore(0)
        self._running = False
        self._requests = self._connects = self._repeats = 0

    @property
    def address(self) -> str:
        return self._address

    def move(self, address: str) -> None:
        """Use a new address: requests in progress finish on the old one, the others take the new one."""
        if address != self._address:
            self._address = address
            self._old = {job.client for job in self._jobs if job.client is not None}
            for client in list(self._free):
                client.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect and watch until cancelled; then every request, and any later one, gets ConnectionLost."""
        self._running = True
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self._settings.connections_max):
                    nursery.start_soon(self._connect_on_demand)
                nursery.start_soon(self._watch)
                task_status.started()
        finally:
            self._running = False
            self._refuse_waiting("the connections are being closed")
            for client in [*self._free, *(job.client for job in self._jobs if job.client is not None)]:
                client.close()

    def post(self, target: str, fields: bytes, parts: Sequence[Buffer], replied: Replied) -> None:
        """Send a POST, now or when a connection is free. It may be sent a second time if a kept connection turns out
        to be closed. ``fields`` are encoded lines; ``parts``, the body, must not change until ``replied``.

        ``replied`` gets ConnectionLost if the peer cannot be reached, goes away or stalls; RemoteProtocolError if it
        does not speak HTTP.
        """
        self._requests += 1
        job = _Job(target, fields, parts, replied)
        if not self._running:
            replied(ConnectionLost(f"{self._address}: the connections are closed"))
            return
        self._waiting.append(job)
        self._send_waiting()

    def statistics(self) -> PoolStatistics:
        return PoolStatistics(
            idle=len(self._free),
            busy=len(self._jobs),
            waiting=len(self._waiting),
            requests=self._requests,
            connects=self._connects,
            repeats=self._repeats,
        )

    def _send_waiting(self) -> None:
        while self._waiting and self._free:
            self._send(self._free.pop(), self._waiting.popleft())
        open_or_coming = len(self._free) + len(self._jobs) - len(self._old) + self._connecting
        missing = min(len(self._waiting) - self._connecting, self._settings.connections_max - open_or_coming)
        for _ in range(missing):
            self._connecting += 1
            self._wanted.release()

    def _send(self, client: TurnClient, job: _Job) -> None:
        length = sum(map(len, job.parts))
        host = self._address.removeprefix(HTTPS)
        head = f"POST {job.target} HTTP/1.1\r\nhost: {host}\r\n".encode()
        job.client, job.received, job.moved = client, client.received, -1
        self._jobs.add(job)
        client.send(
            [b"%b%bcontent-length: %d\r\n\r\n" % (head, job.fields, length), *job.parts],
            lambda reply: self._ended(job, reply),
        )

    def _ended(self, job: _Job, reply: TurnReply | ProtocolError) -> None:
        client = job.client
        assert client is not None
        self._jobs.discard(job)
        if client in self._old:
            self._old.discard(client)
            client.close()
        elif not client.closed:
            self._free.append(client)
        if self._was_stale(job, reply):
            self._repeats += 1
            job.repeated = True
            self._waiting.appendleft(job)
            self._send_waiting()
            return
        try:
            job.replied(reply)
        finally:
            self._send_waiting()

    def _was_stale(self, job: _Job, reply: TurnReply | ProtocolError) -> bool:
        """Return whether the peer had closed the connection while it was idle, so that the request never began."""
        client = job.client
        assert client is not None
        silent = isinstance(reply, ConnectionLost) and client.replies > 0 and client.received == job.received
        return silent and not (job.repeated or job.stalled) and self._running

    def _lost(self, client: TurnClient) -> None:
        if client in self._free:
            self._free.remove(client)
        self._old.discard(client)

    async def _connect_on_demand(self) -> None:
        while True:
            await self._wanted.acquire()
            address, error = (
                self._address,
                f"{self._address} did not answer within {self._settings.connect_seconds:g} s",
            )
            stream: Stream | None = None
            try:
                self._connects += 1
                with trio.move_on_after(self._settings.connect_seconds):
                    stream = await self._connect(address)
            except ConnectionLost as refusal:
                error = str(refusal)
            finally:
                self._connecting -= 1
            if address != self._address:  # the peer moved meanwhile: what became of the old address says nothing
                if stream is not None:
                    stream.close()
                self._send_waiting()
            elif stream is not None:
                client = TurnClient(stream, self._turns, body_bytes_max=self._body_bytes_max, lost=self._lost)
                self._free.append(client)
                self._send_waiting()
            elif not self._jobs and not self._connecting:
                # As long as another connection is in use, it may carry the waiting requests later.
                self._refuse_waiting(error)

    def _refuse_waiting(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.replied(ConnectionLost(reason))

    async def _watch(self) -> None:
        """Watch all connections: cut one whose request has not moved a byte for too long."""
        while True:
            await trio.sleep(WATCH_SECONDS)
            now = trio.current_time()
            for job in list(self._jobs):
                client = job.client
                assert client is not None
                if client.moved != job.moved:
                    job.moved, job.moved_at = client.moved, now
                elif now - job.moved_at >= self._settings.stall_seconds:
                    job.stalled = True
                    seconds = self._settings.stall_seconds
                    client.close(ConnectionLost(f"{self._address} did not move a byte for {seconds:g} s"))
