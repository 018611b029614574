"""The age of a copy of the metadata, and metadata that came from one.

backup   = "1" {"t": of which moment, ms}                         in a backup only
restored = "1" {"t": of which moment, ms, "r": restored, or accepted as old as it is, at, ms}

Metadata that came from a backup is older than the pieces on the nodes. What was written since has no record, what was
deleted since has one; nothing in the metadata tells either from garbage. What was garbage, or an unfinished upload,
when the backup was made may have been referenced, or finished, since. So for some days nothing of the kind is
deleted: until then the way back to a newer file is open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from flared.catalog import chunks, extents, garbage
from flared.catalog.garbage import CHUNK, CONDEMNED, UPLOAD, Garbage
from flared.catalog.manifest import ExtentId
from flared.catalog.packed import is_packed
from flared.catalog.records import UNDECODABLE, corrupt, parse, text_of
from flared.errors import ManifestCorrupt
from flared.meta import keys
from flared.meta.kv import Transaction
from flared.meta.transaction import Draft
from flared.names import ChunkId

if TYPE_CHECKING:
    from flared.meta.backup import Copy
    from flared.meta.kv import KV, Snapshot

ORPHANS_KEPT_MS = 7 * 24 * 3600 * 1000
"""So long after a restore no orphan is deleted, nor what was garbage in the backup: it may be of an object that a
newer backup still knows."""

_PAGE = 1000
_PORTION = 64
"""Rows of one transaction while a node has the metadata open: its clients read meanwhile."""
_FORGOTTEN = (keys.under(b"shared/"), keys.under(b"invite/"))  # an invite that is open here may have been used since

Rows = Sequence[tuple[bytes, bytes]]
Hold = Callable[[Transaction, Rows], None]


def mark_backup(copy: Copy, now_ms: int) -> None:
    copy.put(keys.BACKUP, b'1{"t":%d}' % now_ms)


def read_backup(snapshot: Snapshot) -> int | None:
    """Return the moment, in ms, that a backup shows; None if another program made it."""
    value = snapshot.get(keys.BACKUP)
    try:
        return None if value is None else int(parse(text_of(value), 1)[0]["t"])
    except UNDECODABLE as error:
        raise corrupt("the backup", error) from error


def mark_restored(copy: Copy, taken_ms: int, now_ms: int) -> None:
    """Mark the copy as restored, and forget which chunks may be shared: their pieces may have been deleted since.

    A put of known bytes references their chunk without asking any node for it. An earlier restore counts as older,
    whatever the clock says.
    """
    before = read_restored(copy)
    now_ms = max(now_ms, taken_ms, before + 1)  # the clock of a host that has just been set up may not be right yet
    copy.put(keys.RESTORED, b'1{"t":%d,"r":%d}' % (taken_ms, now_ms))
    for span in _FORGOTTEN:
        copy.delete(span)
    copy.delete(keys.Range(keys.BACKUP, keys.after(keys.BACKUP)))
    for span, hold in _holds(now_ms + ORPHANS_KEPT_MS):
        start = span.start
        while page := copy.scan(keys.Range(start, span.end), _PAGE):
            tx = Draft(copy.get, copy.find)
            hold(tx, page)
            _apply(copy, tx)
            start = keys.after(page[-1][0])


async def accept_metadata(kv: KV, now_ms: int) -> int:
    """Have metadata that is older than the pieces count as restored now; returns the moment that was noted.

    Nothing may be written or deleted meanwhile. The note is the last thing: after a crash before it nothing is
    accepted, and doing it again does it whole.
    """
    now_ms = max(now_ms, await read_accepted(kv) + 1)
    for span in _FORGOTTEN:
        while rows := await kv.scan(*span, _PORTION):
            await kv.transact(partial(_forget, rows=rows))
    for span, hold in _holds(now_ms + ORPHANS_KEPT_MS):
        start = span.start
        while rows := await kv.scan(start, span.end, _PORTION):
            await kv.transact(partial(_hold_page, hold=hold, rows=rows))
            start = keys.after(rows[-1][0])
    await kv.transact(lambda tx: tx.put(keys.RESTORED, b'1{"t":%d,"r":%d}' % (now_ms, now_ms)))
    return now_ms


def _forget(tx: Transaction, rows: Rows) -> None:
    for key, _ in rows:
        tx.delete(key)


def _hold_page(tx: Transaction, hold: Hold, rows: Rows) -> None:
    hold(tx, [row for row in rows if tx.get(row[0]) is not None])


def _holds(until_ms: int) -> tuple[tuple[keys.Range, Hold], ...]:
    """Return the ranges of what must not be deleted before then, each with the change that holds a page of it."""
    return (
        (keys.under(b"open/"), partial(_hold_uploads, until_ms=until_ms)),
        (keys.Range(*keys.timed("garbage", until_ms - 1)), partial(_hold_garbage, until_ms=until_ms)),
    )


def _hold_uploads(tx: Transaction, page: Rows, *, until_ms: int) -> None:
    """Give up the open uploads: no process continues them, but one of them may have become an object since."""
    for key, _ in page:
        tx.delete(key)
        try:
            extents.give_up(tx, ExtentId(key.decode(errors="replace").rpartition("/")[2]), until_ms)
        except ManifestCorrupt:  # it is logged whenever it is read
            continue


def _hold_garbage(tx: Transaction, page: Rows, *, until_ms: int) -> None:
    """Postpone garbage that may have been referenced since. Condemned chunks never were: no record names them."""
    for key, value in page:
        try:
            item = garbage.decode(key, value)
            if item.kind != CONDEMNED:
                _hold(tx, item, until_ms)
        except ManifestCorrupt:
            continue


def _hold(tx: Transaction, item: Garbage, until_ms: int) -> None:
    row = tx.get(item.key)
    if row is not None and (item.kind == UPLOAD or is_packed(row)):  # no record says when it is due
        tx.delete(item.key)
        tx.put(replace(item, due_ms=until_ms).key, row)
        return
    if item.kind == CHUNK:
        chunk = chunks.read_chunk(tx, ChunkId(item.id))
        if chunk is not None:
            tx.put(keys.chunk(chunk.id), chunks.encode(chunk._replace(due_ms=until_ms)))
    else:
        extent = extents.read_extent(tx, ExtentId(item.id))
        if extent is not None:
            tx.put(keys.extent(extent.id), extents.encode(replace(extent, due_ms=until_ms)))
    garbage.remove(tx, item)
    garbage.add(tx, replace(item, due_ms=until_ms))


def _apply(copy: Copy, tx: Draft) -> None:
    for key, value in tx.writes.items():
        if value is None:
            copy.delete(keys.Range(key, keys.after(key)))
        else:
            copy.put(key, value)


async def read_accepted(kv: KV) -> int:
    """Return when this metadata was last restored, or accepted although it was old, in ms; 0 if never."""
    return await kv.view(read_restored)


def read_restored(snapshot: Snapshot) -> int:
    """The same as ``read_accepted``, in one snapshot."""
    value = snapshot.get(keys.RESTORED)
    try:
        return 0 if value is None else int(parse(text_of(value), 1)[0]["r"])
    except UNDECODABLE as error:
        raise corrupt("the restore", error) from error


async def orphans_kept_until(kv: KV) -> int:
    """Return until when, in ms, no orphan is deleted; 0 if this metadata never came from a backup."""
    accepted_ms = await read_accepted(kv)
    return accepted_ms + ORPHANS_KEPT_MS if accepted_ms else 0
