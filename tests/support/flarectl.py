"""Running flarectl as a user does."""

from __future__ import annotations

import os
import subprocess
import sys


def flarectl(port: int, *arguments: str, code: int = 0) -> str:
    """Run it against the api node on ``port``; returns what it wrote to stdout. Fails on any other exit code."""
    environment = {
        **os.environ,
        "FLARE_ENDPOINT": f"http://127.0.0.1:{port}",
        "NO_COLOR": "1",
        "XDG_CONFIG_HOME": "/nonexistent",
    }
    command = [sys.executable, "-m", "flarectl", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == code, (
        f"{command} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout
