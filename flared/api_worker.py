"""A worker of an api node: the verbs and the native face in a process of their own, on the owner's metadata.

It has what serving clients takes; upkeep, membership and the admin face are the owner's, and so is every request for
them: it is passed on. It is started by ``workers.owner`` with four descriptors, and ends when its channel does.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import trio

from flared.access.keys import Keyring
from flared.api.admin import routes
from flared.api.admin.nodes import HEARTBEAT_BYTES_MAX
from flared.api.audit import set_up_audit
from flared.api.callers import Callers, access_policy
from flared.api.counts import RequestCounts
from flared.api.entry import Entry
from flared.api.errors import JSON_ERRORS
from flared.api.face import Face, on_nothing
from flared.api.gate import Gate
from flared.api.native.face import native_face
from flared.api_process import (
    GATHERING,
    S3,
    S3_HEADS,
    Connector,
    build_chunks,
    build_http,
    build_s3,
    build_store,
    gate_settings,
    resize,
    share_of,
    take_gate,
)
from flared.catalog.key_store import KeyStore
from flared.catalog.key_uses import KeyUses
from flared.catalog.totals import Totals
from flared.chunks.budget import MemoryBudget
from flared.chunks.damage import DamageList
from flared.daemon import tune_process
from flared.errors import Busy, ConfigError
from flared.http.client import ClientConnection
from flared.http.parsing import HeadLimits
from flared.http.stream import TcpStream
from flared.http.tls_context import Tls, TlsCaller, TlsListener
from flared.http.turns import open_turns
from flared.log import set_up_logging
from flared.meta.kv import Health
from flared.meta.shared.channel import Channel
from flared.meta.shared.follower import FollowerKV
from flared.meta.shared.frames import BadFrame, Kind
from flared.meta.shared.published import Subscriber
from flared.workers.dealing import HandedListener, HandedPort, hand_over
from flared.workers.flight import REPORT_SECONDS, WorkerFlight
from flared.workers.nodes import parse_nodes
from flared.workers.owner import VARIABLE, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flared.config.settings import ApiConfig
    from flared.data.transport.remote import Remote
    from flared.http.messages import Reply, Request
    from flared.http.server import Server
    from flared.http.turns import Turns
    from flared.names import ChunkId, NodeName
    from flared.objects.store import Store

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
COUNT_SECONDS = 1.0
RELAYED_BYTES_MAX = 64 * 1024 * 1024
"""Of an answer that is passed back. A request has at most what the owner's calls take: anyone may send one."""
RELAY_SECONDS = 60.0
DRAIN_SECONDS = 0.1
"""After the last connection was handed over: those that are on their way are taken before the door closes."""
_HOP_BY_HOP = frozenset({"host", "connection", "keep-alive", "content-length", "transfer-encoding", "expect", "date"})
_COUNTED = (
    "connections", "accepted", "strangers", "shed", "evicted", "swept", "requests", "refused", "failures",
    "handed_over", "bytes_received", "bytes_sent",
)  # fmt: skip


def main() -> None:
    """Run the worker that the environment describes, until its owner ends it or itself."""
    channel, through, memory, settings = map(int, os.environ.pop(VARIABLE).split(","))
    for descriptor in (channel, through, memory, settings):
        os.set_inheritable(descriptor, False)
    # Even one that is stopped ends with its owner, before the metadata can get another one.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C and a service's stop reach all processes; the owner says when it is time.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    config = read_settings(settings)
    set_up_logging(level=config.log.level, format=config.log.format)
    set_up_audit(config.audit_file, config.log.format)
    tune_process()
    worker = _Worker(config, settings, socket.socket(fileno=through))
    trio.run(worker.run, socket.socket(fileno=channel), memory, strict_exception_groups=True)


class _ReportedDamage(DamageList):
    """Passes found damage to the owner, and receives from it what is known to be damaged."""

    def __init__(self, report: Callable[[list[object]], None]) -> None:
        super().__init__()
        self._report = report
        self.known: frozenset[tuple[str, int]] = frozenset()

    def add(self, chunk: ChunkId, number: int, node: str, reason: str, *, corrupt: bool = False) -> None:
        self._report([chunk, number, node, reason, corrupt])

    def holds(self, chunk: ChunkId, number: int) -> bool:
        return (chunk, number) in self.known


class _Worker:
    """The objects that the owner's frames act on."""

    def __init__(self, config: ApiConfig, settings: int, through: socket.socket) -> None:
        self._config = config
        self._settings = settings
        self._through = through
        self._tls = Tls(config.tls)
        self._caller = TlsCaller(config.tls)
        self._keyring = Keyring(config.secrets)
        self._gate = Gate(gate_settings(config))
        self._flight = WorkerFlight()
        self._damage = _ReportedDamage(lambda piece: self._send(Kind.FOUND, {"piece": piece}))
        self._remotes: dict[NodeName, Remote] = {}
        self._fresh: list[Remote] = []
        self._hello: dict[str, Any] = {}  # type: ignore[explicit-any]  # JSON of a process of ours
        self._state: dict[str, Any] = {}  # type: ignore[explicit-any]
        self._greeted = trio.Event()
        self._connected = trio.Event()
        self._kv: FollowerKV | None = None
        self._store: Store
        self._server: Server
        self._s3: Server | None = None
        self._connector: Connector
        self._channel: Channel
        self._nursery: trio.Nursery

    async def run(self, connected: socket.socket, memory: int) -> None:
        async with open_turns() as turns:
            self._channel = Channel(connected, turns, self._receive, _owner_ended)
            # Nothing before the owner has said which opening of the metadata it has, and which nodes there are.
            await self._greeted.wait()
            kv = self._kv = FollowerKV(self._config.metadata, Subscriber(memory), turns, self._hello)
            self._connector = Connector(self._keyring, turns, self._caller, self._config.workers)
            entries = self._build(kv, turns)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                kv.connect(self._channel, self._report_flight)
                await nursery.start(kv.run)
                uses = KeyUses(kv, self._store.now)
                self._gate.note_use = uses.note
                nursery.start_soon(uses.run)
                self._take_state(self._state)
                await self._run_fresh()
                s3_port = HandedPort()
                listener = HandedListener(self._through, {S3: s3_port})
                await nursery.start(self._server.serve, [TlsListener(listener, self._tls)])
                if self._s3 is not None:
                    await nursery.start(self._s3.serve, [TlsListener(s3_port, self._tls)])
                gc.collect()
                gc.freeze()
                self._send(Kind.HELLO, {})
                self._connected.set()
                nursery.start_soon(self._report_regularly)
                await self._report_counts(entries)

    def _build(self, kv: FollowerKV, turns: Turns) -> list[Entry]:
        config = share_of(self._config)
        chunks = build_chunks(config, turns, self._flight, self._damage)
        self._store = build_store(config, kv, chunks, Totals(kv), lambda: self._send(Kind.FOUND, {"degraded": True}))
        hosts = self._config
        keys = KeyStore(kv, self._keyring, self._store.now)
        callers = Callers(access_policy(kv, self._keyring, hosts.anonymous, _names_of(hosts)), keys)
        relayed = {
            call: on_nothing(self._relay) for methods in routes.ROUTES.exact.values() for call in methods.values()
        }
        admin = Face(routes.FACE, routes.ROUTES, relayed, callers.find, JSON_ERRORS, relayed=True)
        entry = Entry([native_face(self._store, callers), admin], gate=self._gate)
        bodies = MemoryBudget(GATHERING)
        self._server = build_http(config, turns, entry, bodies)
        s3_entry = build_s3(self._config, self._store, self._keyring, keys, self._gate)
        if s3_entry is None:
            return [entry]
        self._s3 = build_http(config, turns, s3_entry, bodies, S3_HEADS)
        return [entry, s3_entry]

    # What the owner says

    def _receive(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.ANSWERS:
            assert self._kv is not None
            return self._kv.take_answers(payload)
        said = json.loads(payload)
        if kind is Kind.PING:
            self._report_flight()
            if self._kv is not None:
                self._kv.release()
            self._send(Kind.PONG, said)
        elif kind is Kind.HELLO:
            self._hello = said
        elif kind is Kind.STATE:
            self._state = self._state | said
            self._greeted.set()
            if self._connected.is_set():
                self._take_state(said)
        elif kind is Kind.RELOAD:
            self._reload(read_settings(self._settings))
        elif kind is Kind.STOP:
            self._nursery.start_soon(self._stop, float(said["seconds"]))
        else:
            raise BadFrame(f"an owner does not say {kind.name}")
        return None

    def _take_state(self, state: dict[str, Any]) -> None:  # type: ignore[explicit-any]
        if "nodes" in state:
            self._store.chunks.nodes.take_over(parse_nodes(state["nodes"], self._remote))
            self._damage.known = frozenset((chunk, number) for chunk, number in state["damaged"])
        if "health" in state and self._kv is not None:
            health = state["health"]
            self._kv.take_health(Health(**{**health, "problems": tuple(health["problems"])}))

    def _remote(self, name: NodeName, address: str) -> Remote:
        remote = self._remotes.get(name)
        if remote is None:
            remote = self._remotes[name] = self._connector(name, address)
            self._fresh.append(remote)
            if self._connected.is_set():
                self._nursery.start_soon(self._run_fresh)
        remote.set_address(address)
        return remote

    async def _run_fresh(self) -> None:
        while self._fresh:
            await self._nursery.start(self._fresh.pop().run)

    def _reload(self, config: ApiConfig) -> None:
        self._config = config
        set_up_logging(level=config.log.level, format=config.log.format)
        self._keyring.change(config.secrets)
        take_gate(self._gate, config)
        if self._kv is not None:  # else it is still starting, and will be built with these settings
            self._connector.renew()
            resize(self._store, self._server, share_of(config))
        if self._s3 is not None:
            self._s3.limit_connections(share_of(config).connections)
        try:
            self._tls.load(config.tls)
            self._caller.load(config.tls)
        except ConfigError as error:
            log.error("event=reload_refused message=%r", error.mistakes[0])

    async def _stop(self, seconds: float) -> None:
        await trio.sleep(DRAIN_SECONDS)
        async with trio.open_nursery() as nursery:
            for server in self._servers():
                nursery.start_soon(server.stop, seconds)
        self._report_flight()
        self._nursery.cancel_scope.cancel()

    # What is reported to the owner

    def _send(self, kind: Kind, said: dict[str, Any]) -> None:  # type: ignore[explicit-any]
        self._channel.send(kind, json.dumps(said).encode())

    def _report_flight(self) -> None:
        news = self._flight.take_news()
        if news is not None:
            self._send(Kind.PINS, news)

    async def _report_regularly(self) -> None:
        while True:
            await trio.sleep(REPORT_SECONDS)
            self._report_flight()

    def _servers(self) -> list[Server]:
        return [self._server] if self._s3 is None else [self._server, self._s3]

    async def _report_counts(self, entries: Sequence[Entry]) -> None:
        while True:
            each = [asdict(replace(server.statistics(), turns=None)) for server in self._servers()]
            requests = RequestCounts()
            for entry in entries:
                requests.add(entry.counts.describe())
            sums = {name: sum(counted[name] for counted in each) for name in _COUNTED}
            self._send(Kind.COUNTS, {"server": sums, "requests": requests.describe()})
            self._store.chunks.budget.trim()
            self._store.chunks.units.trim()
            await trio.sleep(COUNT_SECONDS)

    async def _relay(self, request: Request, reply: Reply) -> None:
        """Pass a request on to the owner, on a connection of its own that shows the caller's address."""
        body = await request.body.read_all(HEARTBEAT_BYTES_MAX)
        ours, theirs = socket.socketpair()
        end = TcpStream(theirs, request.peer)
        if not hand_over(self._through, end):
            ours.close()
            end.close()
            raise Busy("the first process of this node takes no requests now")
        host = request.fields.get("host", "")
        connection = ClientConnection(TcpStream(ours, "the first process"), host, HeadLimits(), RELAY_SECONDS)
        try:
            fields = [(name, value) for name, value in request.fields.items() if name not in _HOP_BY_HOP]
            target = f"{request.path}?{request.query}" if request.query else request.path
            # The method stays what it is, because a signature covers it.
            response = await connection.exchange(request.method, target, fields, [body] if body else [])
            answer = await response.body.read_all(RELAYED_BYTES_MAX)
            kept = [(name, value) for name, value in response.fields.items() if name not in _HOP_BY_HOP]
            if request.method == "HEAD":
                await reply.start(response.status, kept, int(response.fields.get("content-length", "0")))
            else:
                await reply.send(response.status, kept, answer)
        finally:
            connection.close()


def _names_of(config: ApiConfig) -> frozenset[str]:
    from flared.http.address import host_names

    return host_names(config.hosts, config.listen)


def _owner_ended(reason: str) -> None:
    """Nothing can be committed any more, and the metadata may get another owner: end at once, whatever runs."""
    log.info("event=worker_stopped message=%r", reason)
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
