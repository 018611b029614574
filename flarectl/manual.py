"""The manual pages as text: found beside the installed program, where man does not look, and shown without man.

The pages use a few of troff's requests, and this module knows only these.
``tests/unit/flarectl/test_manual_text.py`` checks that.
"""

from __future__ import annotations

import re
import sys
import sysconfig
import textwrap
from pathlib import Path

from flarectl.errors import NotFound

PAGES = {"flarectl": 1, "flared": 8, "flared.toml": 5}
INDENT = 7
COLUMNS_MAX = 100

_ESCAPES = {
    r"\-": "-", r"\&": "", r"\ ": " ", r"\(aq": "'", r"\(dq": '"', r"\(bu": "*", r"\(em": "--", r"\e": "\\", r"\|": "",
}  # fmt: skip
_ESCAPE = re.compile(r"\\f(?:\[\w*\]|\(..|.)|\\\(..|\\.")
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
_TAG = ".TP"


def find_page(name: str) -> Path:
    """Return the page's file: in the source, a virtual environment, or the package. Raise NotFound if there is none."""
    file = f"{name}.{PAGES[name]}"
    installed = f"share/man/man{PAGES[name]}/{file}"
    data = sysconfig.get_path("data")
    places = [Path(__file__).parents[1] / "man" / file, Path(data, installed), Path(sys.prefix, installed)]
    places += [Path("/usr", f"{installed}{end}") for end in ("", ".gz")]
    for place in places:
        if place.exists():
            return place
    raise NotFound(f"the manual page {name}({PAGES[name]}) is not installed here")


def read_page(path: Path) -> str:
    if path.suffix == ".gz":
        import gzip

        return gzip.decompress(path.read_bytes()).decode()
    return path.read_text("utf-8")


def page_text(source: str, columns: int) -> str:
    """Return the page as text of this width."""
    return "\n".join(_Layout(min(columns, COLUMNS_MAX)).lines(source)) + "\n"


def entry_text(source: str, command: str, columns: int) -> str:
    """Return the entries of one command, or of all that begin with its name, in COMMANDS; empty if there is none."""
    commands = source.partition("\n.SH COMMANDS\n")[2].partition("\n.SH ")[0]
    entries = commands.split(f"{_TAG}\n")[1:]
    mine = [entry for entry in entries if (_plain(entry.partition("\n")[0]) + " ").startswith(f"{command} ")]
    return "\n".join(_Layout(min(columns, COLUMNS_MAX)).lines("".join(f"{_TAG}\n{entry}" for entry in mine)))


class _Layout:
    """Turns lines of troff into lines of text."""

    def __init__(self, columns: int) -> None:
        self._columns = max(40, columns)
        self._out: list[str] = []
        self._words: list[str] = []
        self._indent = INDENT
        self._is_tag = self._as_it_is = self._in_table = False
        self._is_headed = False
        """True until text follows the last heading."""

    def lines(self, source: str) -> list[str]:
        for line in source.splitlines():
            self._take(line)
        self._break()
        return self._out

    def _take(self, line: str) -> None:
        request, _, rest = line.partition(" ")
        if line.startswith(("'\\\"", '.\\"')):  # a comment
            return
        if request in (".SH", ".SS"):
            self._heading(_plain(line), 0 if request == ".SH" else 3)
        elif request == ".TP":
            self._paragraph(INDENT)
            self._is_tag = True
        elif request in (".PP", ".IP"):
            self._paragraph(INDENT if request == ".PP" else 2 * INDENT)
        elif request in (".nf", ".fi"):
            self._break()
            self._as_it_is = request == ".nf"
        elif request in (".TS", ".TE"):
            self._break()
            self._in_table = self._as_it_is = request == ".TS"
        elif request == ".br":
            self._break()
        elif request == ".TH":
            title = [_escaped(word) for word in _arguments(rest)]
            self._out += [f"{title[0]}({title[1]})", ""]
        elif not (self._in_table and re.fullmatch(r"[lcr ]+\.", line)):  # the line with a table's format
            self._text(_plain(line))

    def _text(self, text: str) -> None:
        self._is_headed = False
        if self._is_tag:
            self._out += textwrap.wrap(
                text, self._columns, initial_indent=" " * INDENT, subsequent_indent=" " * (INDENT + 4)
            )
            self._is_tag, self._indent = False, 2 * INDENT
        elif self._as_it_is:
            self._out.append(" " * self._indent + text.replace("\t", "   "))
        else:
            self._words.append(text)

    def _heading(self, text: str, indent: int) -> None:
        self._paragraph(INDENT)
        self._out.append(" " * indent + text)
        self._is_headed = True

    def _paragraph(self, indent: int) -> None:
        self._break()
        if self._out and self._out[-1] and not self._is_headed:
            self._out.append("")
        self._indent = indent

    def _break(self) -> None:
        """End the line that is being filled."""
        if self._words:
            margin = " " * self._indent
            text = " ".join(self._words)
            self._out += textwrap.wrap(
                text, self._columns, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False
            )
            self._words = []


def _plain(line: str) -> str:
    """Return the text of a line without its fonts."""
    request, _, rest = line.partition(" ")
    if not line.startswith("."):
        return _escaped(line)
    words = [_escaped(word) for word in _arguments(rest)]
    # Requests of two letters alternate between two fonts and put no space between the words.
    return ("" if request in (".BR", ".RB", ".BI", ".IB", ".RI", ".IR") else " ").join(words)


def _arguments(rest: str) -> list[str]:
    # An escaped space does not end the word.
    hidden = rest.replace("\\ ", "\\\0")
    found = (match[1].replace('""', '"') if match[1] is not None else match[2] for match in _ARGUMENT.finditer(hidden))
    return [word.replace("\\\0", "\\ ") for word in found]


def _escaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[0], "" if match[0].startswith("\\f") else match[0]), text)
