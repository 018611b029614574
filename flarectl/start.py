"""Start the app without what typer and httpx would load in vain, and end it with an exit code whatever happens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def run() -> None:
    """Run the app on the process's arguments."""
    with without("rich"):  # help pages and mistakes in plain text take a third of the time
        from flarectl.app import app
    try:
        app(prog_name="flarectl")
    finally:
        _silence_output()


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """Imports in here find these modules not installed, unless they were loaded before."""
    hidden = [name for name in modules if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to forbid an import
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _silence_output() -> None:
    """What cannot be written must not make the interpreter complain once more at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
