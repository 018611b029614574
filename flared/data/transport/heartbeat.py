"""HeartbeatSender: reports to every api node that this data node is alive, how full it is, and damage it has found.

Each api node has its own task, so that a dead one delays no other. Damage is repeated until that api node has
accepted it.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from flared import __version__
from flared.access.keys import API_AUDIENCE, Keyring, authorization
from flared.data.mark import mark_fields, parse_mark
from flared.data.report import report_fields
from flared.errors import FlareError, NodeUnreachable
from flared.http.error_body import parse_error
from flared.http.json_body import parse_json
from flared.http.messages import encode_fields
from flared.http.pool import Pool, PoolSettings
from flared.http.stream import Stream, connect_tcp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from flared.data.mark import SeenMark
    from flared.data.volume.values import DataStatus
    from flared.names import NodeName

log = logging.getLogger(__name__)

BEAT_SECONDS = 3.0
"""An api node suspects a data node after three missed heartbeats."""

DAMAGE_PER_BEAT = 1000
DAMAGE_MAX = 100_000
"""Most names kept for an api node that does not answer; the next scrub finds the others again."""

ANSWER_BYTES_MAX = 64 * 1024
PATH = "/cluster/heartbeat"


@dataclass(frozen=True, slots=True)
class HeartbeatSettings:
    name: NodeName
    apis: Sequence[str]
    """``host:port`` of each api node."""
    address: str
    """The address at which the api nodes reach this node, ``host:port``."""
    zone: str
    instance: str
    """Random for each start, so that an api node notices two processes with one name."""


class MarkKeeper(Protocol):
    """Stores the marks of api nodes' metadata; ``Marks`` is one."""

    def keep(self, mark: SeenMark) -> None: ...

    def seen(self) -> list[SeenMark]: ...


class Reporter(Protocol):
    """The source of the report; ``Volumes`` is one."""

    @property
    def cluster(self) -> str: ...

    def set_cluster(self, cluster: str) -> None: ...

    def status(self) -> DataStatus: ...

    def take_damage(self) -> list[str]: ...

    @property
    def marks(self) -> MarkKeeper: ...


class HeartbeatSender:
    """Sends heartbeats until cancelled."""

    def __init__(
        self,
        settings: HeartbeatSettings,
        volumes: Reporter,
        keyring: Keyring,
        *,
        connect: Callable[[str], Awaitable[Stream]] = connect_tcp,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._volumes = volumes
        self._keyring = keyring
        self._beats = [_Beat(Pool(api, _PATIENCE, connect)) for api in settings.apis]

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for beat in self._beats:
                nursery.start_soon(self._keep_beating, beat)

    def failures(self) -> list[str]:
        """Return a sentence for each api node that does not accept our heartbeats."""
        return [beat.failure for beat in self._beats if beat.failure]

    async def _keep_beating(self, beat: _Beat) -> None:
        while True:
            due = trio.current_time() + BEAT_SECONDS
            try:
                await self._send(beat)
            except FlareError as error:
                beat.mark_failed(str(error))
            else:
                beat.mark_ok()
            await trio.sleep_until(due)

    async def _send(self, beat: _Beat) -> None:
        self._share_damage()
        damage = beat.damage[:DAMAGE_PER_BEAT]
        body = json.dumps(self._report(damage)).encode()
        async with beat.pool.request("POST", PATH, self._fields(), (body,), repeatable=True) as response:
            answer = await response.body.read_all(ANSWER_BYTES_MAX)
            if response.status != 200:
                said = parse_error(answer).message or repr(answer[:200])
                raise NodeUnreachable(beat.pool.address, f"answered {response.status}: {said}")
        self._take_answer(beat, answer)
        del beat.damage[: len(damage)]

    def _fields(self) -> bytes:
        fields, token = [("content-type", "application/json")], self._keyring.token(API_AUDIENCE)
        return encode_fields([*fields, ("authorization", authorization(token))] if token else fields)

    def _share_damage(self) -> None:
        found = self._volumes.take_damage()
        for beat in self._beats:
            beat.damage += found[: DAMAGE_MAX - len(beat.damage)]

    def _report(self, damage: Sequence[str]) -> dict[str, object]:
        settings = self._settings
        status = self._volumes.status()
        return {
            "name": settings.name,
            "address": settings.address,
            "zone": settings.zone,
            "version": __version__,
            "cluster": self._volumes.cluster or None,
            "instance": settings.instance,
            "time": self._clock(),
            "volumes": [report_fields(volume) for volume in status.volumes],
            "pieces": status.pieces,
            "marks": [mark_fields(mark) for mark in self._volumes.marks.seen()],
            "damage": damage,
        }

    def _take_answer(self, beat: _Beat, raw: bytes) -> None:
        """Take the cluster's id from the first answer, because a volume belongs to one cluster for good; and the
        metadata's mark from each answer that has one."""
        answer = _parse_answer(raw)
        cluster = answer.get("cluster")
        if not isinstance(cluster, str):
            raise NodeUnreachable(beat.pool.address, "its answer names no cluster")
        if cluster != self._volumes.cluster:
            self._volumes.set_cluster(cluster)
            log.info("event=cluster_joined cluster=%s", cluster)
        if answer.get("mark") is not None:
            self._volumes.marks.keep(parse_mark(answer["mark"]))


class _Beat:
    """One api node: its connection, the damage that it has not accepted yet, and the last failure."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.damage: list[str] = []
        self.failure = ""

    def mark_failed(self, message: str) -> None:
        """Log the failure, once until it changes."""
        if message != self.failure:
            self.failure = message
            log.warning("event=heartbeat_failed api=%s message=%r", self.pool.address, message)

    def mark_ok(self) -> None:
        if self.failure:
            self.failure = ""
            log.info("event=heartbeat_heard api=%s", self.pool.address)


_PATIENCE = PoolSettings(connections_max=1, connect_seconds=2.0, stall_seconds=2.0)


def _parse_answer(raw: bytes) -> dict[str, object]:
    """Return the answer to a heartbeat; empty if it is not valid."""
    try:
        answer = parse_json(raw)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
