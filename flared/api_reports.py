"""Reports of an api node about itself: /status and /metrics, summed over its processes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from flared import __version__
from flared.api.admin.metrics import api_metrics
from flared.api.admin.status import describe_status
from flared.api.counts import RequestCounts
from flared.metrics import number
from flared.upkeep.status import find_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flared.api.entry import Entry
    from flared.config.settings import ApiConfig
    from flared.http.server import Server
    from flared.metrics import Durations, Metric
    from flared.objects.store import Store
    from flared.upkeep.membership.membership import Membership
    from flared.upkeep.workers import Upkeep
    from flared.workers.owner import Workers


@dataclass(slots=True)
class Reports:
    """What they are made of. ``server``, ``entries`` and ``workers`` are filled in as the node is wired."""

    config: ApiConfig
    store: Store
    membership: Membership
    upkeep: Upkeep
    certificates: Mapping[str, float]
    """When each certificate expires."""
    past: RequestCounts
    """Of workers that have ended."""
    entries: list[Entry] = field(default_factory=list)
    server: Server | None = None
    workers: Workers | None = None
    started: float = field(default_factory=trio.current_time)

    def status(self) -> dict[str, object]:
        config = self.config
        disk = shutil.disk_usage(config.metadata.parent)
        ours = {
            "name": config.name,
            "role": "api",
            "state": "online",
            "state_since_seconds": round(trio.current_time() - self.started, 1),
            "zone": "",
            "address": str(config.listen),
            "version": __version__,
            "used": disk.used,
            "capacity": disk.total,
            "last_seen_seconds": 0.0,
            "pieces": 0,
        }
        found = find_status(self.store, self.membership, self.upkeep)
        described = describe_status(found, ours, self.certificates)
        if self.workers is not None:
            described["workers"] = [worker._asdict() for worker in self.workers.list_workers()]
        return described

    def metrics(self) -> Iterator[Metric | Durations]:
        assert self.server is not None
        statistics, counts, workers = self.server.statistics(), RequestCounts(), self.workers
        for entry in self.entries:
            counts.add(entry.counts.describe())
        if workers is not None:
            counts.add(self.past.describe())
            workers.add_requests(counts)
            sums = workers.sum_server()
            statistics = replace(
                statistics, **{name: getattr(statistics, name) + count for name, count in sums.items()}
            )
        yield from counts.metrics()
        if workers is not None:
            help_text = "Processes of this node that serve clients beside the first one."
            yield number(len(workers.list_workers()), "flare_api_workers", help_text)
            help_text = "Workers that ended and were started again."
            yield number(workers.restarts, "flare_api_worker_restarts_total", help_text)
        now = find_status(self.store, self.membership, self.upkeep)
        yield from api_metrics(self.store, now, self.upkeep.statistics(), statistics, self.config.metadata.parent)
