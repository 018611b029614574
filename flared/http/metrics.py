"""What /metrics tells of a server's connections, the same of both roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.metrics import Metric, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flared.http.server import ServerStatistics


def connection_metrics(http: ServerStatistics) -> Iterator[Metric]:
    yield number(http.connections, "flare_connections", "Connections open now.")
    yield number(http.accepted, "flare_connections_accepted_total", "Connections accepted.")
    yield number(http.shed, "flare_connections_shed_total", "Connections refused because there were too many.")
    yield number(http.swept, "flare_connections_swept_total", "Connections cut: their client was idle or too slow.")
    yield number(http.bytes_received, "flare_received_bytes_total", "Bytes received, with heads and bodies.")
    yield number(http.bytes_sent, "flare_sent_bytes_total", "Bytes sent, with heads and bodies.")
