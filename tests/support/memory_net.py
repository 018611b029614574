"""A network in memory with the contract of ``flared.http.stream.Stream``, and with faults, for virtual clocks.

``MemoryNetwork.listen`` gives a Listener for ``Server.serve``; ``MemoryNetwork.connect`` is what ``Pool`` wants.
Faults are set per address: ``cut`` breaks its connections and refuses new ones, ``freeze`` holds all bytes back until
``heal``, or those of one direction, ``delay`` holds each batch of bytes back, ``slow`` lets so many pass in a second,
``lose_reply`` breaks a connection when its server answers, and ``fragment`` hands the bytes over in pieces of random
size, drawn from the network's seed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from flared.errors import ConnectionLost
from flared.http.turns import ENDED, GONE, WRITABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flared.http.stream import Buffer, Stream
    from flared.http.turns import Ready, Turns

WINDOW_BYTES = 256 * 1024
"""Bytes that one direction holds before its sender must wait: about as the kernel's socket buffers."""


TO = "to"
FROM = "from"
"""The directions of a connection, as seen from the address: what it is sent, and what it answers."""

RATE_STEP_SECONDS = 0.05
"""Bytes of a slow link arrive in steps of so much time."""


class _Pipe:
    """One direction of a connection."""

    def __init__(self, place: Place, direction: str) -> None:
        self.place = place
        self.direction = direction
        self.reset: Callable[[], None] = lambda: None
        """Breaks the connection that this is one half of."""
        self.data = bytearray()
        self.ready_at = 0.0
        self.ended = False
        self.cut = False
        self.changed = trio.Event()
        self.watchers: list[Callable[[], None]] = []

    def wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
        for watcher in self.watchers:
            watcher()

    def put(self, data: Buffer) -> int:
        room = WINDOW_BYTES - len(self.data)
        taken = bytes(memoryview(data)[: max(room, 0)])
        if taken and self.direction == FROM and self.place.replies_to_lose:
            self.place.replies_to_lose -= 1
            self.place.replies_lost += 1
            self.reset()
        elif taken:
            if not self.data:
                self.ready_at = trio.current_time() + self.place.delay_seconds
                if self.place.delay_seconds and self.watchers:
                    trio.lowlevel.spawn_system_task(self._wake_when_ready)
            self.data += taken
            self.wake()
        return len(taken)

    async def _wake_when_ready(self) -> None:
        await trio.sleep_until(self.ready_at)
        self.wake()

    def arrived(self) -> bool:
        """Return whether a receive would return something, including the end or a cut."""
        if self.cut:
            return True
        return not self.frozen and (bool(self.data) or self.ended) and trio.current_time() >= self.ready_at

    @property
    def frozen(self) -> bool:
        return self.direction in self.place.frozen

    def take(self, size: int) -> bytes | None:
        if not self.arrived():
            return None
        if self.place.fragments is not None and size > 1:
            size = self.place.fragments.randint(1, min(size, 64))
        if self.place.bytes_per_second:
            size = min(size, max(1, int(self.place.bytes_per_second * RATE_STEP_SECONDS)))
        taken = bytes(self.data[:size])
        if self.place.bytes_per_second:
            self.ready_at = trio.current_time() + len(taken) / self.place.bytes_per_second
            if self.watchers:
                trio.lowlevel.spawn_system_task(self._wake_when_ready)
        del self.data[:size]
        self.wake()
        return taken


class MemoryStream:
    """One end of a connection."""

    def __init__(self, peer: str, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.peer = peer
        self.received = 0
        self.sent = 0
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self._watcher: Callable[[], None] = self.wake
        self._place = incoming.place
        self._place.streams[self] = None

    def receive_nowait(self, size: int) -> bytes | None:
        self._check(self._incoming)
        data = self._incoming.take(size)
        self.received += len(data or b"")
        return data

    def receive_into_nowait(self, buffer: memoryview) -> int | None:
        data = self.receive_nowait(len(buffer))
        if data is None:
            return None
        buffer[: len(data)] = data
        return len(data)

    def send_nowait(self, data: Buffer) -> int:
        self._check(self._outgoing)
        if self._outgoing.ended:
            raise ConnectionLost(f"{self.peer} was told that nothing more would come")
        count = self._outgoing.put(data)
        self.sent += count
        return count

    def send_parts_nowait(self, parts: Sequence[Buffer]) -> int:
        return self.send_nowait(b"".join(parts))

    def wait_readable(self) -> Awaitable[None]:
        return self._wait_readable()

    def wait_writable(self) -> Awaitable[None]:
        return self._wait_writable()

    def unacknowledged(self) -> int:
        return len(self._outgoing.data)

    def watch(self, turns: Turns, ready: Ready) -> None:
        """Edges as the kernel raises them, and some more: each change of either direction is one."""

        def call() -> None:
            if not self._closed:
                ready(WRITABLE | (ENDED if self._incoming.ended else 0) | (GONE if self._incoming.cut else 0))

        def changed() -> None:
            turns.soon(call)

        self._watcher = changed
        self._incoming.watchers.append(changed)
        self._outgoing.watchers.append(changed)
        changed()
        if self._incoming.data:  # it came before anybody watched, and may be on its way still
            trio.lowlevel.spawn_system_task(self._incoming._wake_when_ready)

    def forget(self, turns: Turns) -> None:
        for pipe in (self._incoming, self._outgoing):
            if self._watcher in pipe.watchers:
                pipe.watchers.remove(self._watcher)

    def finish_sending(self) -> None:
        self._outgoing.ended = True
        self._outgoing.wake()

    def finish_receiving(self) -> None:
        self._incoming.ended = True
        self._incoming.wake()

    def abort(self) -> None:
        for pipe in (self._incoming, self._outgoing):
            pipe.cut = True
            pipe.wake()

    def wake(self) -> None:
        """Wake all that wait."""
        self._incoming.wake()
        self._outgoing.wake()

    def close(self) -> None:
        """As TCP does: closing with bytes unread resets the connection, else the peer sees the end."""
        if not self._closed:
            self._closed = True
            if self._incoming.data:
                self.abort()
            self.finish_sending()
            self._incoming.cut = True
            self._incoming.wake()
            self._place.streams.pop(self, None)

    def _check(self, pipe: _Pipe) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if pipe.cut:
            raise ConnectionLost(f"the connection to {self.peer} was cut")

    async def _wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()
        pipe = self._incoming
        while not pipe.arrived():
            changed = pipe.changed
            if (pipe.data or pipe.ended) and not pipe.frozen:
                await trio.sleep_until(pipe.ready_at)
            else:
                await changed.wait()

    async def _wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        pipe = self._outgoing
        while len(pipe.data) >= WINDOW_BYTES and not pipe.cut:
            await pipe.changed.wait()


class Place:
    """One address of the network, and what is wrong with it."""

    def __init__(self) -> None:
        self.frozen: set[str] = set()
        """Directions in which nothing moves."""
        self.delay_seconds = 0.0
        self.bytes_per_second = 0.0
        """Of each direction of a connection; 0: as many as there are."""
        self.replies_to_lose = 0
        self.replies_lost = 0
        self.fragments: random.Random | None = None
        self.listener: MemoryListener | None = None
        self.streams: dict[MemoryStream, None] = {}
        """In the order in which they were made, so that a seed always does the same."""
        self.reachable = True
        self.healed = trio.Event()


class MemoryListener:
    """Where a Server takes its connections from."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sender, self._receiver = trio.open_memory_channel[MemoryStream](1000)

    def offer(self, stream: MemoryStream) -> None:
        self._sender.send_nowait(stream)

    async def accept(self) -> Stream:
        try:
            return await self._receiver.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError from None

    def close(self) -> None:
        """Take no more; connections not accepted yet are cut, as the kernel does."""
        if self._place.listener is self:
            self._place.listener = None
        self._sender.close()


class MemoryNetwork:
    """Addresses are any strings. Faults hold until ``heal``."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._places: dict[str, Place] = {}
        self._connections = 0
        self.host = "client"
        """Where those who connect from now on are."""

    def listen(self, address: str) -> MemoryListener:
        place = self._place(address)
        assert place.listener is None, f"{address} is taken"
        place.listener = MemoryListener(place)
        return place.listener

    async def connect(self, address: str) -> Stream:
        """Return the client's end of a new connection.

        Raise ConnectionLost without a listener, or if it is cut off.
        """
        await trio.lowlevel.checkpoint()
        place = self._place(address)
        if place.frozen:
            await place.healed.wait()
        if place.listener is None or not place.reachable:
            raise ConnectionLost(f"{address}: connection refused")
        self._connections += 1
        up, down = _Pipe(place, TO), _Pipe(place, FROM)
        client = MemoryStream(address, down, up)
        down.reset = client.abort
        server = MemoryStream(f"{self.host}:{self._connections}", up, down)
        place.listener.offer(server)
        return client

    def cut(self, address: str) -> None:
        """Every connection to the address breaks, and none can be made."""
        place = self._place(address)
        place.reachable = False
        self.reset(address)

    def reset(self, address: str) -> None:
        """Every connection to the address breaks; others can be made."""
        place = self._place(address)
        for stream in list(place.streams):
            stream.abort()

    def freeze(self, address: str, *directions: str) -> None:
        """Nothing moves any more, or not in this direction (``TO``, ``FROM``), and no end is notified."""
        self._place(address).frozen.update(directions or (TO, FROM))

    def slow(self, address: str, bytes_per_second: float) -> None:
        """So many bytes arrive in a second, in each direction of each connection."""
        self._place(address).bytes_per_second = bytes_per_second

    def lose_reply(self, address: str) -> None:
        """The next time that a server here answers, its connection breaks instead: what was asked has been done."""
        self._place(address).replies_to_lose += 1

    def replies_lost(self, address: str) -> int:
        """How many were, so far."""
        return self._place(address).replies_lost

    def delay(self, address: str, seconds: float) -> None:
        """Bytes take so long to arrive, in either direction."""
        self._place(address).delay_seconds = seconds

    def fragment(self, address: str) -> None:
        """Bytes arrive in pieces of 1 to 64."""
        self._place(address).fragments = random.Random(self._random.random())

    def heal(self, address: str) -> None:
        """No fault is left; broken connections stay broken."""
        place = self._place(address)
        place.reachable, place.delay_seconds, place.fragments = True, 0.0, None
        place.bytes_per_second, place.replies_to_lose = 0.0, 0
        place.frozen.clear()
        place.healed.set()
        place.healed = trio.Event()
        for stream in place.streams:
            stream.wake()

    def _place(self, address: str) -> Place:
        return self._places.setdefault(address, Place())
