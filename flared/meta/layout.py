"""The file of the embedded engine: created, checked, converted to the newest layout, and opened. Everything blocks."""

from __future__ import annotations

import mmap
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from flared.errors import ConfigError, LogCorrupt
from flared.meta import conversion, openings
from flared.meta.log_check import HEADER, find_damage
from flared.meta.sqlite_file import LAYOUT, connect, create_tables, make_private, sync_directory

if TYPE_CHECKING:
    from pathlib import Path

    from flared.meta.openings import Opening


def open_database(path: Path) -> Opening:
    """Create the file, or check it and convert an older layout; then note one more opening.

    The directory is synced, so that a new file is still there after a power cut. Raises ConfigError, and leaves the
    file alone, if a newer Flare wrote it, or something else did; LogCorrupt (``check_log``). The caller holds its lock.
    """
    make_private(path)
    check_log(path)
    layout = read_layout(path)
    if layout and layout < LAYOUT:
        conversion.convert(path, layout)
    with closing(connect(path)) as connection:
        last = openings.read_commits(connection) if layout else (b"", 0)
        connection.execute("BEGIN IMMEDIATE")
        if not layout:
            create_tables(connection)
        opening = openings.begin_opening(connection, last)
        connection.execute("COMMIT")
        opening = openings.put_row(connection, opening)
    sync_directory(path.parent)
    return opening


def check_log(path: Path) -> None:
    """Raise LogCorrupt if SQLite would silently drop acknowledged transactions from the log beside the file.

    To be called before SQLite opens the file, which replays the log, and by closing it cuts and removes it. Only while
    no process writes to it. Takes about a second for 64 MiB.
    """
    log = path.with_name(path.name + "-wal")
    try:
        with open(log, "rb") as file:
            if os.fstat(file.fileno()).st_size < HEADER.size:
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                damage = find_damage(content)
    except FileNotFoundError:
        return
    if damage is not None:
        raise LogCorrupt(
            f"{log} is damaged at byte {damage.offset}, and at least {damage.transactions} acknowledged transactions "
            "from there on would be lost: put a backup in the place of the metadata with 'flared restore --config FILE "
            f"BACKUP', or go on without them with 'flared restore --config FILE --cut-log {path}'; nothing has changed"
        )


def read_layout(path: Path) -> int:
    """Return the layout of the file; 0 if it is empty, or was not there and is made. Raises ConfigError."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            (layout,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise ConfigError([f"{path} is not an SQLite file"]) from error
            raise
    if layout > LAYOUT:
        raise ConfigError([f"{path} was written by a newer Flare (layout {layout}, this one knows {LAYOUT})"])
    if tables and not layout:
        raise ConfigError([f"{path} is an SQLite file of something else"])
    return int(layout)
