"""How a transfer goes, for the person who watches it: a bar for each body on its way and one for all of them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from flarectl.render import harmless, is_terminal, make_console, size_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE_SECONDS = 0.4
"""What is done sooner shows no bar, and does not pay for loading rich."""
NAME_CHARS_MAX = 30
REFRESH_SECONDS = 0.1
NARROW_COLUMNS = 60
"""Below it a bar matters more than how many bytes it stands for."""


class Meter:
    """One body on its way."""

    def __init__(self, bars: Bars, name: str, size: int | None) -> None:
        self._bars = bars
        self.name = name
        self.size = size
        self.done = 0
        self.started = time.monotonic()
        self.task: TaskID | None = None

    def moved(self, count: int) -> None:
        """So many bytes more; negative if a part has to travel again."""
        self.done += count
        self._bars.moved(count)

    def finish(self) -> None:
        self._bars.drop(self)


class Bars:
    """The bars of all bodies. Without a terminal they only count."""

    def __init__(self, *, visible: bool) -> None:
        self.started = time.monotonic()
        self.bytes = 0
        self.total = 0
        self.visible = visible and is_terminal(sys.stderr)
        self._meters: dict[Meter, None] = {}
        self._progress: Progress | None = None
        self._all: TaskID | None = None
        self._drawn = self.started

    def begin(self, name: str, size: int | None) -> Meter:
        """A body sets out; ``size`` None if nobody knows."""
        meter = Meter(self, name, size)
        self._meters[meter] = None
        self.total += size or 0
        return meter

    def moved(self, count: int) -> None:
        self.bytes += count
        if not self.visible:
            return
        now = time.monotonic()
        if now - self._drawn < (REFRESH_SECONDS if self._progress else PATIENCE_SECONDS):
            return
        self._drawn = now
        self._draw()

    def drop(self, meter: Meter) -> None:
        self._meters.pop(meter, None)
        if self._progress and meter.task is not None:
            self._progress.remove_task(meter.task)

    def say(self, text: str) -> None:
        """A line on standard error, above the bars."""
        if self._progress:
            self._progress.console.print(text, soft_wrap=True)
        else:
            print(text, file=sys.stderr)

    def close(self) -> None:
        """Take the bars off the screen."""
        if self._progress:
            self._progress.stop()
            self._progress = None
        self.visible = False

    def _draw(self) -> None:
        progress = self._progress = self._progress or self._open()
        total = None if any(meter.size is None for meter in self._meters) else self.total
        if self._all is None:
            self._all = progress.add_task("total", detail="")
        progress.update(
            self._all, completed=self.bytes, total=total, detail=self._detail(self.bytes, total, self.started)
        )
        for meter in self._meters:
            if meter.task is None:
                name = harmless(meter.name)
                short = name if len(name) <= NAME_CHARS_MAX else f"…{name[1 - NAME_CHARS_MAX :]}"
                meter.task = progress.add_task(short, total=meter.size, detail="")
            progress.update(
                meter.task, completed=meter.done, detail=self._detail(meter.done, meter.size, meter.started)
            )
        progress.refresh()

    def _detail(self, done: int, total: int | None, started: float) -> str:
        seconds = time.monotonic() - started
        rate = f"{size_text(done / seconds)}/s" if seconds else ""
        if self._progress and self._progress.console.width < NARROW_COLUMNS:
            return f"{f'{100 * done / total:.0f}%' if total else size_text(done)} {rate:>9}"
        of_total = "" if total is None else f" of {size_text(total)}"
        return f"{size_text(done)}{of_total}  {rate:>10}"

    def _open(self) -> Progress:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("{task.fields[detail]}", markup=False, justify="right"),
            TimeRemainingColumn(compact=True),
            console=make_console(stderr=True, spare_columns=len("^C")),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        progress.start()
        return progress
