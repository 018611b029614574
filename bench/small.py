"""Small requests by wrk: rate, latency, and what each costs whom."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemons import cpu_seconds

LUA = Path(__file__).parent / "lua"
CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class SmallLoad:
    """What wrk saw; times in milliseconds, CPU in microseconds a request."""

    rate: float
    p50: float
    p90: float
    p99: float
    failed: int
    server_cpu: tuple[float, ...]
    """Of each process watched."""
    client_cpu: float


def find_wrk() -> str:
    path = shutil.which("wrk")
    if path is None:
        raise SystemExit("the benchmark needs wrk as its client: apt-get install wrk")
    return path


def measure(
    port: int, script: str, arguments: Sequence[object], *, seconds: float, pids: Sequence[int] = ()
) -> SmallLoad:
    """Load the server with 64 connections for a while; ``pids`` are the processes whose CPU is counted."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as whole:
        whole.write((LUA / script).read_text() + (LUA / "done.lua").read_text())
        whole.flush()
        command = [find_wrk(), "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
        command += ["-s", whole.name, f"http://127.0.0.1:{port}/", "--", *map(str, arguments)]
        ours = _children_cpu()
        before = [cpu_seconds([pid]) for pid in pids]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        spent = [cpu_seconds([pid]) - start for pid, start in zip(pids, before, strict=True)]
        client = _children_cpu() - ours
    result = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    assert result is not None, done.stdout + done.stderr
    counted: dict[str, int] = json.loads(result.removeprefix("RESULT "))
    requests = max(1, counted["requests"])
    return SmallLoad(
        rate=requests / counted["duration"] * 1e6,
        p50=counted["p50"] / 1e3,
        p90=counted["p90"] / 1e3,
        p99=counted["p99"] / 1e3,
        failed=counted["failed"],
        server_cpu=tuple(seconds / requests * 1e6 for seconds in spent),
        client_cpu=client / requests * 1e6,
    )


def write_files(directory: Path, pattern: str, count: int, size: int) -> None:
    """The files that nginx serves under ``pattern``."""
    for number in range(count):
        path = directory / (pattern % number).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
