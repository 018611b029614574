"""Metrics: rooms count in plain integers; this turns them into Prometheus' text when /metrics is asked.

prometheus_client is imported only then: its import costs 40 ms and 6 MiB, an observation through it 2 us.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared import __version__

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

HISTOGRAM_BUCKETS = 24
OTHER_BUCKETS = "_other"
"""The label of all buckets that have no series of their own; no bucket can be called so."""
_SCALE = 8192  # the first bucket ends at 1/8192 s = 0.12 ms, the last at 1024 s


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric; ``labels`` are values for the metric's label names, in their order."""

    value: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter (its name ends in ``_total``) or a gauge, with all its values."""

    name: str
    help: str
    samples: Sequence[Sample]
    labels: tuple[str, ...] = ()


class Histogram:
    """How long something took, in buckets that double from 0.12 ms on. 0.2 us an observation."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (HISTOGRAM_BUCKETS + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        self.seconds += seconds
        self.counts[min(int(seconds * _SCALE).bit_length(), HISTOGRAM_BUCKETS)] += 1

    def buckets(self) -> Iterator[tuple[str, int]]:
        """(upper bound in seconds, how many at or below it), as Prometheus wants them."""
        total = 0
        for number, count in enumerate(self.counts):
            total += count
            yield ("+Inf" if number == HISTOGRAM_BUCKETS else repr((1 << number) / _SCALE)), total


@dataclass(frozen=True, slots=True)
class Durations:
    """A family of histograms, by the values of one label."""

    name: str
    help: str
    label: str
    histograms: dict[str, Histogram]


def number(value: float, name: str, help: str) -> Metric:  # noqa: A002  # Prometheus' own word
    """A metric without labels."""
    return Metric(name, help, (Sample(value),))


def about(role: str) -> Metric:
    help_text = "1, with the version and the role of this node."
    return Metric("flare_build_info", help_text, (Sample(1, (__version__, role)),), ("version", "role"))


def render_metrics(families: Iterable[Metric | Durations]) -> tuple[str, bytes]:
    """The content type and the text of all families."""
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(list(families)))
    ProcessCollector(registry=registry)
    return CONTENT_TYPE_LATEST, generate_latest(registry)


class _Collector:
    def __init__(self, families: list[Metric | Durations]) -> None:
        self._families = families

    def collect(self) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for family in self._families:
            if isinstance(family, Durations):
                histogram = HistogramMetricFamily(family.name, family.help, labels=[family.label])
                for label, values in family.histograms.items():
                    histogram.add_metric([label], buckets=list(values.buckets()), sum_value=values.seconds)
                yield histogram
                continue
            kind = CounterMetricFamily if family.name.endswith("_total") else GaugeMetricFamily
            plain = kind(family.name, family.help, labels=family.labels)
            for sample in family.samples:
                plain.add_metric(sample.labels, sample.value)
            yield plain
