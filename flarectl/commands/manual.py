"""flarectl help"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import typer

from flarectl import completing

if TYPE_CHECKING:
    from pathlib import Path

WORDS = typer.Argument(
    None, metavar="[COMMAND | flared | flared.toml]", show_default=False, autocompletion=completing.commands
)
PAGER = "less"


def help_page(words: list[str] = WORDS) -> None:
    """Open the manual, or what it says about a command.

    Also that of the daemon (flared) and of its TOML file (flared.toml), wherever Flare is installed.
    """
    from flarectl import render
    from flarectl.errors import NotFound
    from flarectl.manual import PAGES, entry_text, find_page, page_text, read_page

    name = " ".join(words or ())
    page = find_page(name if name in PAGES else "flarectl")
    on_terminal = sys.stdout.isatty()
    columns = shutil.get_terminal_size().columns if on_terminal else 80
    if name and name not in PAGES:
        text = entry_text(read_page(page), name, columns)
        if not text:
            raise NotFound(f"the manual has no command {name}", hints=["flarectl --help lists the commands"])
        return render.say(text)
    if on_terminal and _open_in_man(page):
        return None
    text = page_text(read_page(page), columns)
    return None if on_terminal and _open_in_pager(text) else render.say(text.rstrip("\n"))


def _open_in_man(page: Path) -> bool:
    """Show the page with man; return False if that is not possible."""
    return bool(shutil.which("man")) and subprocess.run(["man", "-l", str(page)], check=False).returncode == 0


def _open_in_pager(text: str) -> bool:
    pager = os.environ.get("PAGER") or PAGER
    if not shutil.which(pager.split()[0]):
        return False
    return subprocess.run(pager.split(), input=text.encode(), check=False).returncode == 0
