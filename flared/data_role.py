"""The data role: volumes behind the piece calls, and a heartbeat to the api nodes."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from flared.access.keys import Keyring
from flared.chunks.budget import MemoryBudget
from flared.config.settings import DataConfig
from flared.data.transport.heartbeat import HeartbeatSender, HeartbeatSettings
from flared.data.transport.service import DataService
from flared.data.volume.open import open_volumes
from flared.data.volume.values import DataSettings
from flared.data.volume.volumes import Volumes
from flared.http.address import host_names
from flared.http.server import InTurns, Server, ServerSettings
from flared.http.tls_context import TlsCaller
from flared.http.turns import open_turns
from flared.role import Rate, Role
from flared.systemd import NOT_HEARD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flared.config.settings import Config
    from flared.http.turns import Turns

CONNECTIONS_MAX = 1024
GIB = 1024**3
GATHERING = 16 * 1024 * 1024
"""Small batches that are still on their way in; a task takes those that find no room here."""
OPEN_SECONDS = 2.0
"""Volumes that open as fast as they should are waited for, so that the first heartbeat does not call them full. Those
that must be read through first are served, and reported, while they answer 503."""


@asynccontextmanager
async def open_data_role(config: DataConfig) -> AsyncIterator[Role]:
    """The data node, running, behind a server that does not serve yet. Raises Busy if another process has a volume."""
    # The turns begin first and end last: every append goes on in one.
    async with open_turns() as turns:
        volumes = await open_volumes(
            DataSettings(
                config.name,
                tuple(str(path) for path in config.volumes),
                segment_size=config.segment_size,
                reserve=config.reserve,
                direct=config.direct,
                new_volumes=config.new_volumes,
                scrub_period_seconds=config.scrub_period,
                quarantine_seconds=config.quarantine,
            ),
            turns,
        )
        async with _running(config, volumes, turns) as role:
            yield role


@asynccontextmanager
async def _running(config: DataConfig, volumes: Volumes, turns: Turns) -> AsyncIterator[Role]:
    keyring = Keyring(config.secrets)
    caller = TlsCaller(config.tls)
    instance = secrets.token_hex(8)
    hosts = host_names(config.hosts, config.listen)
    service = DataService(config.name, volumes, keyring, hosts=hosts, instance=instance)
    heartbeat = HeartbeatSender(
        HeartbeatSettings(
            config.name,
            [str(api) for api in config.api],
            str(config.advertise),
            config.zone,
            instance,
        ),
        volumes,
        keyring,
        connect=caller.connect,
    )
    in_turns = InTurns(turns, service, MemoryBudget(GATHERING))
    server = Server(service.handler, ServerSettings(connections_max=CONNECTIONS_MAX), in_turns=in_turns)
    service.attach_server(server)
    async with trio.open_nursery() as nursery:
        await nursery.start(volumes.run)
        with trio.move_on_after(OPEN_SECONDS):
            await volumes.wait_ready()
        nursery.start_soon(heartbeat.run)
        yield _role(volumes, heartbeat, service, server, keyring, caller)
        nursery.cancel_scope.cancel()


def _role(
    volumes: Volumes,
    heartbeat: HeartbeatSender,
    service: DataService,
    server: Server,
    keyring: Keyring,
    caller: TlsCaller,
) -> Role:
    rate = Rate(lambda: server.statistics().requests)

    def describe() -> str:
        status = volumes.status()
        free = sum(volume.free for volume in status.volumes) / GIB
        ailing = "".join(f", {volume.path} is {volume.state}" for volume in status.volumes if volume.state != "ok")
        failures = ", ".join(heartbeat.failures())
        unheard = f"{NOT_HEARD}{failures}" if failures else ""
        return f"{status.pieces} pieces, {rate.sample():.0f} requests/s, {free:.1f} GiB free{ailing}{unheard}"

    def reload(config: Config) -> None:
        assert isinstance(config, DataConfig)
        caller.load(config.tls)
        volumes.keep_quarantined(config.quarantine)
        keyring.change(config.secrets)

    return Role(server, volumes.wait_ready, describe, service.metrics, reload)
