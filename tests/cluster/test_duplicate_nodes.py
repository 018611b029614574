"""Two living processes under one node's name: the first stays, the second is refused; a restart is neither."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio
import trio.testing

from flared.data.report import VolumeReport
from flared.errors import DuplicateNode
from tests.support.cluster import Cluster, SmallNode, reasons_of

if TYPE_CHECKING:
    import pytest

    from flared.upkeep.membership.heartbeat import Heartbeat

Clock = trio.testing.MockClock
CLONE = "elsewhere:9000"


def clone_of(cluster: Cluster, address: str = CLONE) -> SmallNode:
    """A second process of data1 with a copy of its volume; at another address, or at the same one."""
    first = cluster.members["data1"]
    clone = SmallNode("data1")
    clone.address, clone.instance, clone.volume_id = address, 99, first.volume_id
    clone.pieces = dict(first.pieces)
    if address != first.address:
        first.doubles = {address: clone}
    return clone


def address_of(cluster: Cluster) -> str:
    return next(m.record.address for m in cluster.membership.members() if m.record.name == "data1")


async def hear(cluster: Cluster, heartbeat: Heartbeat) -> str:
    """The refusal that the sender gets, if any."""
    try:
        await cluster.membership.receive_heartbeat(heartbeat)
    except DuplicateNode as error:
        return str(error)
    return ""


async def test_a_clone_is_refused_and_takes_nothing(autojump_clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(1, scheme="replica:1")
    async with cluster.running():
        await cluster.put("before", b"1" * 5000)
        clone = clone_of(cluster)
        held = set(clone.pieces)
        for number in range(10):
            message = await hear(cluster, clone.heartbeat())
            assert "runs twice, at data1:9000 and at elsewhere:9000: the one at data1:9000 was first" in message
            await cluster.put(f"during{number}", bytes([number]) * 5000)
            await trio.sleep(1.5)
        assert set(clone.pieces) == held
        assert address_of(cluster) == "data1:9000"
        status = cluster.status()
        assert status.health == "degraded"
        assert any("runs twice" in reason for reason in reasons_of(status))
        assert caplog.text.count("event=node_refused") == 1, "each is logged once"
        await trio.sleep(10)
        assert cluster.status().health == "ok", "the clone was stopped"


async def test_a_clone_that_comes_first_after_a_restart_of_the_api_node_is_refused(autojump_clock: Clock) -> None:
    cluster = Cluster(1, scheme="replica:1")
    async with cluster.running():
        await cluster.put("a", b"1" * 5000)
    clone = clone_of(cluster)
    async with trio.open_nursery() as nursery:
        await nursery.start(cluster.membership.run)
        assert "was first" in await hear(cluster, clone.heartbeat())
        assert await hear(cluster, cluster.members["data1"].heartbeat()) == ""
        nursery.cancel_scope.cancel()


async def test_a_restart_is_taken_at_once_however_soon_it_comes(autojump_clock: Clock) -> None:
    cluster = Cluster(1, scheme="replica:1")
    async with cluster.running():
        await trio.sleep(4)
        cluster.members["data1"].instance += 1  # killed, and started again before the next heartbeat was due
        assert await hear(cluster, cluster.members["data1"].heartbeat()) == ""
        assert cluster.status().health == "ok"


async def test_a_node_that_moved_to_another_address_is_taken_when_the_old_process_is_silent(
    autojump_clock: Clock,
) -> None:
    cluster = Cluster(1, scheme="replica:1")
    async with cluster.running():
        await trio.sleep(4)
        node = cluster.members["data1"]
        node.instance, node.address = node.instance + 1, CLONE
        await trio.sleep(9)
        assert address_of(cluster) == CLONE
        assert cluster.status().health == "ok"


async def test_of_two_processes_with_one_address_the_one_that_answers_is_believed(autojump_clock: Clock) -> None:
    cluster = Cluster(1, scheme="replica:1")
    async with cluster.running():
        other = clone_of(cluster, "data1:9000")
        assert "another one sends heartbeats too" in await hear(cluster, other.heartbeat())
        await trio.sleep(4)
        assert await hear(cluster, cluster.members["data1"].heartbeat()) == ""


async def test_a_process_that_is_heard_and_cannot_be_asked_keeps_its_name(autojump_clock: Clock) -> None:
    """A partition between the api node and the first one, through which heartbeats come: it is alive."""
    cluster = Cluster(1, scheme="replica:1")
    async with cluster.running():
        first, clone = cluster.members["data1"], clone_of(cluster)
        first.silent = True
        for _ in range(5):
            assert "runs twice" in await hear(cluster, clone.heartbeat())
            await cluster.membership.receive_heartbeat(first.heartbeat())
            await trio.sleep(3)


async def test_nodes_of_older_versions_that_do_not_say_who_they_are_restart_as_ever(autojump_clock: Clock) -> None:
    cluster = Cluster(1, scheme="replica:1")
    node = cluster.members["data1"]

    async def say_nothing(address: str = "") -> dict[str, object]:
        return {}

    node.status, node.status_at = say_nothing, say_nothing  # type: ignore[method-assign]
    async with cluster.running():
        await trio.sleep(4)
        node.instance += 1
        await trio.sleep(9)
        assert cluster.status().health == "ok"
        clone = clone_of(cluster)
        clone.status = say_nothing  # type: ignore[method-assign]
        assert "runs twice" in await hear(cluster, clone.heartbeat())


async def test_a_volume_that_another_node_has_is_refused(autojump_clock: Clock) -> None:
    cluster = Cluster(3, scheme="replica:2")
    third = cluster.members["data3"]
    third.down = True
    async with cluster.running():
        copied = third.heartbeat()
        volume = VolumeReport("data1-first", "/srv/copy", 1 << 40, 0, 1 << 40, "ok")
        message = await hear(cluster, replace(copied, volumes=(*copied.volumes, volume)))
        assert "volume data1-first is on node data1 at data1:9000 (/disk) and on node data3 at data3:9000" in message
        assert "take /srv/copy out of `volumes`" in message
        assert [member.record.name for member in cluster.membership.members()] == ["data1", "data2"]
        third.down = False
        await trio.sleep(4)
        assert [member.record.name for member in cluster.membership.members()] == ["data1", "data2", "data3"]
