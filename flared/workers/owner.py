"""Owner: starts the workers of an api node, watches them, sends them what changes, and takes what they report.

A worker that ends is started again; one that does not answer HANGS pings is killed first. What it was reading and
writing stays noted for SAFE_SECONDS: pieces that it sent may still be on their way. No worker outlives this process: it
ends when its channel does.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from flared.catalog.totals import Counted, CountedPacked
from flared.meta.shared.channel import Channel
from flared.meta.shared.desk import Desk, pack_hello
from flared.meta.shared.frames import BadFrame, Kind
from flared.meta.shared.published import Publisher, create_memory
from flared.names import ChunkId
from flared.workers.dealing import HandedListener, hand_over
from flared.workers.flight import Held
from flared.workers.nodes import describe_nodes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flared.api.counts import RequestCounts
    from flared.chunks.chunk import Chunks
    from flared.config.settings import ApiConfig
    from flared.http.stream import Stream, TcpStream
    from flared.http.turns import Turns
    from flared.meta.openings import Opening
    from flared.meta.sqlite import SqliteKV

log = logging.getLogger(__name__)

MODULE = "flared.api_worker"
VARIABLE = "FLARED_WORKER"
"""Names the descriptors that a worker inherits: channel, connections, published memory, settings."""

STATE_SECONDS = 0.05
"""Changes of data nodes are sent to workers so often."""
PING_SECONDS = 1.0
SILENT = 2
HANGS = 10
"""So many pings without a word in between: less than ``upkeep.deletion.sweep`` gives a put that was given up."""
RELEASE_SECONDS = 0.1
SAFE_SECONDS = 60.0
START_SECONDS = 30.0
RESTART_SECONDS = 1.0
DAMAGED_SENT = 1000


class Reach(NamedTuple):
    """The parts of the owner that its workers reach."""

    kv: SqliteKV
    chunks: Chunks
    turns: Turns
    wake_heal: Callable[[], None]
    serve: Callable[[Stream], Awaitable[None]]
    """Serves a connection on which a worker passes on a request."""


class WorkerNow(NamedTuple):
    """A worker, for /status and /metrics."""

    pid: int
    connections: int
    requests: int


class _Worker:
    """A process and our end of it."""

    def __init__(self, process: subprocess.Popen[bytes], through: socket.socket, held: Held) -> None:
        self.process = process
        self.through = through
        self.held = held
        self.channel: Channel
        self.desk: Desk
        self.ready = False
        self.ended = trio.Event()
        """The channel has ended; everything that it brought was taken."""
        self.silent_pings = 0
        """Pings since it said anything."""
        self.pongs: dict[int, trio.Event] = {}
        self.counts: dict[str, Any] = {}  # type: ignore[explicit-any]  # JSON of a process of ours


class Workers:
    """The workers of this process; ``run`` keeps ``config.workers - 1`` of them."""

    def __init__(self, config: ApiConfig, reach: Reach, past: RequestCounts) -> None:
        """``past`` counts what workers that ended had counted."""
        self._config = config
        self._reach = reach
        self._past = past
        self._past_server: dict[str, int] = {}
        self._memory = create_memory()
        self._settings = os.memfd_create("flare-settings", os.MFD_CLOEXEC)
        self._publisher = Publisher(self._memory)
        self._opening: Opening = reach.kv.publish_to(self._publisher, self._release)
        self._workers: list[_Worker] = []
        self._turn = 0
        self._pings = 0
        self._sent_state = b""
        self._stopping = False
        self._started = trio.Event()
        self.restarts = 0
        self._write_settings(config)
        reach.chunks.in_flight.hear_others(self._settle)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep them until cancelled; then those that are left are killed."""
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self._config.workers - 1):
                    nursery.start_soon(self._keep, nursery)
                nursery.start_soon(self._send_changes)
                nursery.start_soon(self._watch)
                task_status.started()
        finally:
            for worker in self._workers:
                worker.process.kill()
                worker.process.wait()
            os.close(self._settings)
            os.close(self._memory)

    async def wait_ready(self) -> None:
        """Return when all of them serve, or START_SECONDS have passed."""
        with trio.move_on_after(START_SECONDS):
            await self._started.wait()

    def deal(self, stream: TcpStream, port: str = "") -> bool:
        """Hand the connection to the process whose turn it is; False if that is this one. A worker that was silent for
        SILENT pings gets none: it may be hanging, and its connections would with it."""
        ready = [worker for worker in self._workers if worker.ready and worker.silent_pings <= SILENT]
        self._turn = (self._turn + 1) % (len(ready) + 1)
        return self._turn > 0 and not self._stopping and hand_over(ready[self._turn - 1].through, stream, port)

    def reload(self, config: ApiConfig) -> None:
        """Have them take over what has changed."""
        self._write_settings(config)
        for worker in self._workers:
            worker.channel.send(Kind.RELOAD, b"{}")

    async def stop(self, seconds: float) -> None:
        """Have them finish what runs, and return when they have ended; after ``seconds`` they are killed."""
        self._stopping = True
        workers = list(self._workers)
        for worker in workers:
            worker.channel.send(Kind.STOP, json.dumps({"seconds": seconds}).encode())
        with trio.move_on_after(seconds + RESTART_SECONDS):
            for worker in workers:
                await worker.ended.wait()

    def list_workers(self) -> list[WorkerNow]:
        return [
            WorkerNow(worker.process.pid, server.get("connections", 0), server.get("requests", 0))
            for worker in self._workers
            for server in [worker.counts.get("server", {})]
        ]

    def sum_server(self) -> dict[str, int]:
        """Return what all of them counted of their connections, also those that have ended."""
        sums = dict(self._past_server)
        for worker in self._workers:
            _add(sums, worker.counts.get("server", {}))
        return sums

    def add_requests(self, counts: RequestCounts) -> None:
        """Add to ``counts`` what those that live counted of their requests."""
        for worker in self._workers:
            if worker.counts:
                counts.add(worker.counts["requests"])

    # One worker

    async def _keep(self, nursery: trio.Nursery) -> None:
        while not self._stopping:
            try:
                worker = self._start()
            except OSError as error:
                log.error("event=worker_not_started message=%r", error.strerror)
                await trio.sleep(START_SECONDS)
                continue
            pid = worker.process.pid
            async with trio.open_nursery() as serving:
                serving.start_soon(self._serve_relayed, worker, nursery)
                await worker.ended.wait()
                serving.cancel_scope.cancel()
            worker.process.kill()
            code = await trio.to_thread.run_sync(worker.process.wait)
            self._workers.remove(worker)
            worker.through.close()
            self._count_past(worker)
            nursery.start_soon(self._forget_later, worker)
            if not self._stopping:
                self.restarts += 1
                log.error("event=worker_ended pid=%d code=%d", pid, code)
                await trio.sleep(RESTART_SECONDS)

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        through, their_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inherited = (theirs.fileno(), their_end.fileno(), self._memory, self._settings)
        environment = {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "WATCHDOG_PID")}
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.DEVNULL,
            pass_fds=inherited,
            env=environment | {VARIABLE: ",".join(map(str, inherited))},
        )
        theirs.close()
        their_end.close()
        through.setblocking(False)
        worker = _Worker(process, through, Held(self._reach.chunks.in_flight))
        reach = self._reach
        channel = Channel(ours, reach.turns, partial(self._receive, worker), partial(self._ended, worker))
        worker.channel = channel
        worker.desk = Desk(reach.kv, reach.turns, channel, reach.chunks.nodes.refuse_while_halted, _make_counted)
        self._workers.append(worker)
        channel.send(Kind.HELLO, pack_hello(self._opening))
        channel.send(Kind.STATE, self._describe())
        return worker

    async def _serve_relayed(self, worker: _Worker, nursery: trio.Nursery) -> None:
        listener = HandedListener(worker.through)
        while True:
            try:
                nursery.start_soon(self._reach.serve, await listener.accept())
            except trio.ClosedResourceError:
                return

    def _receive(self, worker: _Worker, kind: Kind, payload: bytes) -> None:
        if kind is Kind.COMMITS:
            return worker.desk.take_commits(payload)
        try:
            self._take(worker, kind, json.loads(payload))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadFrame(f"{kind.name}: {error}") from error
        return None

    def _take(self, worker: _Worker, kind: Kind, said: dict[str, Any]) -> None:  # type: ignore[explicit-any]
        worker.silent_pings = 0
        if kind is Kind.PONG:
            pong = worker.pongs.pop(said["number"], None)
            if pong is not None:
                pong.set()
        elif kind is Kind.PINS:
            worker.held.take_news(said)
        elif kind is Kind.COUNTS:
            worker.counts = said
        elif kind is Kind.FOUND:
            self._take_found(said)
        elif kind is Kind.HELLO:
            worker.ready = True
            log.info("event=worker_started pid=%d", worker.process.pid)
            if sum(one.ready for one in self._workers) >= self._config.workers - 1:
                self._started.set()
        else:
            raise BadFrame(f"a worker does not say {kind.name}")

    def _take_found(self, said: dict[str, Any]) -> None:  # type: ignore[explicit-any]
        if "row" in said:
            self._reach.kv.note_damage(bytes.fromhex(said["row"]))
        elif "degraded" in said:
            self._reach.wake_heal()
        else:
            chunk, number, node, reason, corrupt = said["piece"]
            self._reach.chunks.damage.add(ChunkId(chunk), number, node, reason, corrupt=corrupt)

    def _ended(self, worker: _Worker, reason: str) -> None:
        worker.ready = False
        log.log(
            logging.INFO if self._stopping else logging.ERROR,
            "event=worker_lost pid=%d message=%r", worker.process.pid, reason,
        )  # fmt: skip
        for pong in worker.pongs.values():
            pong.set()
        worker.ended.set()

    async def _forget_later(self, worker: _Worker) -> None:
        await trio.sleep(SAFE_SECONDS)
        worker.held.forget()

    def _count_past(self, worker: _Worker) -> None:
        if worker.counts:
            self._past.add(worker.counts["requests"])
            ended = {"connections": 0, "strangers": 0}
            _add(self._past_server, worker.counts["server"] | ended)

    # All of them

    def _describe(self) -> bytes:
        chunks = self._reach.chunks
        damaged = [[chunk, number] for chunk, number, _ in chunks.damage.oldest(DAMAGED_SENT)]
        state = {"nodes": describe_nodes(chunks.nodes.now()), "damaged": damaged}
        return json.dumps(state).encode()

    def _send_state(self) -> None:
        state = self._describe()
        if state != self._sent_state:
            self._sent_state = state
            for worker in self._workers:
                worker.channel.send(Kind.STATE, state)

    async def _send_changes(self) -> None:
        while True:
            self._send_state()
            await trio.sleep(STATE_SECONDS)

    async def _watch(self) -> None:
        while True:
            await trio.sleep(PING_SECONDS)
            health = json.dumps({"health": asdict(self._reach.kv.health())}).encode()
            for worker in list(self._workers):
                worker.channel.send(Kind.STATE, health)
                self._ping(worker)
                worker.silent_pings += 1
                if worker.silent_pings > (HANGS if worker.ready else 2 * START_SECONDS):
                    worker.channel.close(f"it has not answered {worker.silent_pings} pings")

    def _ping(self, worker: _Worker) -> trio.Event:
        self._pings += 1
        pong = trio.Event()
        worker.pongs = {number: one for number, one in worker.pongs.items() if number > self._pings - 1000}
        worker.pongs[self._pings] = pong
        worker.channel.send(Kind.PING, json.dumps({"number": self._pings}).encode())
        return pong

    async def _settle(self) -> None:
        """See ``InFlight.settled``."""
        self._send_state()
        for pong in [self._ping(worker) for worker in self._workers if worker.channel.open]:
            await pong.wait()

    async def _release(self) -> None:
        """Have all let go of the moments at which they read the file. One that hangs is not waited for."""
        with trio.move_on_after(RELEASE_SECONDS):
            await self._settle()

    def _write_settings(self, config: ApiConfig) -> None:
        data = pickle.dumps(config)
        os.ftruncate(self._settings, 0)
        os.pwrite(self._settings, data, 0)


def read_settings(descriptor: int) -> ApiConfig:
    """Return what the owner's settings are now. They come from the process that started this one."""
    config: ApiConfig = pickle.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    return config


def _make_counted(key: bytes, before: int, after: int) -> Counted | CountedPacked:
    """Make a note of what a worker noted: of a row's key, or of a packed chunk's alias."""
    return (Counted if key.startswith((b"object/", b"version/", b"chunk/")) else CountedPacked)(key, before, after)


def _add(sums: dict[str, int], counts: dict[str, int]) -> None:
    for name, count in counts.items():
        sums[name] = sums.get(name, 0) + count
