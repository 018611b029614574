"""The api role: names, metadata, placement, streaming, repair, wired together behind the native face."""

from __future__ import annotations

import logging
import os
import random
import secrets
import shutil
import time
import weakref
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from flared import __version__
from flared.access.keys import Keyring, data_audience
from flared.api.admin.certificates import AuthorityFiles, CertificateCalls
from flared.api.admin.face import AdminCalls, admin_face
from flared.api.admin.joining import Joining
from flared.api.admin.keys import KeyCalls
from flared.api.admin.metadata import MetadataCalls
from flared.api.admin.metrics import api_metrics
from flared.api.admin.nodes import NodeCalls
from flared.api.admin.orphans import OrphanCalls
from flared.api.admin.status import StatusCalls, describe_status
from flared.api.audit import set_up_audit
from flared.api.callers import Callers, access_policy
from flared.api.counts import RequestCounts
from flared.api.entry import Entry
from flared.api.gate import Gate, GateSettings
from flared.api.native.face import native_face
from flared.api.s3.callers import S3Callers
from flared.api.s3.face import s3_face
from flared.api.s3.routes import S3Router
from flared.api.s3.settings import S3Settings
from flared.background import WorkerThreads
from flared.catalog.cluster import open_cluster
from flared.catalog.key_store import KeyStore
from flared.catalog.key_uses import KeyUses
from flared.catalog.resealing import reseal_keys
from flared.catalog.totals import Totals
from flared.chunks.budget import MemoryBudget
from flared.chunks.chunk import Chunks
from flared.chunks.damage import DamageList
from flared.chunks.delays import HEDGE_SECONDS, STRAGGLER_SECONDS, Delay
from flared.chunks.inflight import InFlight
from flared.chunks.nodes import Nodes
from flared.chunks.recent import RecentChunks
from flared.chunks.spill import Spills
from flared.chunks.units import REREAD_SIZE
from flared.cluster.states import NodeState
from flared.config.settings import ApiConfig
from flared.data.transport.links import LINKS
from flared.data.transport.remote import Remote, RemoteSettings
from flared.errors import ConfigError
from flared.http.address import host_names
from flared.http.parsing import HeadLimits
from flared.http.server import InTurns, Server, ServerSettings
from flared.http.tls_context import TlsCaller
from flared.http.turns import Turns, open_turns
from flared.meta.open import open_kv
from flared.meta.sqlite import SqliteKV
from flared.metrics import number
from flared.objects.buckets import ensure_default_bucket
from flared.objects.store import Defaults, Limits, Store, now_ms
from flared.role import Rate, Role
from flared.upkeep.failure import find_failure_cost, reason_node_must_stay
from flared.upkeep.membership.membership import Membership
from flared.upkeep.status import find_status, find_write_obstacle
from flared.upkeep.workers import Upkeep
from flared.workers.dealing import DealingListener
from flared.workers.owner import Reach, Workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from flared.config.settings import Config
    from flared.meta.kv import KV
    from flared.metrics import Durations, Metric
    from flared.names import NodeName

    Tell = Callable[[], Iterator[Metric | Durations]]

log = logging.getLogger(__name__)

CODEC_THREADS = (os.cpu_count() or 2) + 2
"""Digests and codecs run without the interpreter's lock: as many as cores keep them busy, a few more overlap. Parts of
an upload that come at once each have an MD5 of their own, which no other thread can share."""
STAGE_SHARE = 6
"""One part in so many of the memory budget is for uploads that wait for their turn."""
UNIT_SHARE = 3
"""One part in so many is what downloads read into; the rest are the leases of chunks."""
REREADS = 8
"""Slices read at once for readers that got no unit: 8 MiB, beside the budget."""
WHOLE_REREADS = 2
"""Whole chunks read at once for readers that are slow: each takes a thread and a good part of the units."""
SPILL_THREADS = 2
"""Apart from the codecs', which a slow disk must not hold up; two keep it busy."""
LARGE_CONNECTIONS = 256
"""To one data node. A slow reader keeps one busy, so there are many more than the fast ones need."""
GATHERING = 16 * 1024 * 1024
"""Small bodies that are still on their way in; a task takes those that find no room here."""
S3 = "s3"
"""The word for S3's port, where connections are dealt to workers."""
S3_HEADS = HeadLimits(ignores_expectations=True)
PREFETCHES = 64
"""Chunks asked for ahead of their turn, over all readers."""


@asynccontextmanager
async def open_api_role(config: ApiConfig) -> AsyncIterator[Role]:
    """The api node, running, behind a server that does not serve yet. Raises Busy if another process has its file."""
    config.metadata.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The turns begin first and end last: every commit goes on in one.
    async with open_turns() as turns, open_kv(f"sqlite:{config.metadata}", turns=turns) as kv:
        share = share_of(config)
        chunks = build_chunks(share, turns, InFlight(), DamageList())
        woken: list[Callable[[], None]] = []
        store = build_store(share, kv, chunks, Totals(kv), lambda: woken[0]())
        upkeep = Upkeep(store)
        woken.append(upkeep.heal.wake)
        keyring = Keyring(config.secrets)
        caller = TlsCaller(config.tls)
        connector = Connector(keyring, turns, caller, config.workers)
        cluster = await open_cluster(kv, secrets.token_hex(16), now_ms(store))
        membership = Membership(
            kv,
            store.chunks.nodes,
            store.chunks.damage,
            cluster=cluster.id,
            connect=connector,
            repair_after_seconds=config.repair_after,
        )
        upkeep.follow(membership)
        await ensure_default_bucket(store)
        set_up_audit(config.audit_file, config.log.format)
        gate = Gate(gate_settings(config))
        uses = KeyUses(kv, store.now)
        gate.note_use = uses.note
        workers: list[Workers] = []
        past = RequestCounts()
        s3_entry = build_s3(config, store, keyring, KeyStore(kv, keyring, store.now), gate)
        bodies = MemoryBudget(GATHERING)
        s3 = build_http(share_of(config), turns, s3_entry, bodies, S3_HEADS) if s3_entry is not None else None
        in_force = [config]

        def authority() -> AuthorityFiles | None:
            files, ca_key = in_force[0].tls, in_force[0].ca_key
            return AuthorityFiles(files.ca, ca_key) if files is not None and files.ca and ca_key else None

        server, metrics = _build_server(
            config, store, membership, upkeep, keyring, workers, past, s3_entry, bodies, gate, authority, caller.expiry
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(membership.run)
            await nursery.start(upkeep.run)
            nursery.start_soon(reseal_keys, kv, keyring.secrets, os.urandom)
            nursery.start_soon(uses.run)
            if config.workers > 1:
                assert isinstance(kv, SqliteKV)
                reach = Reach(kv, chunks, turns, upkeep.heal.wake, server.serve_stream)
                workers.append(Workers(config, reach, past))
                await nursery.start(workers[0].run)

            def reload(config: Config) -> None:
                assert isinstance(config, ApiConfig)
                caller.load(config.tls)
                in_force[0] = config
                keyring.change(config.secrets)
                connector.renew()
                nursery.start_soon(reseal_keys, kv, keyring.secrets, os.urandom)
                take_gate(gate, config)
                resize(store, server, share_of(config))
                if s3 is not None:
                    s3.limit_connections(share_of(config).connections)
                for one in workers:
                    one.reload(config)

            role = replace(_role(store, membership, upkeep, server, metrics, reload), s3=s3)
            if workers:
                first = workers[0]
                role = replace(
                    role,
                    wait_ready=first.wait_ready,
                    listen=partial(DealingListener, deal=first.deal),
                    listen_s3=partial(DealingListener, deal=partial(first.deal, port=S3)),
                    stop_others=first.stop,
                )
            yield role
            nursery.cancel_scope.cancel()


def _role(
    store: Store,
    membership: Membership,
    upkeep: Upkeep,
    server: Server,
    metrics: Tell,
    reload: Callable[[Config], None],
) -> Role:
    rate = Rate(lambda: server.statistics().requests)

    def describe() -> str:
        totals = store.totals.now()
        members = membership.members()
        online = sum(member.state is NodeState.ONLINE for member in members)
        objects = f"{totals.objects} objects" if totals.exact else f"{totals.objects} objects counted so far"
        backlog = upkeep.heal.statistics().backlog
        return (
            f"{objects}, {rate.sample():.0f} requests/s, {online} of {len(members)} data nodes online, "
            f"{backlog} chunks to repair"
        )

    return Role(server, trio.lowlevel.checkpoint, describe, metrics, reload)


def share_of(config: ApiConfig) -> ApiConfig:
    """The share of one process in the node's limits: of the connections and of all memory and disk."""
    count = config.workers
    return replace(
        config,
        memory=config.memory // count,
        spill=config.spill // count,
        cache=config.cache // count,
        connections=-(-config.connections // count),
    )


def build_chunks(config: ApiConfig, turns: Turns, in_flight: InFlight, damage: DamageList) -> Chunks:
    """The chunk pipeline of one process, with these limits."""
    leases, stages, units = _shares(config.memory)
    return Chunks(
        nodes=Nodes(round_robin=config.placement == "round-robin"),
        budget=MemoryBudget(leases),
        stages=MemoryBudget(stages),
        units=MemoryBudget(units),
        blocks=MemoryBudget(REREADS * REREAD_SIZE),
        spills=Spills(str(config.spill_directory), config.spill, WorkerThreads(SPILL_THREADS)),
        rereads=trio.Semaphore(WHOLE_REREADS),
        damage=damage,
        in_flight=in_flight,
        recent=RecentChunks(config.cache),
        turns=turns,
        stragglers=Delay(turns, STRAGGLER_SECONDS),
        hedges=Delay(turns, HEDGE_SECONDS),
        prefetches=trio.Semaphore(PREFETCHES),
        threads=WorkerThreads(CODEC_THREADS),
        now=time.time,
        random_bits=random.Random().getrandbits,  # seeded by the operating system
    )


def build_store(config: ApiConfig, kv: KV, chunks: Chunks, totals: Totals, degraded: Callable[[], None]) -> Store:
    """The objects that the verbs of one process work with."""
    return Store(
        kv,
        chunks,
        totals,
        time.time,
        chunks.random_bits,
        defaults=Defaults(config.scheme, config.chunk_size, config.compression == "lz4"),
        limits=Limits(config.object_max),
        garbage_grace_seconds=config.garbage_grace,
        upload_ttl_seconds=config.upload_ttl,
        multipart_ttl_seconds=config.multipart_ttl,
        degraded=degraded,
    )


def _shares(memory: int) -> tuple[int, int, int]:
    """Return the shares of the memory that leases, stages and units may take."""
    stages, units = memory // STAGE_SHARE, memory // UNIT_SHARE
    return memory - stages - units, stages, units


def resize(store: Store, server: Server, config: ApiConfig) -> None:
    """Have one process keep to these limits from now on."""
    chunks = store.chunks
    for budget, total in zip((chunks.budget, chunks.stages, chunks.units), _shares(config.memory), strict=True):
        budget.resize(total)
    server.limit_connections(config.connections)
    chunks.spills.resize(config.spill)
    chunks.recent.resize(config.cache)
    store.limits.object_size_max = config.object_max


def gate_settings(config: ApiConfig) -> GateSettings:
    return GateSettings(config.requests_per_key, config.requests_per_address, config.audit_objects)


def take_gate(gate: Gate, config: ApiConfig) -> None:
    """Have one process go by these limits, and open its audit file anew: it may have been moved away."""
    gate.change(gate_settings(config))
    try:
        set_up_audit(config.audit_file, config.log.format)
    except ConfigError as error:
        log.error("event=reload_refused message=%r", error.mistakes[0])


def build_http(
    config: ApiConfig,
    turns: Turns,
    entry: Entry,
    bodies: MemoryBudget | None = None,
    heads: HeadLimits = HeadLimits(),  # noqa: B008  # a value
) -> Server:
    """A server of one process, with these limits. It does not serve yet. Several share their ``bodies``."""
    in_turns = InTurns(turns, entry, bodies or MemoryBudget(GATHERING))
    return Server(entry.answer, ServerSettings(connections_max=config.connections, limits=heads), in_turns=in_turns)


def build_s3(config: ApiConfig, store: Store, keyring: Keyring, keys: KeyStore, gate: Gate) -> Entry | None:
    """The entry of S3's port, if the node has one."""
    if config.s3_listen is None:
        return None
    settings = S3Settings(config.s3_domain, config.s3_region)
    hosts = host_names((*config.hosts, *filter(None, (config.s3_domain,))), config.s3_listen)
    callers = S3Callers(access_policy(store.kv, keyring, config.anonymous, hosts, tells_missing=True), settings, keys)
    return Entry([s3_face(store, callers, settings)], S3Router(settings.domain), gate)


class Connector:
    """Makes the api node's end of each data node, and has them all show the secret that signs now.

    The processes of one api node share the links: with as many for each, batches would be smaller, and a batch costs a
    data node as much as twenty records in it.
    """

    def __init__(self, keyring: Keyring, turns: Turns, caller: TlsCaller, workers: int) -> None:
        self._links = max(1, LINKS // workers)
        self._keyring = keyring
        self._turns = turns
        self._caller = caller
        self._made: weakref.WeakSet[Remote] = weakref.WeakSet()

    def __call__(self, name: NodeName, address: str) -> Remote:
        token = self._keyring.token(data_audience(name))
        settings = RemoteSettings(connections_max=LARGE_CONNECTIONS, links=self._links)
        # With TLS the certificate must be that of the node, by its name: an address may be taken by another host.
        connect = partial(self._caller.connect, name=name)
        remote = Remote(name, address, token, self._turns, settings, connect=connect)
        self._made.add(remote)
        return remote

    def renew(self) -> None:
        for remote in self._made:
            remote.set_token(self._keyring.token(data_audience(remote.name)))


def _build_server(
    config: ApiConfig,
    store: Store,
    membership: Membership,
    upkeep: Upkeep,
    keyring: Keyring,
    workers: Sequence[Workers],
    past: RequestCounts,
    s3_entry: Entry | None,
    bodies: MemoryBudget,
    gate: Gate,
    authority: Callable[[], AuthorityFiles | None],
    certificates: Mapping[str, float],
) -> tuple[Server, Tell]:
    """The server, and what its /metrics tells."""
    started = trio.current_time()

    def status() -> dict[str, object]:
        disk = shutil.disk_usage(config.metadata.parent)
        ours = {
            "name": config.name,
            "role": "api",
            "state": "online",
            "state_since_seconds": round(trio.current_time() - started, 1),
            "zone": "",
            "address": str(config.listen),
            "version": __version__,
            "used": disk.used,
            "capacity": disk.total,
            "last_seen_seconds": 0.0,
            "pieces": 0,
        }
        described = describe_status(find_status(store, membership, upkeep), ours, certificates)
        if workers:
            described["workers"] = [worker._asdict() for worker in workers[0].list_workers()]
        return described

    def metrics() -> Iterator[Metric | Durations]:
        statistics = server.statistics()
        counts = RequestCounts()
        for one in (entry, s3_entry):
            if one is not None:
                counts.add(one.counts.describe())
        if workers:
            counts.add(past.describe())
            workers[0].add_requests(counts)
            yield from counts.metrics()
            sums = workers[0].sum_server()
            statistics = replace(
                statistics, **{name: getattr(statistics, name) + count for name, count in sums.items()}
            )
            help_text = "Processes of this node that serve clients beside the first one."
            yield number(len(workers[0].list_workers()), "flare_api_workers", help_text)
            yield number(
                workers[0].restarts, "flare_api_worker_restarts_total", "Workers that ended and were started again."
            )
        else:
            yield from counts.metrics()
        now = find_status(store, membership, upkeep)
        yield from api_metrics(store, now, upkeep.statistics(), statistics, config.metadata.parent)

    def describe_api() -> dict[str, object]:
        return {"cluster": membership.cluster, "listen": str(config.listen), "tls": authority() is not None}

    admin = AdminCalls(
        StatusCalls(
            status=status,
            obstacle=lambda: find_write_obstacle(store, membership),
            without=lambda node: reason_node_must_stay(store, membership, upkeep, node),
            metrics=metrics,
        ),
        NodeCalls(membership, failure=lambda node: find_failure_cost(store, node), removal=upkeep.removal),
        Joining(store, keyring, describe=describe_api),
        CertificateCalls(store, keyring, authority),
        OrphanCalls(membership, upkeep.reconcile),
        MetadataCalls(store, membership),
        KeyCalls(store, keyring),
    )
    hosts = host_names(config.hosts, config.listen)
    keys = KeyStore(store.kv, keyring, store.now)
    policy = access_policy(store.kv, keyring, config.anonymous, hosts)
    callers = Callers(policy, keys)
    entry = Entry([native_face(store, callers), admin_face(admin, callers)], gate=gate)
    server = build_http(share_of(config), store.chunks.turns, entry, bodies)
    return server, metrics
