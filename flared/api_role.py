"""The api role: names, metadata, placement, streaming, repair, wired together behind the native face."""

from __future__ import annotations

import random
import secrets
import shutil
import time
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from flared import __version__
from flared.access.door import ANONYMOUS, Door
from flared.access.keys import Keyring, data_audience
from flared.api.admin import Admin, describe_status
from flared.api.face import Face
from flared.api.joining import Joining
from flared.api.native import Native
from flared.background import WorkerThreads
from flared.catalog.cluster import open_cluster
from flared.catalog.totals import Totals
from flared.chunks.budget import MemoryBudget
from flared.chunks.chunk import Chunks
from flared.chunks.damage import DamageList
from flared.chunks.inflight import InFlight
from flared.chunks.nodes import Nodes
from flared.chunks.recent import RecentChunks
from flared.cluster.states import NodeState
from flared.config.settings import ApiConfig
from flared.data.pieces import BLOCK_SIZE
from flared.data.remote import Remote, RemoteSettings
from flared.http.metrics import connection_metrics
from flared.http.server import Server, ServerSettings
from flared.meta.open import open_kv
from flared.meta.sqlite import SqliteKV
from flared.metrics import OTHER_BUCKETS, Durations, Metric, Sample, about, number
from flared.objects.buckets import ensure_default_bucket
from flared.objects.store import Defaults, Limits, Store, now_ms
from flared.role import Rate, Role
from flared.upkeep.failure import AWAY, find_failure_cost, obstacle_without
from flared.upkeep.membership import Membership
from flared.upkeep.status import find_status, obstacle
from flared.upkeep.workers import Upkeep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from flared.config.settings import Config
    from flared.data.links import LinkStatistics

    Tell = Callable[[], Iterator[Metric | Durations]]
    from flared.meta.kv import KV
    from flared.names import NodeName
    from flared.upkeep.membership import Member

CODEC_THREADS = 4
"""Digests and codecs run without the interpreter's lock: as many as cores keep them busy, a few more overlap."""
STAGE_SHARE = 6
"""One part in so many of the memory budget is for uploads that wait for their turn."""
UNIT_SHARE = 3
"""One part in so many is what downloads read into; the rest are the leases of chunks."""
BLOCKS = 8
"""Blocks fetched at once for readers that got no unit."""
LARGE_CONNECTIONS = 256
"""To one data node. A slow reader keeps one busy, so there are many more than the fast ones need."""
PREFETCHES = 64
"""Chunks asked for ahead of their turn, over all readers."""


@asynccontextmanager
async def open_api_role(config: ApiConfig) -> AsyncIterator[Role]:
    """The api node, running, behind a server that does not serve yet. Raises Busy if another process has its file."""
    config.metadata.parent.mkdir(parents=True, exist_ok=True)
    async with open_kv(f"sqlite:{config.metadata}") as kv:
        store, upkeep = _build_store(config, kv)
        keyring = Keyring(config.secrets)
        connector = _Connector(keyring)
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
        server, metrics = _build_server(config, store, membership, upkeep, keyring)
        async with trio.open_nursery() as nursery:
            await nursery.start(membership.run)
            await nursery.start(upkeep.run)

            def reload(config: Config) -> None:
                assert isinstance(config, ApiConfig)
                keyring.change(config.secrets)
                connector.renew()
                server.limit_connections(config.connections)
                _limit_memory(store, config.memory)
                store.chunks.recent.resize(config.cache)
                store.limits.object_size_max = config.object_max

            yield _role(store, membership, upkeep, server, metrics, reload)
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
            f"{objects}, {rate.look():.0f} requests/s, {online} of {len(members)} data nodes online, "
            f"{backlog} chunks to repair"
        )

    return Role(server, trio.lowlevel.checkpoint, describe, metrics, reload)


def _build_store(config: ApiConfig, kv: KV) -> tuple[Store, Upkeep]:
    bits = random.Random().getrandbits  # seeded by the operating system
    leases, stages, units = _shares(config.memory)
    chunks = Chunks(
        nodes=Nodes(round_robin=config.placement == "round-robin"),
        budget=MemoryBudget(leases),
        stages=MemoryBudget(stages),
        units=MemoryBudget(units),
        blocks=MemoryBudget(BLOCKS * BLOCK_SIZE),
        damage=DamageList(),
        in_flight=InFlight(),
        recent=RecentChunks(config.cache),
        prefetches=trio.Semaphore(PREFETCHES),
        threads=WorkerThreads(CODEC_THREADS),
        random_bits=bits,
        spill_directory=str(config.metadata.parent),
    )
    woken: list[Callable[[], None]] = []
    store = Store(
        kv,
        chunks,
        Totals(kv),
        time.time,
        bits,
        defaults=Defaults(config.scheme, config.chunk_size, config.compression == "lz4"),
        limits=Limits(config.object_max),
        garbage_grace_seconds=config.garbage_grace,
        upload_ttl_seconds=config.upload_ttl,
        degraded=lambda: woken[0](),
    )
    upkeep = Upkeep(store)
    woken.append(upkeep.heal.wake)
    return store, upkeep


def _shares(memory: int) -> tuple[int, int, int]:
    """What of the memory is for leases, for stages, for units."""
    stages, units = memory // STAGE_SHARE, memory // UNIT_SHARE
    return memory - stages - units, stages, units


def _limit_memory(store: Store, memory: int) -> None:
    chunks = store.chunks
    for budget, total in zip((chunks.budget, chunks.stages, chunks.units), _shares(memory), strict=True):
        budget.resize(total)


class _Connector:
    """Makes the api node's end of each data node, and has them all show the secret that signs now."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._made: weakref.WeakSet[Remote] = weakref.WeakSet()

    def __call__(self, name: NodeName, address: str) -> Remote:
        token = self._keyring.token(data_audience(name))
        remote = Remote(name, address, token, RemoteSettings(connections_max=LARGE_CONNECTIONS))
        self._made.add(remote)
        return remote

    def renew(self) -> None:
        for remote in self._made:
            remote.set_token(self._keyring.token(data_audience(remote.name)))


def _build_server(
    config: ApiConfig, store: Store, membership: Membership, upkeep: Upkeep, keyring: Keyring
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
        return describe_status(find_status(store, membership, upkeep), ours)

    def metrics() -> Iterator[Metric | Durations]:
        yield from face.metrics()
        yield from _metrics(store, membership, upkeep, server)
        yield from _metadata_metrics(store.kv)
        yield from _disk_metrics(config.metadata.parent)
        yield from _link_metrics(store)

    admin = Admin(
        membership,
        keyring=keyring,
        status=status,
        obstacle=lambda: obstacle(store, membership),
        without=lambda node: obstacle_without(store, membership, upkeep, node),
        failure=lambda node: find_failure_cost(store, node),
        removal=upkeep.removal,
        metrics=metrics,
    )
    joining = Joining(store, keyring, describe=lambda: {"cluster": membership.cluster, "listen": str(config.listen)})
    face = Face(Native(store), admin, joining, Door(keyring, ANONYMOUS[config.anonymous]))
    server = Server(face.answer, ServerSettings(connections_max=config.connections))
    return server, metrics


def _metrics(store: Store, membership: Membership, upkeep: Upkeep, server: Server) -> Iterator[Metric]:
    """What an operator graphs of an api node, beside the requests."""
    status = find_status(store, membership, upkeep)
    budget = store.chunks.budget.statistics()
    yield about("api")
    yield number(status.health == "ok", "flare_healthy", "1 if the cluster's health is ok.")
    writable = status.health != "down"
    yield number(writable, "flare_writable", "1 if a put of the default scheme would be taken.")
    yield number(status.totals.objects, "flare_objects", "Objects in all buckets.")
    yield number(status.totals.bytes, "flare_object_bytes", "Bytes of all objects, as users see them.")
    yield number(status.totals.chunks, "flare_chunks", "Chunks.")
    yield from _bucket_metrics(store)
    yield number(status.heal.backlog, "flare_chunks_degraded", "Chunks known to lack pieces.")
    yield number(status.heal.lost, "flare_chunks_lost", "Chunks without any good piece that can be reached.")
    yield number(status.heal.repaired, "flare_pieces_repaired_total", "Pieces written again.")
    yield number(status.sweep.pieces, "flare_pieces_swept_total", "Pieces deleted as garbage.")
    yield number(status.sweep.due, "flare_garbage_stuck", "Garbage that was due at the last look and could not go.")
    yield number(status.reconcile.suspects, "flare_orphans_suspected", "Pieces seen once without a record.")
    away = sum(member.state in AWAY for member in status.members)
    yield number(away, "flare_nodes_away", "Data nodes that are suspect or offline.")
    yield number(len(status.reasons), "flare_problems", "Things that keep the health from ok.")
    yield number(budget.leased, "flare_memory_leased_bytes", "Memory that bodies under way hold.")
    yield number(budget.waiting, "flare_memory_waiting", "Transfers that wait for memory.")
    recent = store.chunks.recent.statistics()
    yield number(recent.bytes, "flare_cache_bytes", "Memory that small chunks read lately take.")
    yield number(recent.hits, "flare_cache_hits_total", "Small chunks answered from memory.")
    yield number(recent.misses, "flare_cache_misses_total", "Small chunks that a data node was asked for.")
    yield from connection_metrics(server.statistics())
    damage = store.chunks.damage.statistics()
    yield number(damage.found, "flare_pieces_damaged_total", "Pieces found missing or wrong, by readers and by scrubs.")
    yield from _node_metrics(status.members)
    workers = upkeep.statistics()
    steps = [Sample(worker.steps, (worker.name,)) for worker in workers]
    yield Metric("flare_worker_steps_total", "Steps of each background worker.", steps, ("worker",))
    failures = [Sample(worker.failures, (worker.name,)) for worker in workers]
    yield Metric("flare_worker_failures_total", "Steps that failed and were tried again.", failures, ("worker",))


def _node_metrics(members: Sequence[Member]) -> Iterator[Metric]:
    states = [Sample(1, (member.record.name, member.state.value)) for member in members]
    yield Metric("flare_node_state", "1 for the state each data node is in.", states, ("node", "state"))
    heard = [(member.record.name, member.heartbeat) for member in members if member.heartbeat]
    used = [Sample(heartbeat.used, (node,)) for node, heartbeat in heard]
    yield Metric("flare_node_used_bytes", "Used space of each data node, as it last said.", used, ("node",))
    capacity = [Sample(heartbeat.capacity, (node,)) for node, heartbeat in heard]
    yield Metric("flare_node_capacity_bytes", "Space of each data node, as it last said.", capacity, ("node",))
    pieces = [Sample(heartbeat.pieces, (node,)) for node, heartbeat in heard]
    yield Metric("flare_node_pieces", "Pieces on each data node, as it last said.", pieces, ("node",))
    ahead = [(node, heartbeat.clock_ahead_seconds) for node, heartbeat in heard]
    clocks = [Sample(seconds, (node,)) for node, seconds in ahead if seconds is not None]
    help_text = "The clock of each data node less the api node's."
    yield Metric("flare_node_clock_ahead_seconds", help_text, clocks, ("node",))


def _bucket_metrics(store: Store) -> Iterator[Metric]:
    told, others = store.totals.buckets()
    all_of_them = [*told, others._replace(bucket=OTHER_BUCKETS)] if others.objects else told
    objects = [Sample(bucket.objects, (bucket.bucket,)) for bucket in all_of_them]
    yield Metric("flare_bucket_objects", "Objects of each bucket that has any.", objects, ("bucket",))
    sizes = [Sample(bucket.bytes, (bucket.bucket,)) for bucket in all_of_them]
    yield Metric("flare_bucket_object_bytes", "Bytes of the objects of each bucket.", sizes, ("bucket",))


def _disk_metrics(directory: Path) -> Iterator[Metric]:
    disk = shutil.disk_usage(directory)
    yield number(disk.total, "flare_meta_disk_capacity_bytes", "Space of the file system that the metadata is on.")
    yield number(disk.free, "flare_meta_disk_free_bytes", "Free space of the file system that the metadata is on.")


def _metadata_metrics(kv: KV) -> Iterator[Metric]:
    """Transactions by syncs is how many a sync carried."""
    if not isinstance(kv, SqliteKV):
        return
    meta = kv.statistics()
    yield number(meta.transactions, "flare_meta_transactions_total", "Transactions committed.")
    yield number(meta.groups, "flare_meta_syncs_total", "Groups of transactions written and synced.")
    yield number(meta.rows, "flare_meta_rows_total", "Rows written.")
    yield number(meta.checkpoints, "flare_meta_checkpoints_total", "Times the log was moved into the file.")
    yield number(meta.log_bytes, "flare_meta_log_bytes", "Length of the write-ahead log.")
    yield number(meta.full, "flare_meta_full", "1 if the metadata's disk has no room.")


def _link_metrics(store: Store) -> Iterator[Metric]:
    """Records by batches is how many small pieces travelled together."""
    nodes = store.chunks.nodes
    remotes = [remote for name in nodes.names() if isinstance(remote := nodes.store(name), Remote)]
    links: list[tuple[str, str, LinkStatistics]] = []
    for remote in remotes:
        statistics = remote.statistics()
        links += [(remote.name, "put", statistics.puts), (remote.name, "get", statistics.gets)]

    def metric(name: str, text: str, values: Iterator[int]) -> Metric:
        samples = [Sample(value, (node, kind)) for (node, kind, _), value in zip(links, values, strict=True)]
        return Metric(name, text, samples, ("node", "direction"))

    each = [link for _, _, link in links]
    yield metric(
        "flare_link_batches_total", "Batches of small pieces sent to each node.", (link.batches for link in each)
    )
    yield metric("flare_link_records_total", "Small pieces in these batches.", (link.records for link in each))
    yield metric(
        "flare_link_failed_batches_total", "Batches that failed as a whole.", (link.failed_batches for link in each)
    )
    yield metric("flare_link_waiting", "Small pieces that wait for a link now.", (link.waiting for link in each))
