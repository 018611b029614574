"""``flared doctor``: gather, diagnose, print."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

from flared.doctor.checks import CHECKS
from flared.doctor.gather import default_files, gather
from flared.findings import diagnose, screen, worst

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
