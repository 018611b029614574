from __future__ import annotations

import trio
import trio.testing

from flared.http.metrics import metrics_handler
from flared.http.pool import Pool, PoolSettings
from flared.http.server import Server
from flared.metrics import number
from tests.support.memory_net import MemoryNetwork


async def test_the_listener_for_metrics_tells_nothing_else(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    server = Server(metrics_handler(lambda: [number(7, "flare_things", "Things.")]))
    pool = Pool("node:1", PoolSettings(), network.connect)

    async def call(method: str, target: str) -> tuple[int, bytes]:
        async with pool.request(method, target, [], ()) as response:
            return response.status, await response.body.read_all(1 << 20)

    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, [network.listen("node:1")])
        status, text = await call("GET", "/metrics")
        assert status == 200
        assert b"flare_things 7.0" in text
        assert (await call("POST", "/metrics"))[0] == 405
        assert (await call("GET", "/metrics?name=a"))[0] == 400
        assert (await call("GET", "/status"))[0] == 404
        nursery.cancel_scope.cancel()
