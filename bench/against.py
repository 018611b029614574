"""This tree measured against another installed version: ``python -m bench --against VENV``.

Both versions are up at the same time, each on a cluster of its own, and are loaded in turns for about a second each.
Only ratios within such a pair are compared: the speed of one machine swings by two within minutes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import large, small
from bench.pairs import Pair, Run, median_of, ratio_of
from bench.processes import Memory, cpu_seconds_between, memory_of, thread_times
from bench.report import machine
from tests.support.bodies import body
from tests.support.daemons import API, Cluster, Toml, running
from tests.support.filler import fill, put_requests

MIB = 1024 * 1024
SMALL = 4096
TINY = 26
MANY = 30_000
"""Objects of which the api node's memory holds an eighth."""
FEW = 2_000
"""Objects that all fit into the api node's memory."""
PATTERN = "/object/all-%05d"
MISSING_PATTERN = "/object/missing-%05d"
SECONDS = 1.0
PAIRS = 8
PAIRS_QUICK = 2
BATCH = os.SCHED_BATCH
"""Of the clients: their wake-ups do not take the CPU from the server, whichever version it is."""
CPU_US_MIN = 3.0
"""An operation that costs a process less does not involve it: what it does is its heartbeat."""
OURS = (sys.executable, "-m", "flared")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    pairs: int
    large_size: int


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a load that is put on either version in turns."""

    name: str
    title: str
    load: Callable[[Cluster, Scale], Run]
    pairs_max: int = 1000


@dataclass(frozen=True, slots=True)
class Stage:
    """A pair of clusters, and the rows measured on it."""

    name: str
    rows: Sequence[Row]
    nodes: int = 1
    scheme: str = "replica:1"
    fills: bool = True
    """Store ``MANY`` objects before the first row."""
    workers: tuple[int, int] | None = None
    """Workers of the api node, here and there: both clusters are of this tree then."""


@dataclass
class Result:
    """The results of one row."""

    name: str
    title: str
    pairs: list[Pair] = field(default_factory=list)


def small_row(
    name: str,
    title: str,
    script: str,
    arguments: Callable[[], list[object]],
    *,
    connections: int = small.CONNECTIONS,
    threads: int = 1,
    refused: bool = False,
) -> Row:
    """A row that wrk measures; ``arguments`` are made anew for every run. ``refused``: every answer is to be a 404."""

    def load(cluster: Cluster, _: Scale) -> Run:
        measured = small.measure(
            cluster.daemons[API].port,
            script,
            arguments(),
            seconds=SECONDS,
            pids=daemon_pids(cluster),
            connections=connections,
            threads=threads,
            policy=BATCH,
        )
        failed = measured.failed - (measured.refused if refused else 0)
        assert not failed, f"{title}: {failed} requests failed\n{cluster.log_tail(API)}"
        assert bool(measured.refused) == refused, f"{title}: {measured.refused} requests were refused"
        api, *data = measured.server_cpu
        return Run(measured.rate, measured.p50, measured.p99, api, sum(data), measured.client_cpu)

    return Row(name, title, load)


def put_row(name: str, title: str, *, connections: int = small.CONNECTIONS) -> Row:
    return small_row(name, title, "put.lua", lambda: [SMALL, secrets.token_hex(4)], connections=connections)


def get_row(name: str, title: str, count: int, *, connections: int = small.CONNECTIONS) -> Row:
    return small_row(name, title, "get.lua", lambda: [count, PATTERN], connections=connections)


def large_row(name: str, title: str, transfer: Callable[[int, int], large.LargeLoad]) -> Row:
    """A row of one large body; an operation is the whole of it."""

    def load(cluster: Cluster, scale: Scale) -> Run:
        pids = daemon_pids(cluster)
        before = [thread_times(pid) for pid in pids]
        rate = transfer(cluster.daemons[API].port, scale.large_size).rate
        spent = [cpu_seconds_between(start, thread_times(pid)) for pid, start in zip(pids, before, strict=True)]
        return Run(rate / scale.large_size, api_cpu=spent[0] * 1e6, data_cpu=sum(spent[1:]) * 1e6)

    return Row(name, title, load, pairs_max=5)


def put_large(port: int, size: int) -> large.LargeLoad:
    return large.put(port, "/object/large", size, policy=BATCH)


def get_large(port: int, size: int) -> large.LargeLoad:
    return large.get(port, "/object/large", size, policy=BATCH)


STAGES = [
    Stage(
        "one data node, replica:1",
        [
            put_row("put", "PUT 4 KiB"),
            get_row("get", f"GET 4 KiB of {MANY} keys", MANY),
            get_row("get-memory", "GET 4 KiB from memory", FEW),
            small_row(
                "missing",
                "GET missing, 100 conn.",
                "get.lua",
                lambda: [FEW, MISSING_PATTERN],
                connections=100,
                refused=True,
            ),
            put_row("put-1000", "PUT 4 KiB, 1000 conn.", connections=1000),
            get_row("get-1000", "GET 4 KiB, 1000 conn.", MANY, connections=1000),
        ],
    ),
    Stage(
        "three data nodes, replica:3",
        [
            put_row("put-replica3", "PUT 4 KiB, replica:3"),
            get_row("get-replica3", f"GET of {MANY} keys, replica:3", MANY),
            small_row(
                "cycle-replica3",
                "put+get+delete 26 B, 16 cl.",
                "cycle.lua",
                lambda: [TINY, secrets.token_hex(4)],
                connections=16,
                threads=16,
            ),
        ],
        nodes=3,
        scheme="replica:3",
    ),
    Stage(
        "one data node, workers = 2 against 1 of this tree",
        [
            get_row("workers-get", f"GET of {MANY} keys, 2 workers", MANY),
            put_row("workers-put", "PUT 4 KiB, 2 workers"),
        ],
        workers=(1, 2),
    ),
    Stage(
        "one data node, large bodies",
        [large_row("put-large", "PUT large", put_large), large_row("get-large", "GET large", get_large)],
        fills=False,
    ),
]
NAMES = [row.name for stage in STAGES for row in stage.rows]


def run_against(
    other: Path, directory: Path, *, only: Sequence[str] | None, pairs: int | None, quick: bool, json_path: Path
) -> None:
    """Measure every row, print the table as it grows, write ``json_path``. SystemExit if there is no other version."""
    theirs = (str(find_flared(other)),)
    scale = Scale(pairs or (PAIRS_QUICK if quick else PAIRS), (256 if quick else 1024) * MIB)
    versions = {"theirs": describe_version(theirs), "ours": describe_version(OURS)}
    print(f"theirs: {versions['theirs']}\nours:   {versions['ours']}")
    if interpreter_version(theirs) != interpreter_version(OURS):
        print("CAUTION: these are two builds of Python; make VENV with the same one, or that is measured too")
    print("ratios are ours to theirs: the median over pairs of runs (and its quartiles); CPU is of an operation")
    print(HEADING)
    results: list[Result] = []
    memory: dict[str, tuple[Memory, Memory]] = {}
    for number, stage in enumerate(STAGES):
        rows = [row for row in stage.rows if only is None or row.name in only]
        if not rows:
            continue
        print(f"-- {stage.name}")
        if stage.workers and not takes_workers(directory):
            print("   skipped: the configuration of this tree has no 'workers' yet")
            continue
        with both_running(stage, theirs, directory / str(number)) as clusters:
            for row in rows:
                result = measure_row(row, clusters, scale)
                results.append(result)
                print(describe(result), flush=True)
            before, now = memory[stage.name] = (
                memory_of(daemon_pids(clusters[0])),
                memory_of(daemon_pids(clusters[1])),
            )
            print(f"   memory of all processes, MiB: RSS {before.rss / MIB:.0f} -> {now.rss / MIB:.0f}, "
                  f"anonymous {before.anonymous / MIB:.0f} -> {now.anonymous / MIB:.0f}")  # fmt: skip
    write_json(json_path, versions, results, memory)


def measure_row(row: Row, clusters: tuple[Cluster, Cluster], scale: Scale) -> Result:
    """Load both in turns: one run of each to warm up, then the pairs."""
    result = Result(row.name, row.title)
    for number in range(min(scale.pairs, row.pairs_max) + 1):
        pair = Pair(*(row.load(cluster, scale) for cluster in clusters))
        for cluster in clusters:
            cluster.check_alive()
        if number:
            result.pairs.append(pair)
    return result


@contextmanager
def both_running(stage: Stage, theirs: tuple[str, ...], directory: Path) -> Iterator[tuple[Cluster, Cluster]]:
    """Theirs and ours, started and filled; with ``stage.workers`` both are ours."""
    commands = (OURS, OURS) if stage.workers else (theirs, OURS)
    with ExitStack() as stack:
        clusters = []
        for side, command in enumerate(commands):
            api: Toml = {"workers": stage.workers[side]} if stage.workers else {}
            # Another version must not import this tree.
            environment = {} if command == OURS else {"PYTHONPATH": ""}
            cluster = Cluster(
                directory / ("theirs", "ours")[side],
                stage.nodes,
                stage.scheme,
                api=api,
                command=command,
                environment=environment,
            )
            clusters.append(stack.enter_context(running(cluster)))
            if stage.fills:
                keys = ((PATTERN % number).removeprefix("/object/") for number in range(MANY))
                fill(cluster.daemons[API].port, put_requests("default", keys, body("get", SMALL - len("all-00000"))))
        yield clusters[0], clusters[1]


def daemon_pids(cluster: Cluster) -> list[int]:
    """The api node's first."""
    return [cluster.daemons[name].pid for name in (API, *cluster.data_names())]


def find_flared(other: Path) -> Path:
    path = other / "bin" / "flared"
    if not path.is_file():
        raise SystemExit(f"{other} has no bin/flared: give a virtual environment in which a version is installed")
    return path.resolve()


def describe_version(command: tuple[str, ...]) -> str:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    return f"{done.stdout.strip()} on {interpreter_version(command)} ({' '.join(command)})"


def interpreter_version(command: tuple[str, ...]) -> str:
    """The Python that this runs on: two builds of it differ by more than many changes do."""
    interpreter = Path(command[0]).with_name("python")
    if not interpreter.is_file():
        return "Python of unknown version"
    asked = "import sys; print('Python', sys.version.split()[0], sys.version[-20:].split(']')[0].rpartition('[')[2])"
    return subprocess.run([interpreter, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()


def takes_workers(directory: Path) -> bool:
    """Return whether the configuration of this tree knows ``workers``."""
    probe = Cluster(directory / "probe", api={"workers": 2}, command=OURS)
    probe.prepare()
    check = [*OURS, "check-config", str(probe.daemons[API].config)]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


HEADING = (
    f"{'':<30} {'theirs':>8} {'ours':>8}  {'ratio':<19} {'cpu api':<19} {'cpu data':<19} "
    f"{'api us':<13} {'data us':<13} {'p50 ms':<13} {'p99 ms':<13}"
)


def describe(result: Result) -> str:
    """One line of the table."""
    theirs, ours = [pair.theirs for pair in result.pairs], [pair.ours for pair in result.pairs]
    cells = [f"{result.title:<30} {median_of(theirs, 'rate'):>8.4g} {median_of(ours, 'rate'):>8.4g} "]
    for figure in ("rate", "api_cpu", "data_cpu"):
        is_idle = figure != "rate" and median_of(theirs, figure) < CPU_US_MIN
        cells.append(f"{'' if is_idle else str(ratio_of(result.pairs, figure)):<19}")
    for figure in ("api_cpu", "data_cpu", "p50", "p99"):
        before, now = median_of(theirs, figure), median_of(ours, figure)
        cells.append(f"{f'{before:.3g} > {now:.3g}' if before else '':<13}")
    return " ".join(cells)


def write_json(
    path: Path, versions: dict[str, str], results: Sequence[Result], memory: dict[str, tuple[Memory, Memory]]
) -> None:
    """Everything that was measured, so that other figures can be taken from it."""
    figures = [figure.name for figure in dataclasses.fields(Run)]
    rows = [
        {
            "name": result.name,
            "title": result.title,
            "ratios": {figure: dataclasses.asdict(ratio) for figure in figures
                       if (ratio := ratio_of(result.pairs, figure))},
            "pairs": [dataclasses.asdict(pair) for pair in result.pairs],
        }
        for result in results
    ]  # fmt: skip
    stages = {
        name: {"theirs": dataclasses.asdict(before), "ours": dataclasses.asdict(now)}
        for name, (before, now) in memory.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"machine": machine(), "versions": versions, "rows": rows, "memory_bytes": stages}, indent=1) + "\n"
    )
    print(f"written to {path}")
