"""Each opening of the embedded engine's file: its random id, and how many groups it has committed.

    openings  (number, id, commits, checksum)
    kv        COMMITS -> id of the newest opening; its version is the number of commits

The number of commits changes in the transaction that makes them: it is the version of a row of ``kv``, so that one
statement writes it together with the rows of a group. The next opening notes it beside its id. So two files of one
origin learn from each other's marks (``kv.Mark``) whether they hold what the other one holds: a file that was rolled
back has a smaller number for that opening, and a copy that went its own way does not know it. What either has
committed since cannot hide it.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import NamedTuple

from flared.meta.row import checksum

COMMITS = b"\xff\xffcommits"
"""The key of the row with the number of commits. No range of keys reaches so far."""

OPENINGS_MAX = 10_000
"""Rows of the table, and some 2 MiB of memory; the oldest go first. A data node keeps the last mark that it saw, so
only one that slept through as many starts can name an opening that was forgotten, and is then not believed."""

TABLE = (
    "CREATE TABLE openings (number INTEGER PRIMARY KEY, id TEXT NOT NULL, commits INTEGER NOT NULL, "
    "checksum INTEGER NOT NULL)"
)
# As bytes, and non-integers as NULL: a flipped bit may have made text of any column, and not of UTF-8.
_ROWS = (
    "SELECT number, CAST(id AS BLOB), CASE typeof(commits) WHEN 'integer' THEN commits END, "
    "CASE typeof(checksum) WHEN 'integer' THEN checksum END FROM openings ORDER BY number"
)
_COMMITS = (
    "SELECT CAST(value AS BLOB), CASE typeof(version) WHEN 'integer' THEN version END, "
    "CASE typeof(checksum) WHEN 'integer' THEN checksum END FROM kv WHERE key = ?"
)


class Opening(NamedTuple):
    """One opening of the file, and what the file holds of those before it."""

    number: int
    id: str
    """32 hex digits."""
    past: dict[str, int]
    """The commits of each earlier opening, by its id. A damaged row is not among them."""
    has_row: bool = True
    """The row of ``kv`` can be written. If not, because its page is broken, ``count_commit`` is called."""

    @property
    def version(self) -> int:
        """A floor for versions that no earlier opening ever gave: a key deleted before a restart never gets one again.

        There are 2^40 for each opening.
        """
        return self.number << 40

    def row(self, commits: int) -> tuple[bytes, bytes, int, int]:
        """Return the row that says so many commits: key, value, version and checksum."""
        value = self.id.encode()
        return COMMITS, value, commits, checksum(COMMITS, value, commits)


def read_commits(connection: sqlite3.Connection) -> tuple[bytes, int]:
    """Return the id of the last opening and how many groups it has committed; an empty id if that cannot be read: its
    marks are not included then. To be called outside of a transaction, which could write nothing behind a broken page.
    """
    try:
        row = connection.execute(_COMMITS, (COMMITS,)).fetchone()
    except sqlite3.DatabaseError as error:
        if not _is_corrupt(error):
            raise
        row = None
    if row is None or row[1] is None or checksum(COMMITS, *row[:2]) != row[2]:
        return b"", 0
    return row[0], row[1]


def begin_opening(connection: sqlite3.Connection, last: tuple[bytes, int]) -> Opening:
    """Note one more opening, and how far the ``last`` one came, in the caller's transaction; forget what is too old."""
    rows = connection.execute(_ROWS).fetchall()
    good = [row for row in rows if _is_intact(*row)]
    past = {row[1].decode(): row[2] for row in good}
    for number, identity, commits, _ in good:
        if identity == last[0] and commits < last[1]:
            past[identity.decode()] = last[1]
            _set_commits(connection, number, identity.decode(), last[1])
    # The number of a damaged row may be anything: count it as if it had come after the last good one.
    number = max((row[0] for row in good), default=0) + len(rows) - len(good) + 1
    taken = {row[0] for row in rows}
    while number in taken:
        number += 1
    identity = insert_opening(connection, number)
    connection.execute("DELETE FROM openings WHERE number <= ?", (number - OPENINGS_MAX,))
    return Opening(number, identity, past)


def put_row(connection: sqlite3.Connection, opening: Opening) -> Opening:
    """Write the row of an opening that is committed. Until then the row of the last one stands, and says the same."""
    try:
        connection.execute("REPLACE INTO kv (key, value, version, checksum) VALUES (?, ?, ?, ?)", opening.row(0))
    except sqlite3.DatabaseError as error:
        if not _is_corrupt(error):
            raise
        return opening._replace(has_row=False)
    return opening


def count_damaged(connection: sqlite3.Connection) -> int:
    """Rows of the table that are not what was written."""
    rows = connection.execute(_ROWS).fetchall()
    return sum(not _is_intact(*row) for row in rows)


def insert_opening(connection: sqlite3.Connection, number: int) -> str:
    """Add an opening that has committed nothing yet, and return its id."""
    identity = secrets.token_hex(16)
    connection.execute(
        "INSERT INTO openings (number, id, commits, checksum) VALUES (?, ?, 0, ?)",
        (number, identity, _checksum(number, identity, 0)),
    )
    return identity


def count_commit(connection: sqlite3.Connection, opening: Opening, commits: int) -> None:
    """Write, in the transaction of a group, that it is number ``commits`` of an opening that has no row."""
    _set_commits(connection, opening.number, opening.id, commits)


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CORRUPT


def _set_commits(connection: sqlite3.Connection, number: int, identity: str, commits: int) -> None:
    connection.execute(
        "UPDATE openings SET commits = ?, checksum = ? WHERE number = ?",
        (commits, _checksum(number, identity, commits), number),
    )


def _checksum(number: int, identity: str, commits: int) -> int:
    return checksum(b"opening/%d" % number, identity.encode(), commits)


def _is_intact(number: object, identity: object, commits: object, found: object) -> bool:
    if not (isinstance(number, int) and isinstance(identity, bytes) and isinstance(commits, int)):
        return False
    return identity.isascii() and found == _checksum(number, identity.decode(), commits)
