"""Measure that memory stays bounded under any load, and that slow uploads do not hold up the others.

    python -m tests.process.memory_bound [--clients 64] [--mebibytes 256] [--big-gibibytes 20] [--slow 100]
        [--only PART]

Parts: ``idle``, ``clients`` (many large uploads and downloads at once), ``big`` (one huge object with replica:1,
made and checked unit by unit, kept nowhere) and ``slow`` (uploads at 1 KiB/s beside others). Memory is private memory.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from tests.support.bodies import Stream, body
from tests.support.client import Client, object_path
from tests.support.daemons import Cluster, private_bytes, running
from tests.support.scratch import scratch_directory

MIB = 1024 * 1024
BUSY_MAX = 200 * MIB
IDLE_MAX = 60 * MIB
SLOWER_MAX = 0.10
SLOW_ROUNDS = 5
PARTS = ("idle", "clients", "big", "slow")


class MemoryWatch:
    """The largest private memory of each daemon while the block runs."""

    def __init__(self, cluster: Cluster) -> None:
        self._pids = {daemon.name: daemon.pid for daemon in cluster.running()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.maxima = dict.fromkeys(self._pids, 0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def check(self, limit: int, what: str) -> None:
        print(f"{what}: " + ", ".join(f"{name} {size / MIB:.0f} MiB" for name, size in self.maxima.items()), flush=True)
        too_much = {name: f"{size / MIB:.0f} MiB" for name, size in self.maxima.items() if size > limit}
        assert not too_much, f"{what}: more than {limit // MIB} MiB: {too_much}"

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self._look()
        self._look()

    def _look(self) -> None:
        for name, pid in self._pids.items():
            with contextlib.suppress(OSError):
                self.maxima[name] = max(self.maxima[name], private_bytes(pid))


def measure_idle(cluster: Cluster) -> None:
    with MemoryWatch(cluster) as watch:
        time.sleep(1)
    watch.check(IDLE_MAX, "idle")


def measure_clients(cluster: Cluster, *, clients: int, size: int) -> None:
    """All upload at once, then all download at once."""
    streams = {f"large-{number}": Stream(f"client {number}", size) for number in range(clients)}

    def upload(client: Client, key: str) -> str | None:
        answer = client.put_stream(key, streams[key])
        return None if answer.status == 201 else f"put {key}: {answer.status} {answer.body[:200]!r}"

    def download(client: Client, key: str) -> str | None:
        return None if client.get_stream(key, streams[key]) else f"get {key}: refused, cut short, or other bytes"

    for act, what in ((upload, "up"), (download, "down")):
        started = time.monotonic()
        with MemoryWatch(cluster) as watch:
            complaints = all_at_once(cluster, list(streams), act)
        rate = clients * size / (time.monotonic() - started) / MIB
        assert not complaints, "\n".join(complaints)
        watch.check(BUSY_MAX, f"{clients} clients x {size // MIB} MiB {what}, {rate:.0f} MiB/s")
    delete_all(cluster, list(streams))


def measure_big(cluster: Cluster, *, size: int) -> None:
    stream = Stream("one big object", size)
    client = cluster.client(timeout=600)
    with MemoryWatch(cluster) as watch:
        answer = client.put_stream("big", stream)
        assert answer.status == 201, f"{answer.status} {answer.body[:300]!r}"
        assert answer.json()["size"] == size
        assert client.get_stream("big", stream), "the big object came back otherwise"
    watch.check(BUSY_MAX, f"one object of {size // MIB} MiB up and down")
    client.close()
    delete_all(cluster, ["big"])


def measure_slow(cluster: Cluster, *, slow: int, rounds: int, slower_max: float) -> None:
    """Others must not be slowed down by more than a tenth: compared in turns, against the machine's moods."""
    alone, beside = [], []
    for number in range(rounds):
        alone.append(mixed_work_seconds(cluster, f"alone-{number}"))
        with slow_uploads(cluster, slow), MemoryWatch(cluster) as watch:
            beside.append(mixed_work_seconds(cluster, f"beside-{number}"))
        watch.check(BUSY_MAX, f"beside {slow} slow uploads")
    slower = statistics.median(beside) / statistics.median(alone) - 1
    print(f"beside {slow} uploads at 1 KiB/s others take {slower:+.1%} time", flush=True)
    assert slower <= slower_max, f"alone {alone}, beside slow uploads {beside}"


def mixed_work_seconds(cluster: Cluster, name: str) -> float:
    """Return the time that four clients need for small and large puts and gets."""
    keys = [f"{name}-{number}" for number in range(4)]

    def work(client: Client, key: str) -> str | None:
        stream = Stream(key, 48 * MIB)
        good = client.put_stream(f"{key}/large", stream).status == 201 and client.get_stream(f"{key}/large", stream)
        for number in range(150):
            small = body(f"{key}/{number}", 4096)
            good = good and client.put(f"{key}/{number}", small).status == 201
            good = good and client.get(f"{key}/{number}").body == small
        return None if good else f"{key}: a right request failed"

    started = time.monotonic()
    complaints = all_at_once(cluster, keys, work)
    seconds = time.monotonic() - started
    assert not complaints, "\n".join(complaints)
    delete_all(cluster, [f"{key}/large" for key in keys])
    return seconds


@contextlib.contextmanager
def slow_uploads(cluster: Cluster, count: int) -> Iterator[None]:
    """``count`` uploads that send 1 KiB a second each while the block runs, of bodies that take far longer."""
    port = cluster.daemons["api"].port
    head = f"PUT {object_path('slow/%d')} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {64 * MIB}\r\n\r\n"
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(1.0):
            for slow in sockets:
                with contextlib.suppress(OSError):
                    slow.send(bytes(1024))

    for number, slow in enumerate(sockets):
        # Each already has some of its body in the api node's hands, as uploads that go on for hours have.
        slow.sendall((head % number).encode() + bytes(300 * 1024))
    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    time.sleep(2.5)
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for slow in sockets:
            slow.close()


def all_at_once(cluster: Cluster, keys: list[str], act: Callable[[Client, str], str | None]) -> list[str]:
    complaints: list[str] = []

    def work(key: str) -> None:
        client = cluster.client(timeout=600)
        try:
            complaint = act(client, key)
        except Exception as error:
            complaint = f"{key}: {error!r}"
        if complaint:
            complaints.append(complaint)
        client.close()

    threads = [threading.Thread(target=work, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cluster.check_alive()
    return complaints


def delete_all(cluster: Cluster, keys: list[str]) -> None:
    client = cluster.client()
    for key in keys:
        assert client.delete(key).status == 204
    client.close()


def run(
    directory: Path,
    *,
    parts: tuple[str, ...],
    clients: int,
    size: int,
    big: int,
    slow: int,
    slow_rounds: int = SLOW_ROUNDS,
    slower_max: float = SLOWER_MAX,
) -> None:
    # The space of deleted objects is wanted back soon: the parts together store more than a small disk holds.
    with running(Cluster(directory, api={"cluster": {"garbage_grace": "2s"}})) as cluster:
        if "idle" in parts:
            measure_idle(cluster)
        if "slow" in parts:
            measure_slow(cluster, slow=slow, rounds=slow_rounds, slower_max=slower_max)
        if "clients" in parts:
            measure_clients(cluster, clients=clients, size=size)
        if "big" in parts:
            measure_big(cluster, size=big)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.process.memory_bound")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--big-gibibytes", type=float, default=20)
    parser.add_argument("--slow", type=int, default=100)
    parser.add_argument("--only", choices=PARTS, action="append")
    options = parser.parse_args()
    with scratch_directory() as directory:
        run(
            directory,
            parts=tuple(options.only or PARTS),
            clients=options.clients,
            size=options.mebibytes * MIB,
            big=int(options.big_gibibytes * 1024 * MIB),
            slow=options.slow,
        )


if __name__ == "__main__":
    main()
