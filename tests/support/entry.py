"""The entry of an api node over a cluster in memory, as ``api_role`` makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.api.admin.certificates import AuthorityFiles, CertificateCalls
from flared.api.admin.face import AdminCalls, admin_face
from flared.api.admin.joining import Joining
from flared.api.admin.keys import KeyCalls
from flared.api.admin.metadata import MetadataCalls
from flared.api.admin.nodes import NodeCalls
from flared.api.admin.orphans import OrphanCalls
from flared.api.admin.status import StatusCalls, describe_status
from flared.api.callers import Callers, access_policy
from flared.api.entry import Entry
from flared.api.native.face import native_face
from flared.catalog.key_store import KeyStore
from flared.upkeep.failure import find_failure_cost, reason_node_must_stay
from flared.upkeep.status import find_write_obstacle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flared.access.keys import Keyring
    from flared.api.face import Face
    from flared.api.gate import Gate
    from flared.metrics import Durations, Metric
    from tests.support.cluster import Cluster


HOSTS = frozenset({"api"})
"""The names that the node may be called by."""


def make_entry(
    cluster: Cluster,
    keyring: Keyring,
    anonymous: str = "none",
    *,
    authority: AuthorityFiles | None = None,
    gate: Gate | None = None,
) -> Entry:
    faces = make_faces(cluster, keyring, anonymous, lambda: entry.counts.metrics(), authority=authority)
    entry = Entry(faces, gate=gate)
    return entry


def make_faces(
    cluster: Cluster,
    keyring: Keyring,
    anonymous: str,
    metrics: Callable[[], Iterable[Metric | Durations]] = tuple,
    *,
    authority: AuthorityFiles | None = None,
) -> list[Face]:

    admin = AdminCalls(
        StatusCalls(
            status=lambda: describe_status(cluster.status(), {"name": "api", "role": "api"}),
            obstacle=lambda: find_write_obstacle(cluster.store, cluster.membership),
            without=lambda node: reason_node_must_stay(cluster.store, cluster.membership, cluster.upkeep, node),
            metrics=metrics,
        ),
        NodeCalls(
            cluster.membership,
            failure=lambda node: find_failure_cost(cluster.store, node),
            removal=cluster.upkeep.removal,
        ),
        Joining(cluster.store, keyring, describe=lambda: {"cluster": "c", "listen": "0.0.0.0:8000"}),
        CertificateCalls(cluster.store, keyring, lambda: authority),
        OrphanCalls(cluster.membership, cluster.upkeep.reconcile),
        MetadataCalls(cluster.store, cluster.membership),
        KeyCalls(cluster.store, keyring),
    )
    keys = KeyStore(cluster.store.kv, keyring, cluster.store.now)
    callers = Callers(access_policy(cluster.store.kv, keyring, anonymous, HOSTS), keys)
    return [native_face(cluster.store, callers), admin_face(admin, callers)]
