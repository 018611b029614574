"""Check: everything in the metadata file, again and again, in portions, while the node serves.

    1 the pages and trees      ``PRAGMA quick_check``, 0.6 s for a million rows, in one read transaction
    2 the rows                 each has its checksum, and is what the index finds under its key
    3 the index                each entry leads to the row of its key
    4 the index of aliases     each entry leads to the row with that alias

Together they are what ``PRAGMA integrity_check`` looks at, which takes ten times as long in one go, and holds the log
for all of it; and the checksums beyond. ``quick_check`` alone says "ok" to an index that misses a row, and a row's
checksum cannot show that another row is absent.
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from flared.meta import openings
from flared.meta.alias import alias_of
from flared.meta.row import checksum
from flared.meta.sqlite_file import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flared.background import Threads

log = logging.getLogger(__name__)

PORTION_ROWS = 500
"""Some milliseconds of a thread."""
REST = 4.0
"""A pass rests four times as long as it works: a million rows take some two minutes, and clients notice nothing."""
INTERVAL_SECONDS = 3600.0
APART = 9.0
"""Passes that were asked for take at most a tenth of the time."""
FIRST_SECONDS = 5.0
"""After the start, which has other things to read."""
PROBLEMS_MAX = 20

_INDEX = "sqlite_autoindex_kv_1"
_ROWS = (
    "SELECT group_concat(row || ' ' || hex(key) || ' ' || hex(value) || ' ' || ifnull(CAST(version AS INTEGER), 0) || "
    "' ' || ifnull(CAST(checksum AS INTEGER), 0) || ' ' || ifnull(found, 0) || ' ' || aliased, char(10)) FROM ("
    "SELECT t.rowid AS row, t.key, t.value, t.version, t.checksum, "
    f"(SELECT i.rowid FROM kv AS i INDEXED BY {_INDEX} WHERE i.key = t.key) AS found, "
    "(SELECT count(*) FROM kv AS a INDEXED BY kv_alias WHERE a.alias = t.alias AND a.rowid = t.rowid) AS aliased "
    "FROM kv AS t NOT INDEXED WHERE t.rowid > ? ORDER BY t.rowid LIMIT ?)"
)
_ENTRIES = (
    "SELECT count(*), total(t.key IS NOT e.key), max(e.key) FROM "
    f"(SELECT key, rowid AS row FROM kv INDEXED BY {_INDEX} WHERE key > ? ORDER BY key LIMIT ?) AS e "
    "LEFT JOIN kv AS t NOT INDEXED ON t.rowid = e.row"
)

_ALIASES = (
    "SELECT count(*), total(t.alias IS NOT e.alias), max(e.alias) FROM "
    "(SELECT alias, rowid AS row FROM kv INDEXED BY kv_alias WHERE alias > ? ORDER BY alias LIMIT ?) AS e "
    "LEFT JOIN kv AS t NOT INDEXED ON t.rowid = e.row"
)


class FileChecker:
    """One pass over the file: ``step`` until it returns that it is done. Blocks."""

    def __init__(self, path: Path, report: Callable[[bytes], None]) -> None:
        """``report`` hears of the key of each damaged row."""
        self._path = path
        self._report = report
        self._steps = iter((self._check_structure, self._check_rows, self._check_entries, self._check_aliases))
        self._step: Callable[[sqlite3.Connection], bool] | None = next(self._steps)
        self._connection: sqlite3.Connection | None = None
        self._row = 0
        self._key = b""
        self._alias = b""
        self.rows = 0
        self.problems: list[str] = []

    def step(self) -> bool:
        """Look at one portion; False at the end of the pass."""
        assert self._step is not None
        try:
            if self._connection is None:
                self._connection = connect(self._path)
            done = self._step(self._connection)
        except sqlite3.Error as error:
            self._add(f"the file cannot be read: {error}")
            done = True  # what lies behind is looked at by the next kind of step
        if done:
            self._step = next(self._steps, None)
        return self._step is not None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _check_structure(self, connection: sqlite3.Connection) -> bool:
        for (answer,) in connection.execute(f"PRAGMA quick_check({PROBLEMS_MAX})").fetchall():
            if answer != "ok":
                self._add(" ".join(str(answer).split()))
        damaged = openings.count_damaged(connection)
        if damaged:
            self._add(f"{damaged} rows of its openings are damaged")
        return True

    def _check_rows(self, connection: sqlite3.Connection) -> bool:
        (text,) = connection.execute(_ROWS, (self._row, PORTION_ROWS)).fetchall()[0]
        lines = text.split("\n") if text else []
        for line in lines:
            number, key_hex, value_hex, version, found, indexed, aliased = line.split(" ")
            key, value = bytes.fromhex(key_hex), bytes.fromhex(value_hex)
            if checksum(key, value, int(version)) != int(found):
                self._report(key)
                self._add("rows are damaged")
            elif indexed != number:
                self._add("rows are not found by their keys")
            elif (alias_of(value) is not None) != (aliased == "1"):
                self._add("rows are not found by their aliases")
            self._row = int(number)
        self.rows += len(lines)
        return len(lines) < PORTION_ROWS

    def _check_entries(self, connection: sqlite3.Connection) -> bool:
        count, wrong, last = connection.execute(_ENTRIES, (self._key, PORTION_ROWS)).fetchall()[0]
        if wrong:
            self._add("keys of the index lead to other rows")
        if count:
            self._key = bytes(last)
        return bool(count < PORTION_ROWS)

    def _check_aliases(self, connection: sqlite3.Connection) -> bool:
        count, wrong, last = connection.execute(_ALIASES, (self._alias, PORTION_ROWS)).fetchall()[0]
        if wrong:
            self._add("aliases of the index lead to other rows")
        if count:
            self._alias = bytes(last)
        return bool(count < PORTION_ROWS)

    def _add(self, problem: str) -> None:
        if problem not in self.problems and len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


@dataclass(frozen=True, slots=True)
class CheckStatistics:
    passes: int
    """Whole ones, in this process."""
    rows: int
    """Looked at by the last whole pass."""
    problems: tuple[str, ...]
    """Of the last whole pass, and what the present one has found already; one sentence each, without a subject."""
    ended: float | None
    """When the last whole pass ended, by the monotonic clock."""


class Check:
    """Runs one pass after the other."""

    def __init__(self, path: Path, threads: Threads, report: Callable[[bytes], None]) -> None:
        self._path = path
        self._threads = threads
        self._report = report
        self._asked = trio.Event()
        self._clean_since: float | None = None
        self._statistics = CheckStatistics(0, 0, (), None)
        self._checker: FileChecker | None = None

    def statistics(self) -> CheckStatistics:
        now = self._statistics
        found = self._checker.problems if self._checker is not None else ()
        return CheckStatistics(now.passes, now.rows, tuple(dict.fromkeys([*now.problems, *found])), now.ended)

    def clean_since(self, moment: float) -> bool:
        """Report whether a pass that began after ``moment`` found nothing wrong, and no later one did either."""
        return self._clean_since is not None and self._clean_since >= moment

    def ask(self) -> None:
        """Have a pass begin soon; the one under way does not count."""
        self._asked.set()

    async def run(self) -> None:
        """Check until cancelled."""
        await trio.sleep(FIRST_SECONDS)
        while True:
            self._asked = trio.Event()
            began = trio.current_time()
            await self._pass(began)
            await trio.sleep(APART / REST * (trio.current_time() - began))
            with trio.move_on_after(INTERVAL_SECONDS):
                await self._asked.wait()

    async def _pass(self, began: float) -> None:
        # Rest in proportion to the work, so that transactions come first; a problem counts as soon as it is found.
        checker = self._checker = FileChecker(self._path, self._report)
        try:
            while True:
                started = trio.current_time()
                more = await self._threads.run(checker.step)
                if checker.problems:
                    self._clean_since = None
                if not more:
                    break
                await trio.sleep(REST * (trio.current_time() - started))
        finally:
            checker.close()
        ended = trio.current_time()
        if not checker.problems:
            self._clean_since = began
        elif tuple(checker.problems) != self._statistics.problems:
            log.error("event=metadata_damaged path=%s problems=%r", self._path, "; ".join(checker.problems))
        self._statistics = CheckStatistics(self._statistics.passes + 1, checker.rows, tuple(checker.problems), ended)
        self._checker = None
        log.info(
            "event=metadata_checked rows=%d seconds=%.1f problems=%d",
            checker.rows,
            ended - began,
            len(checker.problems),
        )
