"""Alias: a second name of a row, which stands in its value, so that nothing has to be kept in step with it.

    value = ALIASED | alias, ALIAS_BYTES | anything

Engines find the row by it (``Snapshot.find``) and list rows in its order (``KV.scan_aliases``). What writes such values
sees to it that no two rows have the same one.
"""

from __future__ import annotations

ALIASED = b"\x02"
"""The prefix of values with an alias; no other value has it."""
ALIAS_BYTES = 14
_END = 1 + ALIAS_BYTES


def alias_of(value: bytes) -> bytes | None:
    """Return the alias of the row with this value; None if it has none."""
    return value[1:_END] if value[:1] == ALIASED else None
