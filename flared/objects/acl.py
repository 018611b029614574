"""ACLs of objects: what an object allows to everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.bucket_access import PRIVATE, Acl
from flared.catalog.details import EMPTY, Details
from flared.catalog.objects import change_details
from flared.objects.get import find_object

if TYPE_CHECKING:
    from flared.catalog.manifest import Manifest
    from flared.meta.kv import Transaction
    from flared.names import ObjectName
    from flared.objects.store import Store


async def set_acl(store: Store, name: ObjectName, acl: Acl, *, version: int | None = None) -> Manifest:
    """Give the newest version, or that of a number, this ACL. Its number, its time and its ETag stay.

    Raises what ``catalog.objects.find_object`` raises.
    """

    def change(manifest: Manifest) -> Details:
        return (manifest.details or EMPTY)._replace(acl="" if acl is PRIVATE else acl)

    def decide(tx: Transaction) -> Manifest | None:
        store.chunks.nodes.refuse_while_halted()
        return change_details(tx, name, version, change)

    while (changed := await store.kv.transact(decide)) is None:
        await find_object(store, name, version=version)  # which says why not, unless it has come meanwhile
    return changed
