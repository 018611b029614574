"""``flared doctor``: gather, diagnose, print."""

from __future__ import annotations

import json
import os
import shutil
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from flared.commands.doctor.checks import CHECKS
from flared.commands.doctor.gather import default_files, gather
from flared.findings import diagnose, screen, worst

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH_MAX = 120


def run_doctor(files: Sequence[Path], *, as_json: bool) -> int:
    """Examine the nodes of these TOML files, or of all in /etc/flare. Return the severity of the worst finding."""
    findings = diagnose(CHECKS, gather(files or default_files()))
    if as_json:
        lines = [json.dumps(finding.record()) for finding in findings]
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_MAX
        lines = screen(findings, min(width, WIDTH_MAX))
    _print(lines)
    return int(worst(findings))


def _print(lines: Sequence[str]) -> None:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the locale may lack a character of a path
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:  # the reader has stopped; the interpreter's last flush must not print an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
