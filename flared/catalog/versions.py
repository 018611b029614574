"""Versions: what a bucket with versioning keeps of an object beside its newest version, and its delete markers.

    object/{bucket}/{key}                    the newest version, unless it is a delete marker
    version/{bucket}/{key} NUL               the newest version, if it is a delete marker
    version/{bucket}/{key} NUL {descending}  the other versions, the newest of them first
    null/{bucket}/{key}                      "1" {"v": version}: the one of the others that has no id of its own

The rows are manifests; of small objects they are packed, and move from key to key as they are. A bucket that never had
versioning has only the first one.

**Invariant:** an object with other versions has a newest one. What adds one of the others changes which is the
newest; so a transaction that reads the newest sees whether a scan before it has missed any (``find_next``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flared.catalog.details import Details
from flared.catalog.manifest import Manifest, decode, encode, unreadable
from flared.catalog.records import UNDECODABLE, corrupt, parse, text_of
from flared.catalog.totals import NOTHING, Counted
from flared.errors import RowCorrupt
from flared.meta import keys

if TYPE_CHECKING:
    from flared.meta.kv import KV, Snapshot, Transaction
    from flared.names import ObjectName

NULL = -1
"""Stands for the version without an id of its own where the number of one is asked for."""


class Changed(Exception):  # a signal to who looked before the transaction, never an error
    """The versions are not those that were found: look again."""


class Next(NamedTuple):
    """The version that follows the newest one, as it was found before a transaction."""

    newest: int
    """The number of the newest version; 0: there is none."""
    key: bytes | None
    """The row of the next one; None: there is no other version."""


# Readers


def read_newest(snapshot: Snapshot, name: ObjectName) -> Manifest | None:
    """The newest version, which may be a delete marker."""
    value = snapshot.get(keys.object_(*name))
    return decode(name, value) if value is not None else read_delete_marker(snapshot, name)


def read_delete_marker(snapshot: Snapshot, name: ObjectName) -> Manifest | None:
    """The newest version of an object that has no row in ``object/``."""
    value = snapshot.get(keys.delete_marker(*name))
    return None if value is None else decode(name, value)


def read_version(snapshot: Snapshot, name: ObjectName, number: int) -> tuple[bytes, Manifest] | None:
    """The row and the version of that number, or the one without an id (NULL)."""
    newest = read_newest(snapshot, name)
    if newest is not None and is_version(newest, number):
        return _newest_key(newest), newest
    if number == NULL:
        number = _read_null(snapshot, name)
    key = keys.version(*name, number) if number > 0 else b""
    value = snapshot.get(key) if key else None
    return None if value is None else (key, decode(name, value))


def is_version(manifest: Manifest, number: int) -> bool:
    return manifest.version == number or (number == NULL and manifest.is_null)


def find_damaged(snapshot: Snapshot, name: ObjectName, number: int) -> bytes | None:
    """The row of one of the others, if it is damaged: nothing but its key is known."""
    key = keys.version(*name, number)
    try:
        snapshot.get(key)
    except RowCorrupt:
        return key
    return None


async def find_next(kv: KV, name: ObjectName) -> Next:
    """Look for the version that follows the newest one."""
    newest = await kv.view(lambda snapshot: read_newest(snapshot, name))
    start, end = keys.under(keys.delete_marker(*name))
    rows = await kv.scan(keys.after(start), end, 1)
    return Next(0 if newest is None else newest.version, rows[0][0] if rows else None)


# Changes


def demote(tx: Transaction, newest: Manifest) -> None:
    """Keep the newest version as one of the others. The caller writes a newer one in this transaction."""
    source, target = _newest_key(newest), keys.version(*newest.name, newest.version)
    value = tx.get(source)
    assert value is not None, "it was read in this transaction"
    tx.put(target, value)
    tx.note(Counted(target, NOTHING, newest.size))
    if newest.is_null:
        tx.put(keys.null_version(*newest.name), b'1{"v":%d}' % newest.version)
    if newest.deletes:
        _delete(tx, source, newest)


def promote(tx: Transaction, name: ObjectName, found: Next) -> None:
    """Make the next version the newest one; the row of the one before is deleted in this transaction.

    ``found`` was found when that was the newest one, which the caller has compared. Raises Changed.
    """
    if found.key is None:
        return
    value = tx.get(found.key)
    if value is None:
        raise Changed
    manifest = decode(name, value)
    remove(tx, found.key, manifest)
    target = _newest_key(manifest)
    tx.put(target, value)
    tx.note(Counted(target, NOTHING, manifest.size))


def remove(tx: Transaction, key: bytes, manifest: Manifest) -> None:
    """Delete one of the others, with what says that it has no id. The caller releases what it names."""
    _delete(tx, key, manifest)
    if manifest.is_null:
        tx.delete(keys.null_version(*manifest.name))


def remove_damaged(tx: Transaction, name: ObjectName, key: bytes, number: int) -> None:
    """Delete the damaged row of one of the others."""
    tx.delete(key)
    tx.note(Counted(key, 0, NOTHING))
    if _read_null(tx, name) == number:
        tx.delete(keys.null_version(*name))


def remove_newest(tx: Transaction, newest: Manifest) -> None:
    """Delete the row of the newest version. The caller writes or promotes another one, and releases what it names."""
    _delete(tx, _newest_key(newest), newest)


def take_null(tx: Transaction, name: ObjectName) -> Manifest | None:
    """Delete the one of the others that has no id, and return it for the caller to release."""
    number = _read_null(tx, name)
    if not number:
        return None
    key = keys.version(*name, number)
    try:
        value = tx.get(key)
        manifest = unreadable(name) if value is None else decode(name, value)
    except RowCorrupt:  # it goes all the same; what it named is not known, and stays
        manifest = unreadable(name)
    remove(tx, key, manifest)
    return manifest


def put_delete_marker(tx: Transaction, name: ObjectName, version: int, now: float, *, versioned: bool) -> Manifest:
    """Make a delete marker the newest version. The caller has moved or deleted the one before."""
    marker = Manifest(name, version, 0, "", now, "", {}, None, details=Details(versioned=versioned, deletes=True))
    key = keys.delete_marker(*name)
    tx.put(key, encode(marker, version))
    tx.note(Counted(key, NOTHING, 0))
    return marker


def _delete(tx: Transaction, key: bytes, manifest: Manifest) -> None:
    tx.delete(key)
    tx.note(Counted(key, manifest.size, NOTHING))


def _newest_key(manifest: Manifest) -> bytes:
    return keys.delete_marker(*manifest.name) if manifest.deletes else keys.object_(*manifest.name)


def _read_null(snapshot: Snapshot, name: ObjectName) -> int:
    """The number of the one of the others that has no id; 0 if each has one."""
    value = snapshot.get(keys.null_version(*name))
    try:
        return 0 if value is None else int(parse(text_of(value), 1)[0]["v"])
    except UNDECODABLE as error:
        raise corrupt(f"the null version of {name.bucket}/{name.key}", error) from error
