"""Start the app without the modules that typer would load in vain, and with all three standard streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

COMPLETE_VARIABLE = "_FLARECTL_COMPLETE"
"""The environment variable with which a shell asks for completions."""


def run() -> None:
    """Run the app on the process's arguments."""
    _open_closed_streams()
    _print_any_name()
    shell = os.environ.pop(COMPLETE_VARIABLE, "")
    with without("rich"):  # help pages and errors in plain text take a third of the time
        from flarectl.app import app
    if shell:
        from flarectl.completing import answer

        return answer(app, shell)
    app(prog_name="flarectl")


def _open_closed_streams() -> None:
    """Open the closed standard streams: otherwise a socket or file would get their descriptor and be written to.

    They are opened for the opposite direction, so that using one remains an error.
    """
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  # it lives as long as the process
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  # as above
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115  # as above


def _print_any_name() -> None:
    """Print keys as UTF-8 in any locale; a terminal without some letter gets it escaped."""
    if isinstance(sys.stdout, TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="backslashreplace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """Make imports inside the context fail for these modules, unless they were loaded before."""
    hidden = [name for name in modules if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to forbid an import
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
