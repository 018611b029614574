"""Running flarectl as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def flarectl(port: int, *arguments: str, code: int = 0, environment: Mapping[str, str] | None = None) -> str:
    """Run it against the api node on ``port``; returns what it wrote to stdout. Fails on any other exit code."""
    around = {
        **os.environ,
        "FLARE_ENDPOINT": f"http://127.0.0.1:{port}",
        "NO_COLOR": "1",
        "XDG_CONFIG_HOME": "/nonexistent",
        **(environment or {}),
    }
    command = [sys.executable, "-m", "flarectl", *arguments]
    done = subprocess.run(command, env=around, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == code, (
        f"{command} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout


def create_key(port: int, secret_file: Path, name: str, *grants: str) -> tuple[str, str]:
    """Create an access key with these options; returns its id and its secret."""
    made = flarectl(port, "key", "create", name, *grants, "--json", environment={"FLARE_SECRET_FILE": str(secret_file)})
    record = json.loads(made)
    return record["id"], record["secret"]
