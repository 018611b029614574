"""A node that came back counts at once if it has what the records place on it, and is compared if it has less."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flared.catalog.nodes import NodeRecord
from flared.data.report import VolumeReport, report_fields
from flared.names import NodeName
from flared.upkeep.membership.admission import PIECES_CHANGE, PIECES_FEW
from flared.upkeep.membership.heartbeat import Heartbeat
from flared.upkeep.membership.returns import Holding, holding_of, parse_holding, reason_to_compare

KNOWN = VolumeReport("v1", "/srv/a", 1, 0, 1, "ok", pieces=7)
pieces = st.integers(0, 1_000_000)


def record(count: int) -> NodeRecord:
    return NodeRecord(NodeName("data1"), "h:1", "z", 1, volumes=("v1",), pieces=count)


def holding(count: int, *volumes: str, failed: bool = False) -> Holding:
    return Holding("i", frozenset(volumes or ("v1",)), count, final=True, failed=failed)


@given(pieces, pieces)
def test_fewer_pieces_than_it_reported_before_are_a_reason(before: int, now: int) -> None:
    assert bool(reason_to_compare(record(before), before, holding(now))) == (now < before)


@given(pieces, pieces)
def test_against_the_record_a_tenth_is_no_reason(recorded: int, now: int) -> None:
    least = recorded - PIECES_CHANGE * max(PIECES_FEW, recorded)
    assert bool(reason_to_compare(record(recorded), None, holding(now))) == (now < least)


@given(pieces)
def test_a_volume_that_it_did_not_have_is_a_reason_however_many_pieces_it_has(now: int) -> None:
    assert "a volume that it did not have" in reason_to_compare(record(0), 0, holding(now, "v1", "v2"))


@given(pieces)
def test_what_a_failed_volume_lacks_is_no_reason(before: int) -> None:
    assert not reason_to_compare(record(before), before, holding(0, failed=True))


def test_a_status_says_the_same_as_a_heartbeat() -> None:
    volumes = (KNOWN, VolumeReport("", "/srv/b", 0, 0, 0, "failed"), VolumeReport("v3", "/srv/c", 1, 0, 1, "replaying"))
    status = {"instance": "i", "storage": {"volumes": [report_fields(volume) for volume in volumes]}}
    known = parse_holding(status)
    assert known == Holding("i", frozenset({"v1", "v3"}), 7, final=False, failed=True)
    reported = tuple(VolumeReport(v.id or v.path, v.path, 0, 0, 0, v.state) for v in volumes)
    assert known == holding_of(Heartbeat(NodeName("data1"), "h:1", "z", "1", "c", "i", reported, 7, (), None))


def test_an_older_version_does_not_say() -> None:
    assert parse_holding({}) is None
    assert parse_holding({"instance": "i", "storage": {"volumes": [{"state": "ok"}]}}) is None
