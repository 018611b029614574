"""Role: what the daemon needs of a node's role, whichever it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.http.server import TcpListener

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable

    from flared.config.settings import Config
    from flared.http.server import Listener, Server
    from flared.metrics import Durations, Metric


@dataclass(frozen=True, slots=True)
class Role:
    """A role whose rooms run, and the server that does not serve yet."""

    server: Server
    wait_ready: Callable[[], Awaitable[None]]
    """Returns when everything that is stored can be asked for."""
    describe: Callable[[], str]
    """The state in one line, for ``systemctl status``. From memory."""
    metrics: Callable[[], Iterable[Metric | Durations]]
    """The metrics of /metrics. From memory."""
    reload: Callable[[Config], None]
    """Take over what is in force now: only what ``RELOADED`` names has changed."""
    listen: Callable[[socket.socket], Listener] = TcpListener
    """Makes the Listener of the node's port."""
    s3: Server | None = None
    """Speaks S3, at a port of its own."""
    listen_s3: Callable[[socket.socket], Listener] = TcpListener
    """Makes the Listener of that port."""
    stop_others: Callable[[float], Awaitable[None]] | None = None
    """Stops the node's other processes, as ``server.stop`` does this one."""


RELOADED = frozenset(
    {
        "log", "tls", "ca_key", "secrets", "secret_file", "memory", "spill", "cache", "connections", "object_max",
        "quarantine", "requests_per_key", "requests_per_address", "audit_file", "audit_objects",
    }
)  # fmt: skip
"""Settings that may change while a node runs; all others need a restart."""


class Rate:
    """How often something that is counted happened each second, since the last sample."""

    def __init__(self, count: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._seen = count()
        self._at = clock()

    def sample(self) -> float:
        """Return the rate a second since the last call."""
        count, at = self._count(), self._clock()
        rate = (count - self._seen) / max(at - self._at, 1e-3)
        self._seen, self._at = count, at
        return rate
