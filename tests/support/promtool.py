"""Prometheus' own checker, where there is one. ``scripts/test`` brings it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROMTOOL = shutil.which("promtool") or str(Path(sys.prefix) / "bin" / "promtool")

needs_promtool = pytest.mark.skipif(
    not Path(PROMTOOL).exists(), reason="promtool is not here: apt-get install prometheus"
)


def promtool(*arguments: str, text: str = "") -> None:
    """Fail with what it says unless it is content."""
    done = subprocess.run([PROMTOOL, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
