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

from bench.processes import cpu_seconds_between, thread_times

LUA = Path(__file__).parent / "lua"
CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class SmallLoad:
    """The results of wrk; times in milliseconds, CPU in microseconds a request."""

    rate: float
    p50: float
    p90: float
    p99: float
    failed: int
    """Requests without a good answer."""
    refused: int
    """Of these, requests that were answered with a 4xx or 5xx."""
    server_cpu: tuple[float, ...]
    """Of each process watched."""
    client_cpu: float


def find_wrk() -> str:
    path = shutil.which("wrk")
    if path is None:
        raise SystemExit("the benchmark needs wrk as its client: apt-get install wrk")
    return path


def measure(
    port: int,
    script: str,
    arguments: Sequence[object],
    *,
    seconds: float,
    pids: Sequence[int] = (),
    connections: int = CONNECTIONS,
    threads: int = 1,
    policy: int = os.SCHED_OTHER,
    scheme: str = "http",
) -> SmallLoad:
    """Load the server for a while, from this many connections; ``pids`` are the processes whose CPU is counted.

    Under the ``policy`` SCHED_BATCH the client does not take the CPU from the server whenever an answer arrives.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as whole:
        whole.write((LUA / script).read_text() + (LUA / "done.lua").read_text())
        whole.flush()
        command = [find_wrk(), f"-t{threads}", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
        command += ["-s", whole.name, f"{scheme}://127.0.0.1:{port}/", "--", *map(str, arguments)]
        ours = _children_cpu()
        before = [thread_times(pid) for pid in pids]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: os.sched_setscheduler(0, policy, os.sched_param(0)),
        )
        spent = [cpu_seconds_between(start, thread_times(pid)) for pid, start in zip(pids, before, strict=True)]
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
        failed=counted["failed"] + counted["refused"],
        refused=counted["refused"],
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
