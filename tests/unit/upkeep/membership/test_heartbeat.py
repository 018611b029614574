from __future__ import annotations

import json
from dataclasses import replace

import pytest

from flared.data.report import VolumeReport
from flared.errors import BadName, BadRequest
from flared.upkeep.membership.heartbeat import parse_heartbeat

GOOD: dict[str, object] = {
    "name": "data1",
    "address": "10.0.0.1:9000",
    "zone": "rack1",
    "version": "0.1.0",
    "cluster": None,
    "instance": "i1",
    "volumes": [{"id": "v1", "path": "/srv/a", "capacity": 100, "used": 10, "free": 90, "state": "ok"}],
    "pieces": 3,
    "damage": [],
}


def test_a_heartbeat_is_read_whole() -> None:
    heartbeat = parse_heartbeat(json.loads(json.dumps(GOOD)), 0.0)
    assert (heartbeat.name, heartbeat.capacity, heartbeat.used, heartbeat.full) == ("data1", 100, 10, False)


def test_a_node_without_a_writable_volume_is_full() -> None:
    volume = {"id": "v1", "path": "/srv/a", "capacity": 100, "used": 100, "free": 0, "state": "full"}
    assert parse_heartbeat(GOOD | {"volumes": [volume]}, 0.0).full
    assert parse_heartbeat(GOOD | {"volumes": []}, 0.0).full


@pytest.mark.parametrize(
    "change",
    [
        {"address": "nowhere"},
        {"address": 5},
        {"zone": ""},
        {"version": "x" * 300},
        {"pieces": -1},
        {"pieces": "3"},
        {"volumes": {}},
        {"volumes": [5]},
        {"volumes": [{"id": "v"}]},
        {"instance": None},
        {"cluster": 7},
    ],
)
def test_anything_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        parse_heartbeat(GOOD | change, 0.0)


@pytest.mark.parametrize("data", [None, [], 5, "text"])
def test_what_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(BadRequest):
        parse_heartbeat(data, 0.0)


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(BadName):
        parse_heartbeat(GOOD | {"name": "../x"}, 0.0)


def test_the_clock_of_a_node_is_compared_with_ours() -> None:
    assert parse_heartbeat(GOOD | {"time": 1002.5}, 1000.0).clock_ahead_seconds == 2.5
    assert parse_heartbeat(GOOD, 1000.0).clock_ahead_seconds is None


def test_room_that_volumes_share_counts_once() -> None:
    def volume(number: int, file_system: int) -> VolumeReport:
        return VolumeReport(f"v{number}", f"/srv/{number}", 100, 10, 90, "ok", file_system=file_system)

    reports = (volume(1, 7), volume(2, 7), volume(3, 8), volume(4, 0), volume(5, 0))
    heartbeat = replace(parse_heartbeat(GOOD, 0.0), volumes=reports)
    assert heartbeat.capacity == 400
    assert heartbeat.used == 50
