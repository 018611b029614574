"""The output of the demo: steps, how long each took, commands and their answers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

WIDTH = 58


class Screen:
    """Prints one line for each step, with commands and their answers below it."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._step = 0
        self.checks = 0

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Time a step; remarks made inside it are printed after its time."""
        self._step += 1
        remarks: list[str] = []
        self._print(f"{self._step:2}  {title:{WIDTH}}", end="", flush=True)
        began = time.monotonic()
        try:
            yield remarks.append
        except trio.Cancelled:
            self._print(self._paint("31", "  interrupted"))
            raise
        except BaseException:
            self._print(self._paint("31", "  failed"))
            raise
        self.checks += 1
        self._print(self._paint("32", f"{time.monotonic() - began:6.1f} s  ") + "".join(remarks))

    def heading(self, text: str) -> None:
        self._print(self._paint("1", text) + "\n")

    def command(self, words: Sequence[str], answer: str) -> None:
        """Print a command as a user would type it, and the first lines of its answer."""
        self._print(self._paint("2", f"    $ {' '.join(words)}"))
        for line in answer.rstrip().splitlines()[:24]:
            self._print(f"      {line}".rstrip())

    def end(self, good: bool, text: str) -> None:
        self._print("\n" + self._paint("1;32" if good else "1;31", text))

    def _print(self, text: str, *, end: str = "\n", flush: bool = True) -> None:
        print(text, end=end, flush=flush)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text
