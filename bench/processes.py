"""The cost of processes: CPU to the nanosecond, and memory, of a process and all its children."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Threads = dict[tuple[int, int], int]
"""Nanoseconds on a CPU so far of each thread: (process, thread)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """In bytes: resident, and the part of it that no file stands behind."""

    rss: int
    anonymous: int


def thread_times(pid: int) -> Threads:
    """CPU so far of every thread of the process and its children (``schedstat``, which does not count in ticks)."""
    times: Threads = {}
    for process in process_tree(pid):
        for thread in _threads(process):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                times[process, thread] = int(Path(f"/proc/{process}/task/{thread}/schedstat").read_text().split()[0])
    return times


def cpu_seconds_between(before: Threads, after: Threads) -> float:
    """CPU spent between two looks. A thread that ended in between had been idle for seconds: it is left out."""
    return sum(spent - before.get(thread, 0) for thread, spent in after.items()) / 1e9


def memory_of(pids: Iterable[int]) -> Memory:
    """Memory of these processes and their children together."""
    rss = anonymous = 0
    for pid in pids:
        for process in process_tree(pid):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    rss += int(line.split()[1]) * 1024
                elif line.startswith("RssAnon:"):
                    anonymous += int(line.split()[1]) * 1024
    return Memory(rss, anonymous)


def process_tree(pid: int) -> Iterator[int]:
    """The process and all below it: an api node may have workers."""
    yield pid
    for thread in _threads(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                yield from process_tree(int(child))


def _threads(pid: int) -> list[int]:
    return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
