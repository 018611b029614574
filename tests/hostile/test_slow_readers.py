"""A reader at 2 kB/s is not cut when its patience would be over for a dead one."""

from __future__ import annotations

from flared.http.server import ServerSettings
from tests.hostile.slow_readers import attack
from tests.support.daemons import Start


def test_slow_readers_get_everything(start: Start) -> None:
    readings = attack(start(), ServerSettings().stall_seconds + 6, (2000, 20_000))
    assert all(reading.whole for reading in readings), readings
