"""Delete: the manifest goes at once; what only it referenced is garbage, released after a grace period.

Where the bucket has versioning, a delete marker takes the place of the newest version, which stays. A version goes for
good only by its number.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flared.catalog import objects as catalog
from flared.catalog.objects import Deletion
from flared.catalog.once import do_once
from flared.catalog.versions import Changed, find_next
from flared.errors import Busy, ObjectLocked
from flared.meta import keys
from flared.objects.conditions import UNCONDITIONAL, Conditions, check_write
from flared.objects.store import Store, due_ms, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.catalog.manifest import Manifest
    from flared.catalog.once import Once
    from flared.meta.kv import Transaction
    from flared.names import ObjectName

ATTEMPTS_MAX = 20
"""Each one that fails means that another writer changed the versions of the object meanwhile."""


async def delete_object(
    store: Store, name: ObjectName, when: Conditions = UNCONDITIONAL, *, once: Once | None = None
) -> Deletion:
    """Delete the newest version, if there is one. Durable when it returns, also on a full disk.

    Raises NoSuchBucket, and PreconditionFailed if ``when`` does not hold at that moment. ``once`` of a signed delete is
    recorded with it; Replayed if it was before.
    """
    return await store.kv.transact(_deleting(store, name, when, once))


def begin_delete(
    store: Store,
    name: ObjectName,
    when: Conditions,
    done: Callable[[Deletion | None, Exception | None], None],
    *,
    once: Once | None = None,
) -> None:
    """The same in turns: ``done`` is called once, with what ``delete_object`` returns or raises."""
    store.kv.transact_nowait(_deleting(store, name, when, once), done, reads=(keys.object_(*name),))


async def delete_version(
    store: Store,
    name: ObjectName,
    version: int,
    when: Conditions = UNCONDITIONAL,
    *,
    bypass_governance: bool = False,
    once: Once | None = None,
) -> Deletion:
    """Delete the version of this number (``catalog.versions.NULL``: the one without an id) for good, if there is one.

    With a delete marker that is the newest version, the one before it comes back. Raises NoSuchBucket, ObjectLocked,
    and PreconditionFailed if ``when`` does not hold for that version.
    """
    moment = now_ms(store)

    def permit(manifest: Manifest) -> None:
        check_write(when, None if manifest.deletes else manifest.etag)
        check_unlocked(manifest, moment, bypass_governance=bypass_governance)

    for _ in range(ATTEMPTS_MAX):
        found = await find_next(store.kv, name)
        delete = partial(
            catalog.delete_version, name=name, number=version, found=found, permit=permit, due_ms=due_ms(store)
        )
        try:
            return await store.kv.transact(partial(_decide, store, once, delete))
        except Changed:
            continue
    raise Busy(f"the versions of {name.key!r} change faster than one can be deleted")


def check_unlocked(manifest: Manifest, now_ms: int, *, bypass_governance: bool) -> None:
    """Raise ObjectLocked while the version must stay."""
    details = manifest.details
    if details is None:
        return
    if details.legal_hold:
        raise ObjectLocked(f"version {manifest.version} of {manifest.name.key!r} is under legal hold")
    if details.retained_until_ms > now_ms and (details.compliance or not bypass_governance):
        mode = "compliance" if details.compliance else "governance"
        raise ObjectLocked(f"version {manifest.version} of {manifest.name.key!r} is retained ({mode})")


def _deleting(
    store: Store, name: ObjectName, when: Conditions, once: Once | None = None
) -> Callable[[Transaction], Deletion]:
    moment, due = now_ms(store), due_ms(store)

    def check(current: Manifest | None) -> None:
        check_write(when, current.etag if current else None)

    delete = partial(catalog.delete_object, name=name, conditions=check, now_ms=moment, due_ms=due)
    return partial(_decide, store, once, delete)


def _decide(store: Store, once: Once | None, delete: Callable[[Transaction], Deletion], tx: Transaction) -> Deletion:
    store.chunks.nodes.refuse_while_halted()
    if once is not None:
        do_once(tx, once)
    return delete(tx)
