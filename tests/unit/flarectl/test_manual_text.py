"""``flarectl help``: the manual pages as text, wherever Flare is installed and whether or not there is man."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from flarectl import manual
from tests.unit.flarectl.conftest import Run

REQUESTS = {
    ".TH", ".SH", ".SS", ".TP", ".IP", ".PP", ".B", ".I", ".BR", ".RB", ".BI", ".IB", ".RI", ".IR", ".nf", ".fi",
    ".TS", ".TE", ".br",
}  # fmt: skip


@pytest.mark.parametrize("name", manual.PAGES)
def test_a_page_uses_only_what_is_known_here(name: str) -> None:
    source = manual.read_page(manual.find_page(name))
    used = {line.split(" ", maxsplit=1)[0] for line in source.splitlines() if re.match(r"\.[A-Za-z]", line)}
    assert used <= REQUESTS
    for columns in (40, 80, 200):
        text = manual.page_text(source, columns)
        assert not re.search(r"\\f|\\\(|\\-|^\.[A-Z]", text, re.MULTILINE)


@pytest.mark.skipif(not shutil.which("man"), reason="needs man")
@pytest.mark.parametrize("name", manual.PAGES)
def test_a_page_has_the_same_words_as_man_shows(name: str) -> None:
    page = manual.find_page(name)
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "MANWIDTH": "150", "MAN_KEEP_FORMATTING": ""}
    command = ["man", "--no-hyphenation", "--no-justification", "-P", "cat", "-l", str(page)]
    theirs = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    if not theirs.strip():
        pytest.skip("man shows nothing here")

    def words(text: str) -> list[str]:
        text = re.sub(r".\x08", "", text)
        return re.sub(r"\s", "", text[text.index("NAME") :]).replace("`", "'").split("SEEALSO")[:1]

    assert words(manual.page_text(manual.read_page(page), 100)) == words(theirs)


def test_help_shows_the_page_or_what_it_says_of_a_command(run: Run) -> None:
    assert run("help").out.startswith("FLARECTL(1)\n\nNAME\n")
    assert run("help", "flared").out.startswith("FLARED(8)\n")
    assert run("help", "flared.toml").out.startswith("FLARED.TOML(5)\n")
    assert run("help", "put").out.startswith("       put [-r] SOURCE... [TARGET]\n")
    assert run("help", "config").out.count("       config ") == 4
    assert run("help", "node", "rm").out.startswith("       node rm [--force [--yes]]")
    missing = run("help", "frobnicate")
    assert (missing.code, missing.out) == (4, "")


def test_the_wheel_holds_the_pages_where_man_looks(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", build, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    if "No module named 'hatchling'" in done.stderr:
        pytest.skip("hatchling is not installed here")
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(tmp_path / done.stdout.split()[-1]).namelist()
    for name, section in manual.PAGES.items():
        assert any(path.endswith(f".data/data/share/man/man{section}/{name}.{section}") for path in names)
