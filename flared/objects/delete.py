"""Delete: the manifest goes at once; what only it referenced is garbage, released after a grace period."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.catalog.objects import delete_version
from flared.catalog.once import do_once
from flared.meta import keys
from flared.objects.conditions import UNCONDITIONAL, Conditions, check_write
from flared.objects.store import Store, due_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.catalog.manifest import Manifest
    from flared.catalog.once import Once
    from flared.meta.kv import Transaction
    from flared.names import ObjectName


async def delete_object(
    store: Store, name: ObjectName, when: Conditions = UNCONDITIONAL, *, once: Once | None = None
) -> bool:
    """Delete the newest version; False if there was none. Durable when it returns, also on a full disk.

    Raises NoSuchBucket, and PreconditionFailed if ``when`` does not hold at that moment. ``once`` of a signed delete is
    recorded with it; Replayed if it was before.
    """
    return await store.kv.transact(_deleting(store, name, when, once))


def begin_delete(
    store: Store,
    name: ObjectName,
    when: Conditions,
    done: Callable[[bool | None, Exception | None], None],
    *,
    once: Once | None = None,
) -> None:
    """The same in turns: ``done`` is called once, with what ``delete_object`` returns or raises."""
    store.kv.transact_nowait(_deleting(store, name, when, once), done, reads=(keys.object_(*name),))


def _deleting(
    store: Store, name: ObjectName, when: Conditions, once: Once | None = None
) -> Callable[[Transaction], bool]:
    due = due_ms(store)

    def check(current: Manifest | None) -> None:
        check_write(when, current.etag if current else None)

    def decide(tx: Transaction) -> bool:
        store.chunks.nodes.refuse_while_halted()
        if once is not None:
            do_once(tx, once)
        return delete_version(tx, name, check, due) is not None

    return decide
