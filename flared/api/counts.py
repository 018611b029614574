"""Counts: what is counted of the requests of a server, whichever face and way answered them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flared.http.parsing import METHODS
from flared.metrics import OTHER_BUCKETS, Durations, Histogram, Metric, Sample

if TYPE_CHECKING:
    from flared.api.router import Call

BUCKET_SERIES_MAX = 400
METHOD_NAMES = frozenset(METHODS.values())
OTHER_METHODS = "_other"
"""The label of every method that HTTP does not define: a stranger can think of any number of them."""


NO_CALL = "_none"
"""The label of requests for what no face has."""


class RequestCounts:
    """By method and status, by method and duration, by bucket and method, by call and status."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self._durations: dict[str, Histogram] = {}
        self._in_buckets: dict[tuple[str, str], int] = {}
        self._refused: dict[str, int] = {}
        self._calls: dict[tuple[str, str, int], int] = {}

    def count(self, method: str, status: int, seconds: float, bucket: str) -> None:
        """Count an answer. ``bucket`` is the one that the request was about if it succeeded, else empty: no one makes
        labels of names that are not there."""
        counts = self._counts
        if (method, status) not in counts:
            if method not in METHOD_NAMES:
                method = OTHER_METHODS
            counts.setdefault((method, status), 0)
            self._durations.setdefault(method, Histogram())
        counts[method, status] += 1
        self._durations[method].observe(seconds)
        if bucket:
            in_buckets = self._in_buckets
            if (bucket, method) not in in_buckets:
                if len(in_buckets) >= BUCKET_SERIES_MAX:
                    bucket = OTHER_BUCKETS
                in_buckets.setdefault((bucket, method), 0)
            in_buckets[bucket, method] += 1

    def count_call(self, face: str, call: Call | None, status: int) -> None:
        """Count an answer by what was asked for; ``face`` is the one that says so if there is no such call."""
        key = (face, NO_CALL, status) if call is None else (call.face, call.name, status)
        self._calls[key] = self._calls.get(key, 0) + 1

    def count_refusal(self, reason: str) -> None:
        """Count a caller that may not do what it asks for; ``reason`` is the code of the error."""
        self._refused[reason] = self._refused.get(reason, 0) + 1

    def describe(self) -> dict[str, object]:
        """Return what was counted, as JSON has it; for ``add``."""
        return {
            "answers": [[method, status, count] for (method, status), count in self._counts.items()],
            "durations": {method: [held.seconds, held.counts] for method, held in self._durations.items()},
            "buckets": [[bucket, method, count] for (bucket, method), count in self._in_buckets.items()],
            "refused": self._refused,
            "calls": [[*key, count] for key, count in self._calls.items()],
        }

    def add(self, described: dict[str, Any]) -> None:  # type: ignore[explicit-any]  # JSON of another process of ours
        """Count what another process has ``described``."""
        for method, status, count in described["answers"]:
            self._counts[method, status] = self._counts.get((method, status), 0) + count
        for method, (seconds, counts) in described["durations"].items():
            durations = self._durations.setdefault(method, Histogram())
            durations.seconds += seconds
            durations.counts = [ours + theirs for ours, theirs in zip(durations.counts, counts, strict=True)]
        for bucket, method, count in described["buckets"]:
            self._in_buckets[bucket, method] = self._in_buckets.get((bucket, method), 0) + count
        for reason, count in described["refused"].items():
            self._refused[reason] = self._refused.get(reason, 0) + count
        for face, name, status, count in described["calls"]:
            key = face, name, status
            self._calls[key] = self._calls.get(key, 0) + count

    def metrics(self) -> list[Metric | Durations]:
        answers = [Sample(count, (method, str(status))) for (method, status), count in self._counts.items()]
        return [
            Metric(
                "flare_requests_total",
                "Requests answered; status 0: the client was gone.",
                answers,
                ("method", "status"),
            ),
            Durations(
                "flare_request_seconds",
                "From the head of a request to the end of its reply.",
                "method",
                self._durations,
            ),
            Metric(
                "flare_bucket_requests_total",
                "Requests about a bucket or its objects that succeeded.",
                [Sample(count, key) for key, count in self._in_buckets.items()],
                ("bucket", "method"),
            ),
            Metric(
                "flare_calls_total",
                "Requests answered, by what they asked for.",
                [Sample(count, (face, name, str(status))) for (face, name, status), count in self._calls.items()],
                ("face", "call", "status"),
            ),
            Metric(
                "flare_requests_refused_total",
                "Requests of callers that may not do what they asked for, by the code of the error.",
                [Sample(count, (reason,)) for reason, count in self._refused.items()],
                ("reason",),
            ),
        ]
