"""Connections from outside that prove nothing keep no other client out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.hostile.outside import NOT_POSSIBLE


def test_a_thousand_strangers_keep_no_client_out() -> None:
    command = [sys.executable, "-m", "tests.hostile.strangers"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == NOT_POSSIBLE:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
