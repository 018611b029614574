"""Metrics of an api node beside its requests, which ``api.counts`` counts: from memory, but for the disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from flared.data.transport.remote import Remote
from flared.http.metrics import connection_metrics
from flared.meta.sqlite import SqliteKV
from flared.metrics import OTHER_BUCKETS, Metric, Sample, about, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from flared.background import WorkerStatistics
    from flared.chunks.chunk import Chunks
    from flared.data.transport.links import LinkStatistics
    from flared.http.pool import PoolStatistics
    from flared.http.server import ServerStatistics
    from flared.meta.kv import KV
    from flared.objects.store import Store
    from flared.upkeep.membership.member import Member
    from flared.upkeep.status import ClusterStatus


def api_metrics(
    store: Store, status: ClusterStatus, workers: Sequence[WorkerStatistics], server: ServerStatistics, directory: Path
) -> Iterator[Metric]:
    """Everything; ``directory`` is that of the metadata."""
    yield about("api")
    yield from connection_metrics(server)
    yield from _cluster_metrics(status)
    yield from _bucket_metrics(store)
    yield from _node_metrics(status.members)
    yield from _chunk_metrics(store.chunks)
    yield from _worker_metrics(workers)
    yield from _metadata_metrics(store.kv)
    yield from _disk_metrics(directory)
    yield from _link_metrics(store)


def _cluster_metrics(status: ClusterStatus) -> Iterator[Metric]:
    yield number(status.health == "ok", "flare_healthy", "1 if the cluster's health is ok.")
    writable = status.health != "down"
    yield number(writable, "flare_writable", "1 if a put of the default scheme would be taken.")
    older = bool(status.metadata_older)
    yield number(older, "flare_metadata_older", "1 if data nodes have seen newer metadata than this: no writes.")
    yield number(len(status.problems), "flare_problems", "Things that keep the health from ok.")
    away = sum(member.is_away for member in status.members)
    yield number(away, "flare_nodes_away", "Data nodes that are suspect or offline.")
    yield number(status.totals.objects, "flare_objects", "Objects in all buckets.")
    yield number(status.totals.bytes, "flare_object_bytes", "Bytes of all objects, as users see them.")
    yield number(status.totals.versions, "flare_old_versions", "Versions that are not the newest, and delete markers.")
    yield number(status.totals.version_bytes, "flare_old_version_bytes", "Bytes of these versions.")
    yield number(status.totals.chunks, "flare_chunks", "Chunks.")
    yield number(status.heal.backlog, "flare_chunks_degraded", "Chunks known to lack pieces.")
    yield number(status.heal.lost, "flare_chunks_lost", "Chunks without any good piece that can be reached.")
    yield number(status.heal.repaired, "flare_pieces_repaired_total", "Pieces written again.")
    yield number(status.sweep.pieces, "flare_pieces_swept_total", "Pieces deleted as garbage.")
    yield number(status.sweep.due, "flare_garbage_stuck", "Garbage that was due at the last look and could not go.")
    yield number(status.uploads.open, "flare_uploads_open", "Uploads in parts that have not ended, at the last look.")
    yield number(status.uploads.aborted, "flare_uploads_aborted_total", "Uploads in parts that rested for too long.")
    yield number(status.reconcile.suspects, "flare_orphans_suspected", "Pieces seen once without a record.")
    yield number(status.unavailable, "flare_pieces_unavailable", "Pieces on data nodes that are away.")
    yield number(status.heal.unplaced, "flare_chunks_unplaced", "Chunks with no data node for a lacking piece.")
    damaged = [Sample(damage.found, (node,)) for node, damage in sorted(status.damage.items())]
    help_text = "Pieces of each data node that failed their checksum; kept across restarts."
    yield Metric("flare_node_checksum_errors_total", help_text, damaged, ("node",))
    mended = [Sample(damage.mended, (node,)) for node, damage in sorted(status.damage.items())]
    yield Metric("flare_node_pieces_mended_total", "Of these, written again.", mended, ("node",))
    held = [Sample(record.held, (node,)) for node, record in sorted(status.held.items())]
    yield Metric("flare_orphans_held", "Pieces without a record that are held back: too many at once.", held, ("node",))


def _chunk_metrics(chunks: Chunks) -> Iterator[Metric]:
    budget = chunks.budget.statistics()
    yield number(budget.leased, "flare_memory_leased_bytes", "Memory that bodies under way hold.")
    yield number(budget.waiting, "flare_memory_waiting", "Transfers that wait for memory.")
    spills = chunks.spills.statistics()
    yield number(spills.bytes, "flare_spilled_bytes", "Bytes of slow clients that wait in files.")
    yield number(spills.refused, "flare_spills_refused_total", "Spills of slow clients that had no room.")
    recent = chunks.recent.statistics()
    yield number(recent.bytes, "flare_cache_bytes", "Memory that small chunks read lately take.")
    yield number(recent.hits, "flare_cache_hits_total", "Small chunks answered from memory.")
    yield number(recent.misses, "flare_cache_misses_total", "Small chunks that a data node was asked for.")
    damage = chunks.damage.statistics()
    yield number(damage.found, "flare_pieces_damaged_total", "Pieces found missing or wrong, by readers and by scrubs.")


def _worker_metrics(workers: Sequence[WorkerStatistics]) -> Iterator[Metric]:
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
    named, others = store.totals.buckets()
    all_of_them = [*named, others._replace(bucket=OTHER_BUCKETS)] if others.objects else named
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
    health = kv.health()
    yield number(bool(health.failure), "flare_meta_failed", "1 if the metadata's disk failed a write or a sync.")
    yield number(health.damaged_rows, "flare_meta_damaged_rows", "Rows of the metadata known to be damaged.")
    yield number(len(health.problems), "flare_meta_problems", "Kinds of damage that the check of the file found.")
    yield number(health.check_passes, "flare_meta_checks_total", "Passes of the check over the metadata file.")
    if health.check_age_seconds is not None:
        age = "Since the last pass of the check ended."
        yield number(health.check_age_seconds, "flare_meta_check_age_seconds", age)


def _link_metrics(store: Store) -> Iterator[Metric]:
    """Records by batches is how many small pieces travelled together."""
    nodes = store.chunks.nodes
    remotes = [remote for name in nodes.names() if isinstance(remote := nodes.store(name), Remote)]
    links: list[tuple[str, str, LinkStatistics, PoolStatistics]] = []
    for remote in remotes:
        statistics = remote.statistics()
        links.append((remote.name, "put", statistics.puts, statistics.put_links))
        links.append((remote.name, "get", statistics.gets, statistics.get_links))

    def metric(name: str, text: str, values: Iterator[int]) -> Metric:
        samples = [Sample(value, (node, kind)) for (node, kind, _, _), value in zip(links, values, strict=True)]
        return Metric(name, text, samples, ("node", "direction"))

    each = [link for _, _, link, _ in links]
    yield metric(
        "flare_link_batches_total", "Batches of small pieces sent to each node.", (link.batches for link in each)
    )
    yield metric("flare_link_records_total", "Small pieces in these batches.", (link.records for link in each))
    yield metric(
        "flare_link_failed_batches_total", "Batches that failed as a whole.", (link.failed_batches for link in each)
    )
    yield metric(
        "flare_link_connects_total", "Connections made for these batches.", (pool.connects for _, _, _, pool in links)
    )
    yield metric(
        "flare_link_repeats_total",
        "Batches sent again because their connection had been closed while it was idle.",
        (pool.repeats for _, _, _, pool in links),
    )
    yield metric("flare_link_waiting", "Small pieces that wait for a link now.", (link.waiting for link in each))
