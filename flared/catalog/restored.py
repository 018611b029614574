"""What a copy of the metadata knows of its age, and metadata that came from one.

backup   = "1" {"t": of which moment, ms}                         in a backup only
restored = "1" {"t": of which moment, ms, "r": restored at, ms}

Metadata that came from a backup is older than the pieces on the nodes. What was written since has no record, what was
deleted since has one: both are told apart from garbage by nothing but an operator who looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.catalog.records import UNDECODABLE, corrupt, parse, text_of
from flared.meta import keys

if TYPE_CHECKING:
    from flared.meta.backup import Copy
    from flared.meta.kv import KV, Snapshot

ORPHANS_KEPT_MS = 7 * 24 * 3600 * 1000
"""So long after a restore no orphan is deleted: it may be an object that a newer backup still knows."""


def mark_backup(copy: Copy, now_ms: int) -> None:
    copy.put(keys.BACKUP, b'1{"t":%d}' % now_ms)


def read_backup(look: Snapshot) -> int | None:
    """Of which moment a backup is; None if another program made it."""
    value = look.get(keys.BACKUP)
    try:
        return None if value is None else int(parse(text_of(value), 1)[0]["t"])
    except UNDECODABLE as error:
        raise corrupt("the backup", error) from error


def mark_restored(copy: Copy, taken_ms: int, now_ms: int) -> None:
    """Note it, and let nothing be shared with what was there before: those pieces may have been deleted since.

    A put of known bytes references their chunk without asking any node for it.
    """
    copy.put(keys.RESTORED, b'1{"t":%d,"r":%d}' % (taken_ms, now_ms))
    copy.delete(keys.under(b"shared/"))
    copy.delete(keys.Range(keys.BACKUP, keys.after(keys.BACKUP)))


async def orphans_kept_until(kv: KV) -> int:
    """No orphan is deleted before; 0 if this metadata never came from a backup."""
    entry = await kv.get(keys.RESTORED)
    try:
        return 0 if entry is None else int(parse(text_of(entry.value), 1)[0]["r"]) + ORPHANS_KEPT_MS
    except UNDECODABLE as error:
        raise corrupt("the restore", error) from error
