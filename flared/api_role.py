"""The api role: names, metadata, placement, streaming, repair, wired together behind the native face."""

from __future__ import annotations

import os
import secrets
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from flared.access.keys import Keyring
from flared.api.admin.certificates import AuthorityFiles, CertificateCalls
from flared.api.admin.face import AdminCalls, admin_face
from flared.api.admin.joining import Joining
from flared.api.admin.keys import KeyCalls
from flared.api.admin.metadata import MetadataCalls
from flared.api.admin.nodes import NodeCalls
from flared.api.admin.orphans import OrphanCalls
from flared.api.admin.status import StatusCalls
from flared.api.audit import set_up_audit
from flared.api.callers import Callers, access_policy
from flared.api.counts import RequestCounts
from flared.api.entry import Entry
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
from flared.api_reports import Reports
from flared.catalog.cluster import open_cluster
from flared.catalog.key_store import KeyStore
from flared.catalog.key_uses import KeyUses
from flared.catalog.resealing import reseal_keys
from flared.catalog.totals import Totals
from flared.chunks.budget import MemoryBudget
from flared.chunks.damage import DamageList
from flared.chunks.inflight import InFlight
from flared.cluster.states import NodeState
from flared.config.settings import ApiConfig
from flared.http.address import host_names
from flared.http.server import Server
from flared.http.tls_context import TlsCaller
from flared.http.turns import open_turns
from flared.meta.open import open_kv
from flared.meta.sqlite import SqliteKV
from flared.objects.buckets import ensure_default_bucket
from flared.objects.store import Store, now_ms
from flared.role import Rate, Role
from flared.upkeep.failure import find_failure_cost, reason_node_must_stay
from flared.upkeep.membership.membership import Membership
from flared.upkeep.status import find_write_obstacle
from flared.upkeep.workers import Upkeep
from flared.workers.dealing import DealingListener
from flared.workers.owner import Reach, Workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from flared.config.settings import Config


@asynccontextmanager
async def open_api_role(config: ApiConfig) -> AsyncIterator[Role]:
    """The api node, running, behind a server that does not serve yet. Raises Busy if another process has its file."""
    config.metadata.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The turns begin first and end last: every commit goes on in one.
    async with open_turns() as turns, open_kv(f"sqlite:{config.metadata}", turns=turns) as kv:
        # The pipeline of chunks, the objects above it, and what happens by itself.
        share = share_of(config)
        chunks = build_chunks(share, turns, InFlight(), DamageList())
        woken: list[Callable[[], None]] = []
        store = build_store(share, kv, chunks, Totals(kv), lambda: woken[0]())
        upkeep = Upkeep(store)
        woken.append(upkeep.heal.wake)
        # Who may call, and whom we call: secrets, certificates, access keys, limits.
        keyring = Keyring(config.secrets)
        caller = TlsCaller(config.tls)
        connector = Connector(keyring, turns, caller, config.workers)
        set_up_audit(config.audit_file, config.log.format)
        gate = Gate(gate_settings(config))
        uses = KeyUses(kv, store.now)
        gate.note_use = uses.note
        # The nodes.
        membership = await _open_membership(config, store, connector)
        upkeep.follow(membership)
        await ensure_default_bucket(store)
        # The servers of both ports, and what they report about the node.
        in_force = [config]
        past = RequestCounts()
        reports = Reports(config, store, membership, upkeep, caller.expiry, past)
        bodies = MemoryBudget(GATHERING)
        entry = _build_entry(config, store, membership, upkeep, keyring, gate, lambda: _authority(in_force[0]), reports)
        server = reports.server = build_http(share, turns, entry, bodies)
        s3_entry = build_s3(config, store, keyring, KeyStore(kv, keyring, store.now), gate)
        s3 = build_http(share, turns, s3_entry, bodies, S3_HEADS) if s3_entry is not None else None
        reports.entries += [entry] if s3_entry is None else [entry, s3_entry]
        async with trio.open_nursery() as nursery:
            await nursery.start(membership.run)
            await nursery.start(upkeep.run)
            nursery.start_soon(reseal_keys, kv, keyring.secrets, os.urandom)
            nursery.start_soon(uses.run)
            if config.workers > 1:
                assert isinstance(kv, SqliteKV)
                reach = Reach(kv, chunks, turns, upkeep.heal.wake, server.serve_stream)
                reports.workers = Workers(config, reach, past)
                await nursery.start(reports.workers.run)

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
                if reports.workers is not None:
                    reports.workers.reload(config)

            role = replace(_role(store, membership, upkeep, server, reports, reload), s3=s3)
            yield role if reports.workers is None else _with_workers(role, reports.workers)
            nursery.cancel_scope.cancel()


async def _open_membership(config: ApiConfig, store: Store, connector: Connector) -> Membership:
    cluster = await open_cluster(store.kv, secrets.token_hex(16), now_ms(store))
    return Membership(
        store.kv,
        store.chunks.nodes,
        store.chunks.damage,
        cluster=cluster.id,
        connect=connector,
        repair_after_seconds=config.repair_after,
    )


def _with_workers(role: Role, workers: Workers) -> Role:
    """The role whose connections go to several processes in turns."""
    return replace(
        role,
        wait_ready=workers.wait_ready,
        listen=partial(DealingListener, deal=workers.deal),
        listen_s3=partial(DealingListener, deal=partial(workers.deal, port=S3)),
        stop_others=workers.stop,
    )


def _authority(config: ApiConfig) -> AuthorityFiles | None:
    """The files of the cluster's authority for certificates, if this node has them."""
    files, ca_key = config.tls, config.ca_key
    return AuthorityFiles(files.ca, ca_key) if files is not None and files.ca and ca_key else None


def _role(
    store: Store,
    membership: Membership,
    upkeep: Upkeep,
    server: Server,
    reports: Reports,
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

    return Role(server, trio.lowlevel.checkpoint, describe, reports.metrics, reload)


def _build_entry(
    config: ApiConfig,
    store: Store,
    membership: Membership,
    upkeep: Upkeep,
    keyring: Keyring,
    gate: Gate,
    authority: Callable[[], AuthorityFiles | None],
    reports: Reports,
) -> Entry:
    """The entry of the node's port: native, and what operators and nodes call."""

    def describe_api() -> dict[str, object]:
        return {"cluster": membership.cluster, "listen": str(config.listen), "tls": authority() is not None}

    admin = AdminCalls(
        StatusCalls(
            status=reports.status,
            obstacle=lambda: find_write_obstacle(store, membership),
            without=lambda node: reason_node_must_stay(store, membership, upkeep, node),
            metrics=reports.metrics,
        ),
        NodeCalls(membership, failure=lambda node: find_failure_cost(store, node), removal=upkeep.removal),
        Joining(store, keyring, describe=describe_api),
        CertificateCalls(store, keyring, authority),
        OrphanCalls(membership, upkeep.reconcile),
        MetadataCalls(store, membership),
        KeyCalls(store, keyring),
    )
    hosts = host_names(config.hosts, config.listen)
    callers = Callers(access_policy(store.kv, keyring, config.anonymous, hosts), KeyStore(store.kv, keyring, store.now))
    return Entry([native_face(store, callers), admin_face(admin, callers)], gate=gate)
