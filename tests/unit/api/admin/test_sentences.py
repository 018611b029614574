"""Every problem that upkeep finds has a sentence, and the metadata's have a command too."""

from __future__ import annotations

from typing import get_args

import pytest

from flared.api.admin.advice import advise_metadata
from flared.api.admin.obstacles import explain_cost, explain_removal_obstacle, explain_stay, explain_write_obstacle
from flared.api.admin.sentences import explain, explain_repair, span_of
from flared.catalog.nodes import NodeRecord
from flared.catalog.orphans import OrphanRecord
from flared.chunks.scheme import parse_scheme
from flared.cluster.states import NodeState
from flared.meta.kv import Health
from flared.names import NodeName
from flared.upkeep.failure import RepairUnknown, RepairWaiting, ShortageWithout, StayReason, UnfitMember, UnknownNode
from flared.upkeep.membership.member import Member
from flared.upkeep.problems import (
    ChunksLost,
    ChunksUnplaced,
    ChunksWaiting,
    DamagedFile,
    DamagedRows,
    HeartbeatRefused,
    MetadataDiskFull,
    MetadataFailed,
    NodeAway,
    NodeFull,
    NodeLeaving,
    NodeUnchecked,
    OlderMetadata,
    OrphansHeld,
    Problem,
    Shortage,
    VolumeFailed,
    VolumeNotReady,
    problems_of_metadata,
)
from flared.upkeep.removal.cost import RemovalCost, RemovalObstacle
from flared.upkeep.removal.removal import RemovalProgress
from flared.upkeep.repair.lost_volumes import VolumeRepair
from flared.upkeep.status import WriteObstacle

DATA1 = NodeName("data1")
RECORD = NodeRecord(DATA1, "10.0.0.1:9000", "z", 100)
AWAY = Member(RECORD, NodeState.SUSPECT, 60.0, 60.0, None)
SHORT = Shortage(parse_scheme("replica:3"), 1, DATA1)
PROBLEMS: list[tuple[Problem, str]] = [
    (OlderMetadata("the metadata is older"), "the metadata is older"),
    (MetadataFailed("the disk failed"), "writes are refused: the disk failed; nothing is written until"),
    (MetadataDiskFull(), "writes are refused: the disk of the metadata is full; reads and deletes go on"),
    (DamagedRows(1, "a"), "1 row of the metadata is damaged, of the key 'a'"),
    (DamagedRows(2, "a"), "2 rows of the metadata are damaged, of the key 'a' and others"),
    (DamagedFile(("x", "y")), "the metadata file is damaged: x; y; no piece is deleted"),
    (SHORT, "writes are refused: replica:3 needs 2 data nodes that take them, 1 can"),
    (Shortage(parse_scheme("replica:3"), 2), "new objects lack copies: replica:3 wants 3 data nodes, 2 take writes"),
    (HeartbeatRefused("it runs twice"), "refused: it runs twice"),
    (NodeAway(AWAY, 600.0, settled=False), "node data1 is suspect: silent for 60 s; unless it returns, its pieces are"),
    (NodeAway(AWAY, 600.0, settled=True), "node data1 is suspect: silent for 60 s; nothing waits for it"),
    (NodeFull(AWAY), "node data1 takes no new data"),
    (NodeUnchecked(AWAY), "node data1 is being compared with the records"),
    (VolumeNotReady(DATA1, "/srv/a", "replaying"), "volume /srv/a on node data1 is replaying"),
    (
        VolumeFailed(DATA1, "/srv/a", 7, 60.0, "EIO", None, 600.0, node_is_away=False),
        "volume /srv/a on node data1 is failed for 60 s (EIO): its 7 pieces will be rebuilt elsewhere in 9 min",
    ),
    (NodeLeaving(DATA1, RemovalProgress(0.5, 3)), "node data1 is being removed: 50% of the chunks looked at; chunks"),
    (ChunksUnplaced(7, 60.0, parse_scheme("replica:3"), 2), "chunks that cannot be repaired: 7, for 60 s: replica:3"),
    (ChunksWaiting(7, 60.0), "chunks that lack pieces and wait for repair: 7, for 60 s"),
    (ChunksLost(2), "chunks with no good piece that can be reached: 2"),
    (OrphansHeld(DATA1, OrphanRecord(held=1)), "node data1 holds 1 piece (0.0 MB) that no record names"),
]


@pytest.mark.parametrize(("problem", "sentence"), PROBLEMS)
def test_a_problem_has_a_sentence(problem: Problem, sentence: str) -> None:
    assert explain(problem).startswith(sentence)


def test_every_kind_of_problem_is_tested_here() -> None:
    assert {type(problem) for problem, _ in PROBLEMS} == set(get_args(Problem))


@pytest.mark.parametrize(
    ("obstacle", "sentence"),
    [
        (MetadataFailed("the disk failed"), "the disk failed; nothing is written until"),
        (MetadataDiskFull(), "the disk of the metadata is full: make room on it"),
        (OlderMetadata("older"), "older; put the right meta.db back"),
        (SHORT, "replica:3 needs 2 data nodes that take writes, 1 can: node data1 has not said yet"),
    ],
)
def test_what_stops_writes_has_a_sentence(obstacle: WriteObstacle, sentence: str) -> None:
    assert explain_write_obstacle(obstacle).startswith(sentence)


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (UnknownNode("x"), "there is no data node x"),
        (OlderMetadata("older"), "older"),
        (ShortageWithout("data2", SHORT), "without data2 1 data node takes writes; replica:3 needs 2"),
        (UnfitMember(AWAY), "node data1 is suspect"),
        (VolumeNotReady(DATA1, "/srv/a", "failed"), "volume /srv/a on node data1 is failed"),
        (RepairUnknown(), "this api node has only just started"),
        (RepairWaiting(7), "chunks wait for repair: 7"),
    ],
)
def test_why_a_node_must_stay_has_a_sentence(reason: StayReason, sentence: str) -> None:
    assert explain_stay(reason).startswith(sentence)


def test_why_a_node_cannot_be_taken_away_has_a_sentence() -> None:
    assert "stop it first, on 10.0.0.1" in explain_removal_obstacle(RemovalObstacle.ALIVE, AWAY, 600.0)
    assert "it may come back" in explain_removal_obstacle(RemovalObstacle.MAY_RETURN, AWAY, 600.0)
    cost = explain_cost(RemovalCost("data1", 2, 1, complete=False))
    assert "at least 1 chunks have no other copy that answers, and at least 2 chunks lack the copy" in cost


@pytest.mark.parametrize(
    ("repair", "sentence"),
    [
        (VolumeRepair(frozenset(), 0.5, 7, waiting=True), "what was on it is looked for, 50% done, 7 pieces so far"),
        (VolumeRepair(frozenset(), 1.0, 7, waiting=True), "its 7 pieces are being rebuilt elsewhere"),
        (VolumeRepair(frozenset(), 1.0, 7, waiting=False), "its 7 pieces were rebuilt elsewhere"),
        (VolumeRepair(frozenset(), 1.0, 0, waiting=False), "no piece was only on it"),
    ],
)
def test_a_repair_says_how_far_it_is(repair: VolumeRepair, sentence: str) -> None:
    failed = VolumeFailed(DATA1, "/srv/a", 7, 60.0, "", repair, 600.0, node_is_away=False)
    assert (explain_repair(failed), failed.repaired) == (sentence, not repair.waiting)


@pytest.mark.parametrize(
    ("health", "stops_writes"),
    [
        (Health(full=True), True),
        (Health(failure="the disk failed"), True),
        (Health(damaged_rows=1, damaged_key="a"), False),
        (Health(problems=("x", "y")), False),
    ],
)
def test_each_fault_of_the_metadata_has_one_command(health: Health, stops_writes: bool) -> None:
    (problem,) = problems_of_metadata(health)
    assert explain(problem).startswith("writes are refused") == stops_writes
    assert len(advise_metadata(health, older=False)) == 1
    assert len(advise_metadata(health, older=True)) == 2


def test_nothing_is_said_of_what_is_sound() -> None:
    health = Health(check_passes=3, check_rows=7, check_age_seconds=1.0)
    assert (problems_of_metadata(health), advise_metadata(health, older=False)) == ([], [])


@pytest.mark.parametrize(
    ("seconds", "text"), [(12, "12 s"), (119, "119 s"), (300, "5 min"), (3 * 3600, "3 h"), (2 * 86400, "2 d")]
)
def test_spans_are_in_the_unit_that_reads_best(seconds: float, text: str) -> None:
    assert span_of(seconds) == text
