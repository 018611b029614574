"""Run every client and print the table of ``docs/s3.md``.

``python -m tests.s3.clients [--install [--quick]] [NAME ...]``: ``--install`` only fetches the programs, with
``--quick`` only those that ``scripts/test`` runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.s3.clients.checks import CLIENTS
from tests.s3.clients.tools import Missing, install

ALL = "FLARE_ALL_CLIENTS"
"""What ``test_clients`` reads."""
TESTS = Path(__file__).with_name("test_clients.py")


class Results:
    """Hears from pytest how each client fared."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        words = report.nodeid.partition("[")[2].rstrip("]")
        scheme = "https" if words.startswith("https") else "http"
        name = words.removeprefix(f"{scheme}-")
        if report.failed:
            self.found[name, scheme] = "fails"
        elif report.skipped:
            self.found[name, scheme] = "not to be had"
        elif report.when == "call":
            self.found[name, scheme] = "works"


def main(arguments: list[str]) -> int:
    quick = "--quick" in arguments
    for sentence in install(quick=quick):
        print(sentence, file=sys.stderr)
    if "--install" in arguments:
        return 0
    os.environ[ALL] = "1"
    names = [name for name in arguments if not name.startswith("-")]
    results = Results()
    chosen = ["-k", " or ".join(names)] if names else []
    code = pytest.main(["-q", "-p", "no:cacheprovider", str(TESTS), *chosen], plugins=[results])
    print("| client | version | http | https |\n| --- | --- | --- | --- |")
    for client in CLIENTS:
        schemes = [results.found.get((client.name, scheme)) for scheme in ("http", "https")]
        if any(schemes):
            try:
                version = client.version()
            except (Missing, IndexError):
                version = ""
            print(f"| {client.name} | {version} | {' | '.join(said or '' for said in schemes)} |")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
