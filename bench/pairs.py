"""Paired runs of two versions: a ratio is taken within each pair, for one machine differs from minute to minute."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """One short run against one version: operations (or bytes) a second, milliseconds, microseconds an operation."""

    rate: float
    p50: float = 0.0
    p99: float = 0.0
    api_cpu: float = 0.0
    """Of the api node, its workers among it."""
    data_cpu: float = 0.0
    """Of all data nodes together."""
    client_cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Runs one right after the other; ``ours`` is the version under test."""

    theirs: Run
    ours: Run


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours to theirs: the median over all pairs, and the quartiles around it."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def ratio_of(pairs: Sequence[Pair], figure: str) -> Ratio | None:
    """The ratio of one figure of ``Run``; None if it was not measured."""
    ratios = [
        getattr(pair.ours, figure) / getattr(pair.theirs, figure) for pair in pairs if getattr(pair.theirs, figure)
    ]
    if not ratios:
        return None
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Ratio(median, low, high)


def median_of(runs: Sequence[Run], figure: str) -> float:
    return statistics.median(getattr(run, figure) for run in runs)
