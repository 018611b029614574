"""``flared doctor``: gather, diagnose, print."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from flared.doctor.checks import CHECKS
from flared.doctor.gather import default_files, gather
from flared.findings import Finding, Severity, diagnose, summary, worst

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH_MAX = 120


def run_doctor(files: Sequence[Path], *, as_json: bool) -> int:
    """Look at the nodes of these TOML files, or of all in /etc/flare; the severity of the worst finding."""
    findings = diagnose(CHECKS, gather(files or default_files()))
    if as_json:
        for finding in findings:
            print(json.dumps(finding.record()))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_MAX
        for line in screen(findings, min(width, WIDTH_MAX)):
            print(line)
    return int(worst(findings))


def screen(findings: Sequence[Finding], width: int) -> list[str]:
    """What is wrong and what to type; a command is never broken, so that it can be copied."""
    lines = []
    for finding in findings:
        if finding.severity is Severity.OK:
            continue
        head = f"{finding.severity.word:<8}  {finding.code}  "
        indent = " " * len(head)
        lines += textwrap.wrap(
            finding.cause, width, initial_indent=head, subsequent_indent=indent, break_long_words=False
        )
        lines.append(f"{indent}> {finding.command}")
    return [*lines, summary(findings)]
