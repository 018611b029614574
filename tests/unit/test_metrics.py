from __future__ import annotations

from flared.metrics import Durations, Histogram, Metric, Sample, number, render_metrics


def check(family: Metric | Durations, *lines: str) -> None:
    content_type, text = render_metrics([family])
    assert content_type.startswith("text/plain")
    got = [line for line in text.decode().splitlines() if not line.startswith("#")]
    assert [line for line in lines if line not in got] == []


def test_counters_and_gauges_keep_their_names() -> None:
    check(number(7, "flare_answers_total", "x"), "flare_answers_total 7.0")
    check(number(7, "flare_connections", "x"), "flare_connections 7.0")


def test_labels() -> None:
    check(Metric("flare_a_total", "x", [Sample(2, ("GET", "200"))], ("method", "status")),
          'flare_a_total{method="GET",status="200"} 2.0')  # fmt: skip


def test_a_histogram_is_cumulative_and_its_bounds_hold() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.0001, 0.001, 3.0, 1e9):
        histogram.observe(seconds)
    check(
        Durations("flare_seconds", "x", "method", {"GET": histogram}),
        'flare_seconds_bucket{le="0.0001220703125",method="GET"} 2.0',
        'flare_seconds_bucket{le="0.001953125",method="GET"} 3.0',
        'flare_seconds_bucket{le="4.0",method="GET"} 4.0',
        'flare_seconds_bucket{le="+Inf",method="GET"} 5.0',
        'flare_seconds_count{method="GET"} 5.0',
    )
