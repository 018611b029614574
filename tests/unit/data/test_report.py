"""The report of a volume comes out of its JSON as it went in, and what is not one is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.data.report import TEXT_MAX, VolumeReport, parse_report, report_fields
from flared.data.volume.values import VolumeStatus
from flared.errors import BadRequest

texts = st.text(min_size=1, max_size=TEXT_MAX)
counts = st.integers(0, 1 << 60)
reports = st.builds(
    VolumeReport, texts, texts, counts, counts, counts, texts, st.text(max_size=TEXT_MAX), counts,
    st.floats(0, 1e9), counts, counts, counts,
)  # fmt: skip

LEAST = {"id": "v1", "path": "/srv/a", "capacity": 100, "used": 10, "free": 90, "state": "ok"}


@given(reports)
def test_a_report_survives_its_way(report: VolumeReport) -> None:
    assert parse_report(json.loads(json.dumps(report_fields(report)))) == report


def test_what_a_node_counts_beside_does_not_travel() -> None:
    status = VolumeStatus("v1", "/srv/a", 100, 10, 90, "ok", syncs=5, records=7)
    assert report_fields(status).keys() == report_fields(VolumeReport(**LEAST)).keys()  # type: ignore[arg-type]


def test_a_disk_that_does_not_know_its_volume_goes_by_its_path() -> None:
    assert report_fields(VolumeReport("", "/srv/a", 0, 0, 0, "failed"))["id"] == "/srv/a"
    assert parse_report(LEAST | {"id": ""}).id == "/srv/a"


def test_an_older_node_reports_less_and_a_newer_one_more() -> None:
    assert parse_report(LEAST) == parse_report(LEAST | {"shape": "round"}) == VolumeReport(**LEAST)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"free": -1}, {"used": "10"}, {"capacity": None}, {"state": ""}, {"id": "x" * 256}, {"id": 5}, {"pieces": -1}],
)
def test_anything_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match=next(iter(change))):
        parse_report(LEAST | change)


@pytest.mark.parametrize("data", [None, [], 5, "text", {}])
def test_what_is_not_a_report_is_refused(data: object) -> None:
    with pytest.raises(BadRequest):
        parse_report(data)
