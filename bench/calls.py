"""python -m bench.calls [--top N]: how many of the package's own functions one small PUT and one GET call, both ends.

An api node and a data node (replica:1) run under ``bench.profiled``. One request at a time goes over one connection,
so nothing is shared with other requests; the figure is the median of 15, for heartbeats and sweepers fall into some
(about ten calls a run, and a few hundred in the greatest). "Calls" are functions that begin; a coroutine that goes on
behind an await is a resumption. The GET is of a key that the api node does not hold in memory.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.profiled import VARIABLE
from tests.support.bodies import body
from tests.support.client import Answer, Client
from tests.support.daemons import API, Cluster, running
from tests.support.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SMALL = 4096
KEYS = [f"key{number}" for number in range(15)]
SETTLE_SECONDS = 0.2
"""After this time the rest of a request (a straggler's timer, a flush) is over."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One request, as one process saw it."""

    functions: Counter[str]
    """Calls by ``file:function``."""
    resumptions: int
    depth: int

    @property
    def calls(self) -> int:
        return self.functions.total()

    @property
    def files(self) -> set[str]:
        return {function.partition(":")[0] for function in self.functions}


def count(sockets: Sequence[Path], request: Callable[[], Answer]) -> list[Counted]:
    """The calls of each process for one request."""
    for path in sockets:
        ask(path, b"reset")
    answer = request()
    assert answer.status < 300, answer
    time.sleep(SETTLE_SECONDS)
    return [parse(ask(path, b"report")) for path in sockets]


def ask(path: Path, question: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(question)
        answer = b""
        while more := connection.recv(1 << 20):
            answer += more
        return answer


def parse(answer: bytes) -> Counted:
    report = json.loads(answer)
    functions = Counter({f"{file}:{function}": started for file, function, started, _ in report["rows"] if started})
    return Counted(functions, sum(row[3] for row in report["rows"]), report["depth"])


def describe(name: str, runs: Sequence[Sequence[Counted]], top: int) -> str:
    """The median run of all: its calls at each end, in how many files, how deep."""
    totals = [sum(counted.calls for counted in run) for run in runs]
    median = sorted(totals)[len(totals) // 2]
    api, data = runs[totals.index(median)]
    lines = [
        f"{name}: {median} calls (api {api.calls}, data {data.calls}) in {len(api.files | data.files)} files, "
        f"{max(api.depth, data.depth)} deep; {api.resumptions + data.resumptions} resumptions; "
        f"runs from {min(totals)} to {max(totals)}, median {statistics.median(totals):g}"
    ]
    for end, counted in (("api", api), ("data", data)):
        lines += [f"  {end:<5} {number:>4} {function}" for function, number in counted.functions.most_common(top)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.calls", description="Count calls of a small PUT and a GET.")
    parser.add_argument("--top", type=int, default=0, help="also the functions called most, so many of each end")
    options = parser.parse_args()
    with scratch_directory() as directory:
        cluster = Cluster(
            directory / "cluster",
            api={"limits": {"cache": 0}},
            command=(sys.executable, "-m", "bench.profiled"),
            environment={VARIABLE: str(directory / "calls")},
        )
        with running(cluster):
            sockets = [directory / f"calls.{cluster.daemons[name].pid}" for name in (API, "data1")]
            measure(cluster.client(), sockets, options.top)


def measure(client: Client, sockets: Sequence[Path], top: int) -> None:
    client.put("first", body("first", SMALL))  # opens connections
    client.get("first")
    puts = [count(sockets, lambda key=key: client.put(key, body(key, SMALL))) for key in KEYS]
    gets = [count(sockets, lambda key=key: client.get(key)) for key in KEYS]
    print(describe("PUT 4 KiB", puts, top))
    print(describe("GET 4 KiB", gets, top))


if __name__ == "__main__":
    main()
