"""The record of the cluster: its id, which every volume carries too, and the format of all other records.

cluster = "1" {"i": id, "f": format, "t": created ms}
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flared.catalog.records import UNDECODABLE, corrupt, parse, text_of
from flared.errors import ConfigError
from flared.meta import keys

if TYPE_CHECKING:
    from flared.meta.kv import KV, Snapshot, Transaction

FORMAT = 4
"""Of keys and records together; raised by a change that an older Flare would misread.

2: ids of chunks begin with their time (``names.ChunkId``). Nothing is rewritten: ids of format 1 stay valid.
Chunks may be lz4-blocks (``chunks.codec``), which an older Flare would take for damage.
3: small objects are packed rows (``packed``). Nothing is rewritten: an older row becomes one when its key is put again.
4: objects have details (``details``), which an older Flare would lose when it rewrites a row; access keys
(``access_keys``); uploads in parts (``uploads``) and their parents (``parents``). Nothing is rewritten.
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    id: str
    format: int
    created_ms: int


async def open_cluster(kv: KV, new_id: str, now_ms: int) -> Cluster:
    """The cluster of this metadata; a new one with ``new_id`` if the metadata is empty.

    Metadata of an older format is marked with ours, before anything of ours is written: from then on an older Flare
    refuses it. Raises ConfigError, and changes nothing, if a newer Flare wrote it.
    """

    def decide(tx: Transaction) -> Cluster:
        cluster = read_cluster(tx)
        if cluster is None:
            cluster = Cluster(new_id, FORMAT, now_ms)
            _write(tx, cluster)
        elif cluster.format < FORMAT:
            cluster = replace(cluster, format=FORMAT)
            _write(tx, cluster)
        return cluster

    cluster = await kv.transact(decide)
    if cluster.format > FORMAT:
        raise ConfigError(
            [f"the metadata was written by a newer Flare (format {cluster.format}, this one knows {FORMAT})"]
        )
    return cluster


def _write(tx: Transaction, cluster: Cluster) -> None:
    fields = {"i": cluster.id, "f": cluster.format, "t": cluster.created_ms}
    tx.put(keys.CLUSTER, b"1" + json.dumps(fields, separators=(",", ":")).encode())


def read_cluster(snapshot: Snapshot) -> Cluster | None:
    value = snapshot.get(keys.CLUSTER)
    if value is None:
        return None
    try:
        fields = parse(text_of(value), 1)[0]
        return Cluster(fields["i"], fields["f"], fields["t"])
    except UNDECODABLE as error:
        raise corrupt("the cluster", error) from error
