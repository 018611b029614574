"""The metrics of a data node, and their counters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flared.http.metrics import connection_metrics
from flared.metrics import Durations, Histogram, Metric, Sample, about, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flared.data.volume.values import VolumeStatus
    from flared.http.server import Server

CALLS = ("put", "get", "delete", "put_batch", "get_batch")


def _histograms() -> dict[str, Histogram]:
    return {call: Histogram() for call in CALLS}


@dataclass(slots=True)
class CallCounts:
    """Counts of the calls of a data node since its start; the service updates them."""

    stored: int = 0
    sent: int = 0
    deleted: int = 0
    refused: int = 0
    bytes_stored: int = 0
    bytes_sent: int = 0
    seconds: dict[str, Histogram] = field(default_factory=_histograms)
    """For each call the time until the pieces were durable or read."""


def data_metrics(
    counts: CallCounts, volumes: Sequence[VolumeStatus], server: Server | None
) -> Iterator[Metric | Durations]:
    """Return all metrics, from memory; without ``server`` none of connections."""
    yield Durations("flare_data_call_seconds", "How long calls took, until durable or read.", "call", counts.seconds)
    yield about("data")
    if server is not None:
        yield from connection_metrics(server.statistics())
    yield number(counts.stored, "flare_data_pieces_stored_total", "Pieces stored.")
    yield number(counts.sent, "flare_data_pieces_sent_total", "Pieces read and sent.")
    yield number(counts.deleted, "flare_data_pieces_deleted_total", "Pieces deleted.")
    yield number(counts.refused, "flare_data_refused_total", "Calls answered with an error.")
    yield number(counts.bytes_stored, "flare_data_received_bytes_total", "Bytes of pieces stored.")
    yield number(counts.bytes_sent, "flare_data_sent_bytes_total", "Bytes of pieces sent.")
    yield _of_volumes("capacity_bytes", volumes, [volume.capacity for volume in volumes])
    yield _of_volumes("used_bytes", volumes, [volume.used for volume in volumes])
    yield _of_volumes("free_bytes", volumes, [volume.free for volume in volumes])
    yield _of_volumes("pieces", volumes, [volume.pieces for volume in volumes])
    yield _of_volumes("quarantined_pieces", volumes, [volume.quarantined_pieces for volume in volumes])
    yield _of_volumes("quarantined_bytes", volumes, [volume.quarantined_bytes for volume in volumes])
    yield _of_volumes("usable", volumes, [volume.state == "ok" for volume in volumes])
    yield _of_volumes("syncs_total", volumes, [volume.syncs for volume in volumes])
    yield _of_volumes("records_total", volumes, [volume.records for volume in volumes])


def _of_volumes(what: str, volumes: Sequence[VolumeStatus], values: Sequence[int]) -> Metric:
    """Return one series for each volume of the TOML file."""
    samples = [Sample(value, (volume.path,)) for volume, value in zip(volumes, values, strict=True)]
    words = what.removesuffix("_total").replace("_", " ")
    return Metric(f"flare_volume_{what}", f"Of each volume: {words}.", samples, ("path",))
