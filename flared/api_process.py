"""One process of an api node, the first one or a worker: what it is made of, and its share of the node's limits."""

from __future__ import annotations

import logging
import os
import random
import time
import weakref
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from flared.access.keys import Keyring, data_audience
from flared.api.audit import set_up_audit
from flared.api.callers import access_policy
from flared.api.entry import Entry
from flared.api.gate import Gate, GateSettings
from flared.api.s3.callers import S3Callers
from flared.api.s3.face import s3_face
from flared.api.s3.routes import S3Router
from flared.api.s3.settings import S3Settings
from flared.background import WorkerThreads
from flared.catalog.key_store import KeyStore
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
from flared.config.settings import ApiConfig
from flared.data.transport.links import LINKS
from flared.data.transport.remote import Remote, RemoteSettings
from flared.errors import ConfigError
from flared.http.address import host_names
from flared.http.parsing import HeadLimits
from flared.http.server import InTurns, Server, ServerSettings
from flared.http.tls_context import TlsCaller
from flared.http.turns import Turns
from flared.objects.store import Defaults, Limits, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
