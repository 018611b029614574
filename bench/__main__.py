"""python -m bench [--quick] [--only NAME] [--json FILE] [--dir DIR] [--against VENV | --faces | --tls] [--pairs N]

Prints each figure as it comes, with its ratio to nginx and its goal, and writes all of them as JSON; with --against,
with its ratio to another installed version; with --faces, of signed calls and S3 to plain ones; with --tls, of TLS to
plain HTTP.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import against, faces, large, machine, small, tls
from bench.report import DURABILITY, HEADING, Figure, text, write_json
from bench.yardstick import Yardstick
from flared.data.pieces import CODEC_PLAIN, describe_piece
from tests.support.bodies import body
from tests.support.client import Client
from tests.support.daemons import API, Cluster, cpu_seconds, private_bytes, running
from tests.support.filler import fill, put_requests
from tests.support.pieces import data_fields
from tests.support.scratch import REAL_DISK, scratch_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.large import LargeLoad
    from bench.small import SmallLoad

MIB = 1024 * 1024
SMALL = 4096
FILES = 2000
MANY = 32_000
"""Objects of which the api node's memory holds few."""
OBJECT_PATTERN = "/object/get-%05d"
MANY_PATTERN = "/object/all-%05d"
PIECE_PATTERN = "/chunk/" + "0" * 59 + "%05d.00000000000000aa.0"


@dataclass
class Bench:
    """The servers under measurement, and how long to look at each."""

    cluster: Cluster
    yardstick: Yardstick
    directory: Path
    quick: bool
    figures: list[Figure] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return 3 if self.quick else 10

    @property
    def large_size(self) -> int:
        return 256 * MIB if self.quick else 1024 * MIB

    @property
    def port(self) -> int:
        return self.cluster.daemons[API].port

    @property
    def data_port(self) -> int:
        return self.cluster.daemons["data1"].port

    @property
    def data_authorization(self) -> str:
        return data_fields(self.cluster, "data1")["authorization"]

    def add(self, figure: Figure) -> None:
        self.figures.append(figure)
        print(text(figure), flush=True)

    def nginx_small_rate(self) -> float:
        """The yardstick of small requests, now."""
        seconds = 1 if self.quick else 3
        return small.measure(self.yardstick.port, "get.lua", [FILES, OBJECT_PATTERN], seconds=seconds).rate

    def measure_small(self, name: str, port: int, script: str, arguments: list[object], *, goal: float) -> SmallLoad:
        """Add a row; the yardstick is the mean of nginx before and after, as one machine differs between minutes."""
        watched = [daemon for daemon in self.cluster.running() if port == self.port or daemon.port == port]
        before = self.nginx_small_rate()
        load = small.measure(port, script, arguments, seconds=self.seconds, pids=[daemon.pid for daemon in watched])
        yardstick = (before + self.nginx_small_rate()) / 2
        details = {"p50 ms": load.p50, "p90 ms": load.p90, "p99 ms": load.p99}
        details |= {f"{daemon.name} cpu us": cpu for daemon, cpu in zip(watched, load.server_cpu, strict=True)}
        details |= {"client cpu us": load.client_cpu, "nginx k/s": yardstick / 1e3}
        if load.failed:
            details["FAILED"] = load.failed
        self.add(Figure(name, load.rate / 1e3, "k/s", yardstick / 1e3, goal=goal, details=details))
        return load

    def measure_large(self, name: str, run: Callable[[], LargeLoad], *, goal: float, clients: int = 1) -> None:
        """Add a row; the yardstick is nginx with as many clients, in turns with ours."""
        repeat = 2 if self.quick else 4
        daemons = [daemon.pid for daemon in self.cluster.running()]
        loads, yardsticks, spent = [], [], 0.0
        for _ in range(repeat):
            yardsticks.append(large.get(self.yardstick.port, "/large", self.large_size, clients=clients).rate)
            before = cpu_seconds(daemons)
            loads.append(run())
            spent += cpu_seconds(daemons) - before
        rate = statistics.median(load.rate for load in loads)
        yardstick = statistics.median(yardsticks)
        details = {
            "slowest": min(load.rate for load in loads) / 1e9,
            "cpu s/GiB": spent / repeat / (clients * self.large_size / 2**30),
            "client cpu s/GiB": statistics.median(load.client_cpu for load in loads),
            "nginx GB/s": yardstick / 1e9,
        }
        self.add(Figure(name, rate / 1e9, "GB/s", yardstick / 1e9, goal=goal, details=details))


def measure_machine(bench: Bench) -> None:
    size = bench.large_size
    bench.add(Figure("raw disk, O_DIRECT + fdatasync", machine.disk_write_rate(bench.directory, size) / 1e9, "GB/s"))
    median, p99 = machine.disk_sync_times(bench.directory, bench.seconds / 3)
    bench.add(Figure("raw disk, append 4 KiB + fdatasync", median, "ms", details={"p99 ms": p99}))
    bench.add(Figure("loopback, one stream", machine.loopback_rate(4 * size) / 1e9, "GB/s"))


def measure_small_put(bench: Bench) -> None:
    arguments: list[object] = [SMALL, secrets.token_hex(4)]
    load = bench.measure_small("PUT 4 KiB, api node", bench.port, "put.lua", arguments, goal=0.15)
    bench.add(Figure("  its 99th percentile", load.p99, "ms", goal=10, at_most=True))


def measure_small_get(bench: Bench) -> None:
    """Of few objects, which the api node soon has in memory, as nginx has its files; and of more than it can hold."""
    sets = ((FILES, "GET 4 KiB, api node", OBJECT_PATTERN), (MANY, f"GET 4 KiB, of {MANY} objects", MANY_PATTERN))
    for count, name, pattern in sets:
        keys = ((pattern % number).removeprefix("/object/") for number in range(count))
        fill(bench.port, put_requests("default", keys, body("get", SMALL - len("get-00000"))))
        bench.measure_small(name, bench.port, "get.lua", [count, pattern], goal=0.3)


def measure_data_put(bench: Bench) -> None:
    bodies = bench.directory / "bodies"
    bodies.write_bytes(b"".join(described(body(number, SMALL)) for number in range(FILES)))
    arguments: list[object] = [bodies, SMALL, secrets.token_hex(8), bench.data_authorization]
    bench.measure_small("PUT 4 KiB, data node alone", bench.data_port, "chunk_put.lua", arguments, goal=0.2)


def described(content: bytes) -> bytes:
    """A record of the file that chunk_put.lua reads."""
    piece = describe_piece("x", content, codec=CODEC_PLAIN, scheme="replica:1", plain_size=len(content))
    return piece.checksum.hex().encode() + piece.blocks.hex().encode() + content


def measure_data_get(bench: Bench) -> None:
    fill(bench.data_port, piece_requests(bench))
    arguments: list[object] = [FILES, PIECE_PATTERN, bench.data_authorization]
    bench.measure_small("GET 4 KiB, data node alone", bench.data_port, "get.lua", arguments, goal=0.5)


def piece_requests(bench: Bench) -> Iterator[bytes]:
    fields = f"host: localhost\r\nauthorization: {bench.data_authorization}\r\ncontent-length: {SMALL}\r\n\r\n"
    for number in range(FILES):
        yield f"PUT {PIECE_PATTERN % number} HTTP/1.1\r\n{fields}".encode() + body(f"piece {number}", SMALL)


def measure_large(bench: Bench) -> None:
    size, port = bench.large_size, bench.port
    name = f"{size // MIB} MiB"
    with open(bench.yardstick.files / "large", "wb") as file:
        file.writelines(body(number, 8 * MIB) for number in range(size // (8 * MIB)))
    large.get(bench.yardstick.port, "/large", size)  # into the page cache, as ours will be
    path = "/object/large"
    bench.measure_large(f"PUT {name}, one client", lambda: large.put(port, path, size), goal=0.3)
    cold = large.get(port, path, size)
    bench.add(Figure(f"GET {name}, its first time", cold.rate / 1e9, "GB/s"))
    bench.measure_large(f"GET {name}, one client", lambda: large.get(port, path, size), goal=0.65)
    bench.measure_large(
        f"GET {name}, four clients", lambda: large.get(port, path, size, clients=4), goal=0.65, clients=4
    )


def measure_memory(bench: Bench) -> None:
    for daemon in bench.cluster.running():
        memory = private_bytes(daemon.pid) / MIB
        bench.add(Figure(f"private memory now, {daemon.name}", memory, "MiB", goal=200, at_most=True))


def measure_idle(bench: Bench) -> None:
    for daemon in bench.cluster.running():
        memory = private_bytes(daemon.pid) / MIB
        bench.add(Figure(f"private memory idle, {daemon.name}", memory, "MiB", goal=60, at_most=True))


def measure_flarectl(bench: Bench) -> None:
    """Start-up in multiples of the bare interpreter's."""
    client = Client(bench.port)
    client.call("PUT", "/bucket/bench-few")  # the default one is full of what was measured before
    client.put("hello", b"hello", bucket="bench-few")
    client.close()
    repeat = 5 if bench.quick else 15
    bare = run_seconds([sys.executable, "-c", "pass"], repeat)
    endpoint = f"http://127.0.0.1:{bench.port}"
    for arguments, goal in ((["--version"], 4), (["--help"], 16), (["--endpoint", endpoint, "ls", "bench-few:"], 18)):
        seconds = run_seconds([sys.executable, "-m", "flarectl", *arguments], repeat)
        ratio = seconds / bare
        name = f"flarectl {'ls' if 'ls' in arguments else arguments[0]}"
        bench.add(
            Figure(name, ratio, "x", goal=goal, at_most=True, details={"ms": seconds * 1e3, "bare ms": bare * 1e3})
        )


MEASURES: dict[str, Callable[[Bench], None]] = {
    "idle": measure_idle,
    "machine": measure_machine,
    "small-put": measure_small_put,
    "small-get": measure_small_get,
    "data-put": measure_data_put,
    "data-get": measure_data_get,
    "large": measure_large,
    "memory": measure_memory,
    "flarectl": measure_flarectl,
}


def run_seconds(command: list[str], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Flare beside nginx and the raw disk.")
    parser.add_argument("--quick", action="store_true", help="shorter and smaller; noisier")
    parser.add_argument("--only", action="append", metavar="NAME", help="this measurement only; may be repeated")
    parser.add_argument("--json", type=Path, help="where the figures go; below build/ if not said")
    parser.add_argument("--dir", type=Path, default=REAL_DISK, help="work below this directory of a real disk")
    parser.add_argument(
        "--against", type=Path, metavar="VENV", help="measure against the version whose bin/flared is here"
    )
    parser.add_argument("--faces", action="store_true", help="measure signed calls and S3 against plain ones")
    parser.add_argument("--tls", action="store_true", help="measure TLS everywhere against plain HTTP")
    parser.add_argument(
        "--pairs", type=int, help="with --against, --faces and --tls: so many runs of either in each row"
    )
    options = parser.parse_args()
    known = against.NAMES if options.against else list(MEASURES)
    if unknown := set(options.only or ()) - set(known):
        parser.error(f"--only knows {', '.join(known)}; not {', '.join(sorted(unknown))}")
    if options.tls:
        with scratch_directory(below=options.dir) as directory:
            path = options.json or Path("build/bench-tls.json")
            tls.run_tls(directory, pairs=options.pairs, quick=options.quick, json_path=path)
    elif options.faces:
        with scratch_directory(below=options.dir) as directory:
            path = options.json or Path("build/bench-faces.json")
            faces.run_faces(directory, pairs=options.pairs, quick=options.quick, json_path=path)
    elif options.against:
        with scratch_directory(below=options.dir) as directory:
            against.run_against(
                options.against,
                directory,
                only=options.only,
                pairs=options.pairs,
                quick=options.quick,
                json_path=options.json or Path("build/bench-against.json"),
            )
    else:
        run_beside_nginx(options)


def run_beside_nginx(options: argparse.Namespace) -> None:
    with (
        scratch_directory(below=options.dir) as directory,
        Yardstick(directory / "nginx") as yardstick,
        running(Cluster(directory / "cluster")) as cluster,
    ):
        bench = Bench(cluster, yardstick, directory, options.quick)
        small.write_files(yardstick.files, OBJECT_PATTERN, FILES, SMALL)
        print(DURABILITY)
        print(HEADING)
        for name in options.only or MEASURES:
            MEASURES[name](bench)
        cluster.check_alive()
    path = options.json or Path("build/bench.json")
    write_json(path, bench.figures)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
