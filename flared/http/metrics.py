"""Answer /metrics, and the metrics of a server's own connections, for both roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.metrics import Durations, Metric, number, render_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flared.http.messages import Handler, Reply, Request
    from flared.http.server import ServerStatistics

_TEXT = b"content-type: text/plain\r\n"


async def send_metrics(reply: Reply, families: Iterable[Metric | Durations]) -> None:
    """Answer with these metrics in the exposition format."""
    content_type, text = render_metrics(families)
    await reply.send(200, [("content-type", content_type)], text)


def metrics_handler(families: Callable[[], Iterable[Metric | Durations]]) -> Handler:
    """Return the handler of a listener that serves only /metrics."""

    async def answer(request: Request, reply: Reply) -> None:
        if request.path != "/metrics":
            await reply.send(404, _TEXT, b"there is only /metrics here\n")
        elif request.query:
            await reply.send(400, _TEXT, b"/metrics knows no query parameters\n")
        elif request.method not in ("GET", "HEAD"):
            await reply.send(405, _TEXT + b"allow: GET, HEAD\r\n", b"GET /metrics\n")
        else:
            await send_metrics(reply, families())

    return answer


def connection_metrics(http: ServerStatistics) -> Iterator[Metric]:
    yield number(http.connections, "flare_connections", "Connections open now.")
    yield number(http.accepted, "flare_connections_accepted_total", "Connections accepted.")
    yield number(http.shed, "flare_connections_shed_total", "Connections refused because there were too many.")
    yield number(http.strangers, "flare_connections_strangers", "Open connections on which nothing was proved yet.")
    yield number(http.evicted, "flare_connections_evicted_total", "Connections closed at rest: others found no room.")
    yield number(http.swept, "flare_connections_swept_total", "Connections cut: their client was idle or too slow.")
    if http.turns is not None:
        yield number(http.handed_over, "flare_requests_handed_over_total", "Requests that took a task: large or rare.")
        yield number(http.turns.turns, "flare_turns_total", "Turns of the event loop that answered small requests.")
        yield number(http.turns.events, "flare_turn_events_total", "Sockets handled in these turns.")
        yield number(http.turns.failures, "flare_turn_failures_total", "Bugs met in these turns; the log has them.")
    yield number(http.bytes_received, "flare_received_bytes_total", "Bytes received, with heads and bodies.")
    yield number(http.bytes_sent, "flare_sent_bytes_total", "Bytes sent, with heads and bodies.")
