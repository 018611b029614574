from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from flared.access.keys import API_AUDIENCE, Keyring, authorization, node_token
from flared.data.mark import SeenMark, mark_fields
from flared.data.report import VolumeReport
from flared.data.transport.heartbeat import BEAT_SECONDS, DAMAGE_PER_BEAT, HeartbeatSender, HeartbeatSettings
from flared.errors import ConfigError
from flared.http.server import Server
from flared.names import NodeName
from flared.upkeep.membership.heartbeat import parse_heartbeat
from tests.support.memory_net import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from flared.http.messages import Reply, Request

TOKEN = node_token(b"secret", API_AUDIENCE)
API = "api:8000"


GOOD = VolumeReport("v1", "/srv/flare", 100, 40, 60, "ok", pieces=7, state_seconds=5.0)
DEAD = VolumeReport("", "/dead", 0, 0, 0, "failed", state_seconds=5.0, pieces=7)


@dataclass(frozen=True)
class Status:
    volumes: Sequence[VolumeReport] = (GOOD, DEAD)
    pieces: int = 7


class MarkKeeper:
    """One volume whose disk is quick."""

    def __init__(self) -> None:
        self.kept: list[SeenMark] = []

    def keep(self, mark: SeenMark) -> None:
        self.kept.append(mark)

    def seen(self) -> list[SeenMark]:
        return self.kept[-1:]


class Disks:
    """The source of a heartbeat's report."""

    def __init__(self) -> None:
        self.cluster = ""
        self.damage: list[str] = []
        self.marks = MarkKeeper()

    def set_cluster(self, cluster: str) -> None:
        if self.cluster not in ("", cluster):
            raise ConfigError([f"belongs to {self.cluster}"])
        self.cluster = cluster

    def status(self) -> Status:
        return Status()

    def take_damage(self) -> list[str]:
        damage, self.damage = self.damage, []
        return damage


class Api:
    def __init__(self) -> None:
        self.reports: list[dict[str, object]] = []
        self.authorizations: set[str | None] = set()
        self.cluster = "c1"
        self.status = 200
        self.mark: object = None

    async def handler(self, request: Request, reply: Reply) -> None:
        assert (request.method, request.path) == ("POST", "/cluster/heartbeat")
        report = json.loads(await request.body.read_all(1 << 20))
        self.authorizations.add(request.fields.get("authorization"))
        if self.status == 200:
            self.reports.append(report)
        answer: dict[str, object] = {"cluster": self.cluster}
        if self.mark is not None:
            answer["mark"] = self.mark
        if self.status != 200:
            answer = {"error": {"message": "another name, please"}}
        await reply.send(self.status, b"", json.dumps(answer).encode())

    def damage(self) -> list[object]:
        return [name for report in self.reports for name in report["damage"]]


@asynccontextmanager
async def beating(
    net: MemoryNetwork, disks: Disks, apis: dict[str, Api], keyring: Keyring | None = None
) -> AsyncIterator[HeartbeatSender]:
    keyring = keyring or Keyring([b"secret"])
    settings = HeartbeatSettings(NodeName("data1"), list(apis), "10.0.0.1:9000", "rack1", "i1")
    async with trio.open_nursery() as nursery:
        for address, api in apis.items():
            await nursery.start(Server(api.handler).serve, [net.listen(address)])
        heartbeat = HeartbeatSender(settings, disks, keyring, connect=net.connect, clock=lambda: 1000.0)
        nursery.start_soon(heartbeat.run)
        yield heartbeat
        nursery.cancel_scope.cancel()


async def test_a_beat_every_three_seconds(autojump_clock: trio.testing.MockClock) -> None:
    api, disks = Api(), Disks()
    async with beating(MemoryNetwork(), disks, {API: api}):
        await trio.sleep(10 * BEAT_SECONDS - 1)
    assert len(api.reports) == 10
    assert api.authorizations == {authorization(TOKEN)}
    details = {"reason": "", "pieces": 7, "state_seconds": 5.0, "file_system": 0}
    details |= {"quarantined_pieces": 0, "quarantined_bytes": 0}
    assert api.reports[0] == {
        "name": "data1", "address": "10.0.0.1:9000", "zone": "rack1", "version": api.reports[0]["version"],
        "cluster": None, "instance": "i1", "time": 1000.0, "pieces": 7, "marks": [], "damage": [],
        "volumes": [
            {"id": "v1", "path": "/srv/flare", "capacity": 100, "used": 40, "free": 60, "state": "ok"} | details,
            {"id": "/dead", "path": "/dead", "capacity": 0, "used": 0, "free": 0, "state": "failed"} | details,
        ],
    }  # fmt: skip
    assert all(parse_heartbeat(report, 0.0) for report in api.reports)
    assert api.reports[1]["cluster"] == "c1"
    assert disks.cluster == "c1"


async def test_another_cluster_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    api, disks = Api(), Disks()
    disks.cluster = "mine"
    async with beating(MemoryNetwork(), disks, {API: api}):
        await trio.sleep(4 * BEAT_SECONDS - 1)
    assert len(api.reports) == 4
    assert disks.cluster == "mine"


async def test_what_the_metadata_had_committed_is_kept_and_said_again(autojump_clock: trio.testing.MockClock) -> None:
    api, disks = Api(), Disks()
    mark = SeenMark("0a" * 16, 7, 0, 1_700_000_000_000)
    api.mark = mark_fields(mark)
    async with beating(MemoryNetwork(), disks, {API: api}):
        await trio.sleep(2 * BEAT_SECONDS - 1)
        assert disks.marks.kept == [mark, mark]
        assert [parse_heartbeat(report, 0.0).marks for report in api.reports] == [(), (mark,)]
        api.mark = {"opening": "0a" * 16, "number": -1}
        await trio.sleep(BEAT_SECONDS)
        assert disks.marks.kept == [mark, mark], "nonsense is not kept"


async def test_the_mark_of_another_cluster_is_not_kept(autojump_clock: trio.testing.MockClock) -> None:
    api, disks = Api(), Disks()
    disks.cluster = "mine"
    api.mark = mark_fields(SeenMark("0a" * 16, 7, 0, 0))
    async with beating(MemoryNetwork(), disks, {API: api}):
        await trio.sleep(BEAT_SECONDS)
    assert disks.marks.kept == []


async def test_the_reason_of_a_refusal_is_reported_until_it_ends(autojump_clock: trio.testing.MockClock) -> None:
    api = Api()
    api.status = 409
    async with beating(MemoryNetwork(), Disks(), {API: api}) as heartbeat:
        await trio.sleep(1)
        assert heartbeat.failures() == [f"node {API}: answered 409: another name, please"]
        api.status = 200
        await trio.sleep(BEAT_SECONDS)
        assert heartbeat.failures() == []


async def test_damage_is_reported_to_every_api_node_once_it_listens(autojump_clock: trio.testing.MockClock) -> None:
    first, second, disks = Api(), Api(), Disks()
    second.status = 503
    disks.damage = [f"p{i}" for i in range(DAMAGE_PER_BEAT + 1)]
    found = list(disks.damage)
    async with beating(MemoryNetwork(), disks, {API: first, "api2:8000": second}):
        await trio.sleep(5 * BEAT_SECONDS - 1)
        second.status = 200
        await trio.sleep(5 * BEAT_SECONDS)
    assert first.damage() == found
    assert second.damage() == found


async def test_a_dead_api_node_does_not_delay_the_beats_of_another(autojump_clock: trio.testing.MockClock) -> None:
    net, alive = MemoryNetwork(), Api()
    net.freeze("api2:8000")
    async with beating(net, Disks(), {API: alive, "api2:8000": Api()}):
        await trio.sleep(10 * BEAT_SECONDS - 1)
    assert len(alive.reports) == 10


async def test_beats_go_on_after_the_api_node_was_away(autojump_clock: trio.testing.MockClock) -> None:
    net, api = MemoryNetwork(), Api()
    async with beating(net, Disks(), {API: api}):
        net.cut(API)
        await trio.sleep(5 * BEAT_SECONDS - 1)
        assert len(api.reports) <= 1
        net.heal(API)
        await trio.sleep(3 * BEAT_SECONDS)
    assert 3 <= len(api.reports) <= 4


async def test_the_next_beat_shows_the_secret_that_signs_now(autojump_clock: trio.testing.MockClock) -> None:
    api, keyring = Api(), Keyring([b"secret", b"next"])
    async with beating(MemoryNetwork(), Disks(), {API: api}, keyring):
        await trio.sleep(BEAT_SECONDS / 2)
        assert api.authorizations == {authorization(TOKEN)}
        keyring.change([b"next"])
        await trio.sleep(BEAT_SECONDS)
    assert api.authorizations == {authorization(TOKEN), authorization(node_token(b"next", API_AUDIENCE))}
