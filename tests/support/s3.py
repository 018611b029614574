"""The S3 entry of an api node over a cluster in memory, as ``api_role`` makes it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flared.access.authorize import GRANTS, Policy
from flared.api.entry import Entry
from flared.api.s3.callers import S3Callers
from flared.api.s3.face import s3_face
from flared.api.s3.routes import S3Router
from flared.api.s3.settings import S3Settings
from flared.catalog.buckets import find_access

if TYPE_CHECKING:
    from flared.access.keys import Keyring
    from tests.support.cluster import Cluster


def make_s3_entry(cluster: Cluster, keyring: Keyring, anonymous: str, settings: S3Settings | None = None) -> Entry:
    chosen = settings or S3Settings()
    callers = S3Callers(
        Policy(keyring, GRANTS[anonymous], partial(find_access, cluster.store.kv), frozenset({"api"})), chosen
    )
    return Entry([s3_face(cluster.store, callers, chosen)], S3Router(chosen.domain))
