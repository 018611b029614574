"""Role: what the daemon needs of a node's role, whichever it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.metrics import Durations, Metric, render_metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from flared.config.settings import Config
    from flared.http.messages import Handler, Reply, Request
    from flared.http.server import Server


@dataclass(frozen=True, slots=True)
class Role:
    """A role whose rooms run, and the server that does not serve yet."""

    server: Server
    wait_ready: Callable[[], Awaitable[None]]
    """Returns when everything that is stored can be asked for."""
    describe: Callable[[], str]
    """The state in one line, for ``systemctl status``. From memory."""
    metrics: Callable[[], Iterable[Metric | Durations]]
    """What /metrics tells. From memory."""
    reload: Callable[[Config], None]
    """Take over what is in force now: only what ``RELOADED`` names has changed."""


RELOADED = frozenset({"log", "secrets", "secret_file", "memory", "cache", "connections", "object_max"})
"""What may change while a node runs; all else wants a restart."""


class Rate:
    """Something counted, as how often it happened each second since the last look."""

    def __init__(self, count: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._seen = count()
        self._at = clock()

    def look(self) -> float:
        count, at = self._count(), self._clock()
        rate = (count - self._seen) / max(at - self._at, 1e-3)
        self._seen, self._at = count, at
        return rate


def metrics_handler(metrics: Callable[[], Iterable[Metric | Durations]]) -> Handler:
    """The handler of a listener that tells /metrics, and nothing else."""

    async def answer(request: Request, reply: Reply) -> None:
        if request.path != "/metrics":
            await reply.send(404, b"content-type: text/plain\r\n", b"there is only /metrics here\n")
        elif request.method not in ("GET", "HEAD"):
            await reply.send(405, b"content-type: text/plain\r\nallow: GET, HEAD\r\n", b"GET /metrics\n")
        else:
            content_type, text = render_metrics(metrics())
            await reply.send(200, [("content-type", content_type)], text)

    return answer
