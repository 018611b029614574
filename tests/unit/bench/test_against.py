"""The parts of the comparison of two versions."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType

import pytest

from bench.against import find_flared
from bench.pairs import Pair, Run, ratio_of
from bench.processes import cpu_seconds_between, memory_of, thread_times
from bench.profiled import is_start


def test_a_ratio_is_taken_within_each_pair() -> None:
    # The machine halves its speed from one pair to the next: no ratio of medians would find the 2.
    pairs = [Pair(Run(rate), Run(2 * rate)) for rate in (100.0, 50.0, 400.0)]
    ratio = ratio_of(pairs, "rate")
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 2.0)
    assert ratio_of(pairs, "api_cpu") is None


def test_the_spread_is_that_of_the_pairs() -> None:
    ratio = ratio_of([Pair(Run(1.0), Run(value)) for value in (5.0, 1.0, 3.0, 2.0, 4.0)], "rate")
    assert str(ratio) == "3.00 (2.00-4.00)"
    assert str(ratio_of([Pair(Run(2.0), Run(3.0))], "rate")) == "1.50 (1.50-1.50)"


def test_cpu_and_memory_of_this_process() -> None:
    before = thread_times(os.getpid())
    sum(range(3_000_000))
    spent = cpu_seconds_between(before, thread_times(os.getpid()))
    assert 0 < spent < 60
    memory = memory_of([os.getpid()])
    assert 0 < memory.anonymous <= memory.rss


def test_a_directory_without_flared_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=str(tmp_path)):
        find_flared(tmp_path)


def test_a_coroutine_that_goes_on_is_not_a_call() -> None:
    seen: list[tuple[str, bool]] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name in ("wait", "plain"):
            seen.append((frame.f_code.co_name, is_start(frame.f_code, frame.f_lasti)))

    def plain() -> None:
        pass

    class Twice:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield
            yield

    async def wait() -> None:
        plain()
        await Twice()

    coroutine = wait()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for _ in range(2):
            coroutine.send(None)
    finally:
        sys.setprofile(before)
        coroutine.close()
    assert seen == [("wait", True), ("plain", True), ("wait", False)]
