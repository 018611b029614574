"""The progress of a transfer on a terminal: one row for all files together, and one for each large file.

Once the transfer has lasted long enough to be shown, a thread counts the files and bytes that are to come.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from flarectl.errors import Failure
from flarectl.render import harmless, is_terminal, make_console, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

PATIENCE_SECONDS = 0.4
"""A shorter transfer shows no bar, and does not pay for loading rich."""
ROW_SECONDS = 1.0
"""A file that is done sooner gets no row of its own: it would vanish before anyone could read it."""
TICK_SECONDS = 0.25
STALL_SECONDS = 4.0
"""After so long without a byte the screen reports the stall, before the call is given up and repeated."""
NAME_CHARS_MAX = 30
REFRESH_SECONDS = 0.1
NARROW_COLUMNS = 60
"""On narrower terminals the bar is more useful than the number of bytes."""


class Meter:
    """The progress of one body."""

    def __init__(self, bars: Bars, name: str, size: int | None) -> None:
        self._bars = bars
        self.name = name
        self.size = size
        self.done = 0
        self.started = time.monotonic()
        self.task: TaskID | None = None

    def moved(self, count: int) -> None:
        """Count so many bytes more; negative if a part must be sent again."""
        self.done += count
        self._bars.moved(count)

    def finish(self) -> None:
        self._bars.drop(self)


class Bars:
    """The bars of a transfer on a terminal. Without a terminal it only counts."""

    def __init__(self, *, visible: bool) -> None:
        self.started = time.monotonic()
        self.bytes = 0
        self.visible = visible and is_terminal(sys.stderr)
        self.files = 0
        """Files that are finished, with or without success."""
        self._passed_bytes = 0
        """Bytes of files that were not moved, or not completely."""
        self._begun = 0
        self._begun_bytes: int | None = 0
        self._ahead: _Ahead | None = None
        self._meters: dict[Meter, None] = {}
        self._progress: Progress | None = None
        self._all: TaskID | None = None
        self._note = ""
        self._drawn = self._moved = self.started

    def count_with(self, sizes: Callable[[], Iterator[int | None]]) -> None:
        """Set ``sizes``, which yields the size of each file, None if unknown, so that a thread can count ahead."""
        if self.visible:
            self._ahead = _Ahead(sizes)

    def begin(self, name: str, size: int | None) -> Meter:
        """Begin a body; ``size`` is None if it is unknown."""
        meter = Meter(self, name, size)
        self._meters[meter] = None
        self._begun += 1
        self._begun_bytes = None if size is None or self._begun_bytes is None else self._begun_bytes + size
        return meter

    def moved(self, count: int) -> None:
        self.bytes += count
        if count > 0:
            self._wake()
        self._draw_if_due(REFRESH_SECONDS)

    def file_done(self) -> None:
        """Count one file as finished."""
        self.files += 1
        self._wake()
        self._draw_if_due(REFRESH_SECONDS)

    def skip_bytes(self, size: int) -> None:
        """Count bytes that will not be moved."""
        self._passed_bytes += size

    def note(self, text: str) -> None:
        """Show a sentence until bytes move again; any thread may call it."""
        self._note = text

    def tick(self) -> None:
        """Redraw, and report a stall; to be called a few times a second."""
        idle = time.monotonic() - self._moved
        if idle >= STALL_SECONDS and not self._note.endswith(")") and (self._meters or self._progress):
            self._note = f"the api node does not answer for {idle:.0f} s"
        self._draw_if_due(TICK_SECONDS)

    def drop(self, meter: Meter) -> None:
        self._meters.pop(meter, None)
        self.skip_bytes(max(0, (meter.size or 0) - meter.done))
        if self._progress and meter.task is not None:
            self._progress.remove_task(meter.task)

    def say(self, text: str) -> None:
        """Write a line to standard error, above the bars."""
        if self._progress:
            self._progress.console.print(text, soft_wrap=True)
        else:
            print(text, file=sys.stderr)

    def close(self) -> None:
        """Remove the bars from the screen."""
        if self._ahead is not None:
            self._ahead.stop()
        if self._progress:
            self._progress.stop()
            self._progress = None
        self.visible = False

    def summary(self) -> str:
        """Return a text such as ``1,054 of 3,000 files, 35 %, 10 s left``, as far as it is known."""
        ahead = self._ahead
        total = ahead.files if ahead is not None and ahead.is_done else None
        parts = [f"{self.files:,} of {total:,} files" if total is not None else f"{self.files:,} files"]
        share = self._share()
        if share is not None:
            seconds = time.monotonic() - self.started
            parts.append(f"{100 * share:.0f} %")
            if share > 0 and seconds >= 1:
                parts.append(f"{_left_text(seconds / share * (1 - share))} left")
        return ", ".join(parts)

    def _share(self) -> float | None:
        """Return the share that is done: of the bytes if all sizes are known, else of the files."""
        ahead = self._ahead
        if ahead is None or not ahead.is_done:
            return None
        if ahead.bytes:
            return min(1.0, (self.bytes + self._passed_bytes) / ahead.bytes)
        return min(1.0, self.files / ahead.files) if ahead.files else None

    def _wake(self) -> None:
        self._moved = time.monotonic()
        self._note = ""

    def _draw_if_due(self, interval: float) -> None:
        if not self.visible:
            return
        now = time.monotonic()
        if now - self._drawn >= (interval if self._progress else PATIENCE_SECONDS):
            self._drawn = now
            self._draw(now)

    def _draw(self, now: float) -> None:
        progress = self._progress = self._progress or self._open()
        many = self._ahead is not None or self._begun > 1 or not self._meters
        if many:
            self._draw_all(progress)
        for meter in self._meters:
            if meter.task is None:
                if many and now - meter.started < ROW_SECONDS:
                    continue
                name = harmless(meter.name)
                short = name if len(name) <= NAME_CHARS_MAX else f"…{name[1 - NAME_CHARS_MAX :]}"
                meter.task = progress.add_task(short, total=meter.size, detail="")
            detail = self._detail(meter.done, meter.size, now - meter.started)
            progress.update(meter.task, completed=meter.done, detail=detail)
        progress.refresh()

    def _draw_all(self, progress: Progress) -> None:
        if self._all is None:
            self._all = progress.add_task(self.summary(), total=None, detail="")
        share = self._share()
        seconds = time.monotonic() - self.started
        rate = f"{size_text(self.bytes / seconds)}/s" if self.bytes and seconds else ""
        progress.update(
            self._all,
            description=self.summary(),
            completed=100 * (share or 0),
            total=None if share is None else 100,
            detail="" if self._is_narrow() else rate,
        )

    def _detail(self, done: int, total: int | None, seconds: float) -> str:
        rate = f"{size_text(done / seconds)}/s" if seconds else ""
        if self._is_narrow():
            return f"{f'{100 * done / total:.0f} %' if total else size_text(done)} {rate:>9}"
        of_total = "" if total is None else f" of {size_text(total)}"
        left = f"{_left_text(seconds / done * (total - done))} left" if total and done and seconds >= 1 else ""
        return f"{size_text(done)}{of_total}  {rate:>10}  {left:>9}".rstrip()

    def _is_narrow(self) -> bool:
        return self._progress is not None and self._progress.console.width < NARROW_COLUMNS

    def _open(self) -> Progress:
        if self._ahead is not None:
            self._ahead.start()
        progress = _make_progress(make_console(stderr=True, spare_columns=len("^C")), lambda: self._note)
        progress.start()
        return progress


class _Ahead:
    """A thread that counts all files of a transfer; ``is_done`` when ``files`` and ``bytes`` are final."""

    def __init__(self, sizes: Callable[[], Iterator[int | None]]) -> None:
        self.files = 0
        self.bytes: int | None = 0
        """None if any size is unknown."""
        self.is_done = False
        self._sizes = sizes
        self._stopped = False
        self._thread = threading.Thread(target=self._count, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True

    def _count(self) -> None:
        try:
            for size in self._sizes():
                if self._stopped:
                    return
                self.files += 1
                self.bytes = None if size is None or self.bytes is None else self.bytes + size
        except (Failure, OSError, ValueError):
            return  # the transfer meets the same error, and reports it
        self.is_done = True


def _make_progress(console: Console, note: Callable[[], str]) -> Progress:
    """Return rows of a name, a bar and a detail, with a note below them."""
    from collections.abc import Iterable

    from rich.console import Group
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column
    from rich.text import Text

    # rich has no line below its rows; markup is off because a file's name may look like it.
    class Rows(Progress):
        def get_renderables(self) -> Iterable[Table | Group]:
            table = self.make_tasks_table(self.tasks)
            yield Group(table, Text(note())) if note() else table

    return Rows(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TextColumn("{task.fields[detail]}", markup=False, justify="right", table_column=Column(no_wrap=True)),
        console=console,
        auto_refresh=False,
        transient=True,
        expand=True,
    )


def _left_text(seconds: float) -> str:
    """``10 s``, ``3 min``, ``2 h``."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
