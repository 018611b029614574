"""Each finding of a cluster, and its absence."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flarectl.answers import Key, Node, NodeVolume, Status
from flarectl.checks import CHECKS, ClusterFacts
from flared.findings import Severity, diagnose, worst

if TYPE_CHECKING:
    from tests.support.fake_api import FakeApi
    from tests.unit.flarectl.conftest import Run

OK, WARNING, CRITICAL = Severity


def volume(path: str, state: str, used: int, capacity: int, free: int | None = None, **rest: object) -> NodeVolume:
    free = capacity - used if free is None else free
    return NodeVolume(path, path, capacity, used, free, state, **rest)  # type: ignore[arg-type]


NODES = tuple(
    Node(
        name=f"data{n}", role="data", state="online", zone=f"rack{n}", address=f"10.0.0.{n}:9000", version="0.2",
        used=10, capacity=100, last_seen_seconds=1.0, pieces=5, state_since_seconds=60.0,
        volumes=(volume("/srv/a", "ok", 10, 100),), advice=(),
    )
    for n in (1, 2, 3)
)  # fmt: skip
API = NODES[0]._replace(name="api", role="api", zone="", address="10.0.0.9:8000", volumes=())
STATUS = Status("ok", "0.2", 1, 1, 1, 0, (), (), (API, *NODES), ())
WELL = ClusterFacts(STATUS, 0, 0.1, {"data1": 0.2, "data2": -0.2}, ["replica:3"])._replace(
    time=1.7e9, endpoint_ends=1.7e9 + 90 * 86400, keys=[]
)


def key(state: str, expires: float | None = None) -> Key:
    return Key("laptop", "FL" + "A" * 18, state, ("admin",), 1.0, expires, (), "")


def nodes(*wanted: Node, schemes: tuple[str, ...] = ()) -> ClusterFacts:
    return WELL._replace(status=STATUS._replace(nodes=(API, *wanted)), schemes=schemes)


def first(**change: object) -> ClusterFacts:
    return nodes(NODES[0]._replace(**change), *NODES[1:])  # type: ignore[arg-type]


def test_a_failed_volume_is_no_full_one() -> None:
    volumes = (volume("/srv/a", "failed", 90, 1000, free=0), volume("/srv/b", "ok", 10, 100, free=90))
    findings = diagnose(CHECKS, first(volumes=volumes))
    assert [finding.code for finding in findings if finding.severity is not OK] == ["F502"]


def test_a_sound_cluster_has_every_check_well() -> None:
    findings = diagnose(CHECKS, WELL)
    assert [finding.code for finding in findings] == [check.code for check in CHECKS]
    assert worst(findings) is OK


@pytest.mark.parametrize(
    ("code", "severity", "word", "cluster"),
    [
        ("F501", CRITICAL, "no data node", nodes()),
        ("F512", CRITICAL, "older than", WELL._replace(status=STATUS._replace(metadata_reasons=("it is older than",)))),
        (
            "F511",
            CRITICAL,
            "runs twice",
            WELL._replace(status=STATUS._replace(reasons=("refused: node data1 runs twice, at a:1 and at b:1",))),
        ),
        (
            "F501",
            CRITICAL,
            "is accepted; refused: node data1 belongs to another",
            WELL._replace(
                status=STATUS._replace(
                    nodes=(API,), reasons=("refused: node data1 belongs to another",), advice=("flared restore",)
                ),
                schemes=(),
            ),
        ),
        ("F501", WARNING, "data1 is suspect", first(state="suspect")),
        ("F501", CRITICAL, "data1 is offline", first(state="offline")),
        ("F501", WARNING, "accepts no new data", first(state="full")),
        (
            "F501",
            WARNING,
            "data1 is suspect for 60 s: its heartbeats arrive, but the api node cannot connect to it (no answer)",
            first(state="suspect", unreachable="no answer", advice=("open the port",)),
        ),
        ("F502", CRITICAL, "/srv/a on node data1 is failed", first(volumes=(volume("/srv/a", "failed", 0, 0),))),
        (
            "F502",
            WARNING,
            "is failed: its 7 pieces were rebuilt",
            first(
                volumes=(
                    volume("/srv/a", "failed", 0, 0, repair="its 7 pieces were rebuilt", repaired=True),
                    volume("/srv/b", "ok", 0, 0),
                )
            ),
        ),
        ("F503", WARNING, "replica:4 needs 4", nodes(*NODES, schemes=("replica:4",))),
        ("F503", CRITICAL, "accept no writes", nodes(*NODES, schemes=("replica:9",))),
        ("F504", WARNING, "one host, h", nodes(*(node._replace(address="h:1") for node in NODES))),
        ("F504", WARNING, "one zone, z", nodes(*(node._replace(zone="z") for node in NODES))),
        ("F505", WARNING, "7 chunks lack", WELL._replace(status=STATUS._replace(degraded_chunks=7))),
        ("F505", WARNING, "1 chunk lacks pieces and waits", WELL._replace(status=STATUS._replace(degraded_chunks=1))),
        ("F505", CRITICAL, "2 chunks have no good", WELL._replace(lost_chunks=2)),
        ("F505", CRITICAL, "1 chunk has no good", WELL._replace(lost_chunks=1)),
        ("F506", WARNING, "90% full", first(volumes=(volume("/srv/a", "ok", 90, 100),))),
        ("F506", CRITICAL, "99% full", first(volumes=(volume("/srv/a", "ok", 99, 100),))),
        ("F507", WARNING, "0.1 on data1", first(version="0.1")),
        (
            "F509",
            WARNING,
            "/srv/a and /srv/b of node data1 lie on one file system",
            first(
                volumes=(
                    volume("/srv/a", "ok", 1, 100, file_system=7),
                    volume("/srv/b", "ok", 1, 100, file_system=7),
                    volume("/srv/c", "ok", 1, 100, file_system=8),
                )
            ),
        ),
        (
            "F506",
            WARNING,
            "volume /srv/a on node data1 is full",
            first(volumes=(volume("/srv/a", "full", 1, 100, free=0), volume("/srv/b", "ok", 1, 100, free=90))),
        ),
        (
            "F506",
            CRITICAL,
            "data node data1 is 97% full",
            first(volumes=(volume("/srv/a", "ok", 1, 100, free=3),)),
        ),
        (
            "F513",
            WARNING,
            "2 pieces on node data1 failed their checksum, 1 were repaired",
            first(checksum_errors=2, pieces_mended=1, damaged_last=1.7e9)._replace(time=1.7e9 + 29 * 86400),
        ),
        ("F514", WARNING, "node data1 ends in 20 d", first(certificate_ends=1.7e9 + 20 * 86400)),
        ("F515", WARNING, "access key laptop ends in 3 d", WELL._replace(keys=[key("works", 1.7e9 + 3 * 86400)])),
        ("F515", CRITICAL, "opens the access key laptop", WELL._replace(keys=[key("unreadable")])),
        ("F514", CRITICAL, "the api node has ended", WELL._replace(endpoint_ends=1.7e9 - 1)),
        ("F510", CRITICAL, "data1 holds 4,000 pieces", first(orphans_held=4000)),
        ("F508", WARNING, "3.0 s ahead of this machine", WELL._replace(api_ahead_seconds=3.0)),
        ("F508", CRITICAL, "data1 is 90.0 s behind", WELL._replace(ahead_seconds={"data1": -90.0})),
    ],
)
def test_what_is_wrong_is_found_and_nothing_else(
    code: str, severity: Severity, word: str, cluster: ClusterFacts
) -> None:
    found = [finding for finding in diagnose(CHECKS, cluster) if finding.severity]
    assert [(finding.code, finding.severity) for finding in found] == [(code, severity)]
    assert word in found[0].cause
    assert found[0].command


def test_keys_that_have_ended_or_go_on_are_no_trouble() -> None:
    known = [key("expired", 1.7e9 - 1), key("works"), key("works", 1.7e9 + 8 * 86400)]
    assert worst(diagnose(CHECKS, WELL._replace(keys=known))) is OK
    assert "F515" not in {finding.code for finding in diagnose(CHECKS, WELL._replace(keys=None))}


def test_one_node_alone_is_no_failure_domain_to_speak_of() -> None:
    assert "F504" not in {finding.code for finding in diagnose(CHECKS, nodes(NODES[0], schemes=("replica:1",)))}


def test_an_unknown_fact_is_not_called_well() -> None:
    bare = Status("ok", "", 0, 0, 0, 0, (), (), ())
    assert {finding.code for finding in diagnose(CHECKS, ClusterFacts(bare, schemes=["lrc:4+2+2"]))} == {"F501", "F505"}


def test_the_command_ends_with_the_severity(api: FakeApi, run: Run) -> None:
    node = {"name": "data1", "role": "data", "state": "online", "zone": "z", "address": "h:1", "version": "0.1.0"}
    api.status |= {"time": time.time() + 1000, "lost_chunks": 0, "nodes": [node | {"clock_ahead_seconds": 5.5}]}
    code, out, _ = run("doctor", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    clocks = [record["cause"] for record in records if record["code"] == "F508"]
    assert code == 2
    assert any("the api node is 1000.0 s ahead" in cause or "the api node is 999." in cause for cause in clocks)
    assert any("node data1 is 5.5 s ahead" in cause for cause in clocks)
    code, out, _ = run("doctor")
    assert code == 2
    assert "critical  F508" in out
    assert "> timedatectl" in out


def test_an_api_node_that_says_little_is_looked_at_all_the_same(api: FakeApi, run: Run) -> None:
    api.status = {"health": "ok", "nodes": [{"name": "data1", "clock_ahead_seconds": "?"}]}
    code, out, err = run("doctor")
    assert (code, err) == (2, "")
    assert "F501" in out


def test_an_endpoint_that_does_not_answer(run: Run) -> None:
    code, _, err = run("doctor", "--endpoint", "http://127.0.0.1:1")
    assert code == 5
    assert "cannot reach" in err


def test_every_code_is_documented() -> None:
    text = Path(__file__).parents[3].joinpath("docs/doctor.md").read_text()
    assert all(f"| {check.code} | " in text for check in CHECKS)
