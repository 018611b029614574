"""Lister: one page of a listing by keys, with common prefixes standing for all keys under them."""

from __future__ import annotations

from bisect import bisect_left

from flared.meta import keys

SEEK_PAGE = 32
"""Keys a step of a listing with a delimiter reads: enough for flat stretches, little lost before a seek."""


class Lister:
    """Walks the rows of a bucket in one table, and keeps what one page of the listing shows.

    Their keys are ``head``, the object's key, and in some tables a NUL and what tells rows of one object apart. The
    listing goes on behind ``after``, which is such a row's key without its head, an object's key, or a common prefix.
    """

    def __init__(self, head: bytes, prefix: bytes, delimiter: bytes, after: bytes, limit: int) -> None:
        self._head = head
        self._prefix_size = len(prefix)
        self._delimiter = delimiter
        self._left = limit
        self.page = min(limit + 1, SEEK_PAGE) if delimiter else limit + 1
        self.start, self.end = keys.under(head + prefix)
        if after:
            common = self._common(after) if after.startswith(prefix) else None
            # All that a common prefix stands for is listed with it, so it counts as passed with any key under it.
            begin = self._behind(after) if common is None else keys.under(head + common).end
            self.start = max(self.start, begin)
        self.rows: list[tuple[bytes, bytes]] = []
        """Keys without their head, and values."""
        self.prefixes: list[bytes] = []
        self.last = b""
        self.more = False

    def visit(self, rows: list[tuple[bytes, bytes]]) -> bytes | None:
        """Take a page of the walk. Return the key to go on at; None at the end of the listing."""
        head = len(self._head)
        position = 0
        while position < len(rows):
            if not self._left:
                self.more = True
                return None
            full_key, value = rows[position]
            key = full_key[head:]
            common = self._common(key)
            self._left -= 1
            if common is None:
                self.rows.append((key, value))
                self.last = key
                position += 1
                continue
            self.prefixes.append(common)
            self.last = common
            beyond = keys.under(self._head + common).end
            position = bisect_left(rows, (beyond,), lo=position)
            if position == len(rows):
                return beyond
        return keys.after(rows[-1][0]) if len(rows) == self.page else None

    def _behind(self, after: bytes) -> bytes:
        """The first key behind this row, or behind all rows of this object."""
        return keys.after(self._head + after) if b"\0" in after else self._head + after + b"\1"

    def _common(self, key: bytes) -> bytes | None:
        """Return the common prefix that stands for the key in the listing; None if the key itself is listed."""
        if not self._delimiter:
            return None
        found = key.find(self._delimiter, self._prefix_size)
        if found < 0 or b"\0" in key[:found]:
            return None
        return key[: found + len(self._delimiter)]
