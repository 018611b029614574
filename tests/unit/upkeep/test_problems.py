"""Problems are decided from values alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.catalog.nodes import NodeRecord
from flared.chunks.scheme import parse_scheme
from flared.cluster.states import NodeState
from flared.data.report import VolumeReport
from flared.names import NodeName
from flared.upkeep.membership.heartbeat import Heartbeat
from flared.upkeep.membership.member import Member
from flared.upkeep.problems import (
    ChunksLost,
    ChunksUnplaced,
    ChunksWaiting,
    NodeAway,
    NodeFull,
    NodeUnchecked,
    VolumeNotReady,
    find_shortage,
    problems_of_chunks,
    problems_of_nodes,
)
from flared.upkeep.repair.heal import HealStatistics

DATA1 = NodeName("data1")
FINE = Member(NodeRecord(DATA1, "h:1", "z", 1), NodeState.ONLINE, 60.0, 1.0, None)
members = st.lists(
    st.builds(
        lambda state, compared: replace(FINE, state=state, compared=compared), st.sampled_from(NodeState), st.booleans()
    ),
    max_size=5,
)


@given(members, st.sampled_from(["replica:1", "replica:2", "replica:3"]))
def test_nodes_are_short_as_far_as_they_take_no_writes(some: list[Member], text: str) -> None:
    usable = sum(member.state is NodeState.ONLINE and member.compared for member in some)
    scheme = parse_scheme(text)
    shortage = find_shortage(text, some)
    assert (shortage is None) == (usable >= scheme.pieces)
    if shortage:
        assert shortage.stops_writes == (usable < scheme.quorum)
        assert (shortage.waiting is None) == all(member.compared for member in some)


@pytest.mark.parametrize("state", ["ok", "full", "failed", "replaying", "readonly"])
def test_volumes_that_are_neither_good_nor_failed_are_a_problem(state: str) -> None:
    volume = VolumeReport("v", "/srv/a", 1, 0, 1, state)
    member = replace(FINE, heartbeat=Heartbeat(DATA1, "h:1", "z", "1", "c", "i", (volume,), 0, (), None))
    expected = [] if state in ("ok", "full", "failed") else [VolumeNotReady(DATA1, "/srv/a", state)]
    assert list(problems_of_nodes([member], 600.0, settled=False)) == expected


def test_a_node_is_a_problem_by_its_state_and_by_what_it_lacks() -> None:
    def kinds(**change: object) -> list[type]:
        member = replace(FINE, **change)  # type: ignore[arg-type]
        return [type(problem) for problem in problems_of_nodes([member], 600.0, settled=True)]

    assert kinds() == []
    assert kinds(state=NodeState.SUSPECT) == [NodeAway]
    assert kinds(state=NodeState.FULL, unchecked="fewer pieces") == [NodeFull, NodeUnchecked]
    assert kinds(state=NodeState.OFFLINE, unchecked="fewer pieces") == [NodeAway], "it does not answer anyway"


@pytest.mark.parametrize(("state", "settled"), [(NodeState.SUSPECT, False), (NodeState.OFFLINE, True)])
def test_only_what_an_offline_node_held_was_made_again(state: NodeState, settled: bool) -> None:
    (problem,) = problems_of_nodes([replace(FINE, state=state)], 600.0, settled=True)
    assert problem == NodeAway(replace(FINE, state=state), 600.0, settled)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_every_chunk_of_the_backlog_is_in_one_problem(backlog: int, unplaced: int, lost: int) -> None:
    heal = HealStatistics(backlog, 0, lost, 1, 5.0, unplaced, "replica:3" if unplaced else "")
    found = list(problems_of_chunks(heal, [FINE]))
    counted = [problem.count for problem in found if isinstance(problem, ChunksUnplaced | ChunksWaiting)]
    assert sum(counted) == backlog
    assert [problem.count for problem in found if isinstance(problem, ChunksLost)] == ([lost] if lost else [])
    assert all(problem.count > 0 for problem in found)
