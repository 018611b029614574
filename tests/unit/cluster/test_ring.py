from __future__ import annotations

from collections import Counter
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from flared.cluster.placement import RoundRobin, choose
from flared.cluster.quorum import COMPLETE, QUORUM, WAITING, Tally, write_quorum
from flared.cluster.ring import Ring, RingNode
from flared.cluster.states import NodeState, Sighting, decide_state
from flared.names import NodeName


def node(name: str, zone: str = "z", weight: float = 1.0) -> RingNode:
    return RingNode(NodeName(name), zone, weight)


def digests(count: int) -> list[str]:
    return [sha256(str(number).encode()).hexdigest() for number in range(count)]


def test_an_empty_ring_places_nothing() -> None:
    assert Ring([]).order(digests(1)[0]) == ()


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True), st.integers(0, 1000))
def test_every_node_appears_exactly_once(names: list[str], seed: int) -> None:
    order = Ring(map(node, names)).order(sha256(str(seed).encode()).hexdigest())
    assert sorted(order) == sorted(names)


@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=9), st.integers(0, 1000))
def test_distinct_zones_come_first(zones: list[str], seed: int) -> None:
    nodes = [node(f"n{number}", zone) for number, zone in enumerate(zones)]
    zone_of = {item.name: item.zone for item in nodes}
    order = Ring(nodes).order(sha256(str(seed).encode()).hexdigest())
    distinct = len(set(zones))
    assert len({zone_of[name] for name in order[:distinct]}) == distinct


def test_a_new_node_moves_only_its_share() -> None:
    before = Ring(node(f"n{number}") for number in range(9))
    after = Ring(node(f"n{number}") for number in range(10))
    moved = 0
    for digest in digests(2000):
        was, now = before.order(digest)[0], after.order(digest)[0]
        assert was == now or now == "n9", "a chunk moved between two nodes that were there before"
        moved += was != now
    assert 0.04 < moved / 2000 < 0.2


def test_weight_sets_the_share() -> None:
    ring = Ring([node("small", weight=1), node("large", weight=3)])
    shares = Counter(ring.order(digest)[0] for digest in digests(4000))
    assert 2 < shares[NodeName("large")] / shares[NodeName("small")] < 4.5


def test_choose_skips_what_cannot_be_used_and_goes_on_along_the_ring() -> None:
    order = [NodeName(name) for name in "abcd"]
    assert choose(order, 2, lambda _: True) == ["a", "b"]
    assert choose(order, 2, lambda name: name != "b") == ["a", "c"]
    assert choose(order, 2, lambda _: True, taken=[NodeName("a")]) == ["b", "c"]
    assert choose(order, 9, lambda _: False) == []


def test_round_robin_begins_at_the_next_node_each_time() -> None:
    policy = RoundRobin(Ring(map(node, "abc")))
    assert {policy.order("0" * 64)[0] for _ in range(3)} == {"a", "b", "c"}


def test_write_quorums_are_those_of_the_design() -> None:
    cases = {(1, 1): 1, (2, 1): 2, (3, 1): 2, (5, 4): 5, (6, 4): 5, (9, 6): 8}
    assert {case: write_quorum(*case) for case in cases} == cases


def test_a_tally_is_won_at_the_quorum_and_complete_at_the_end() -> None:
    tally = Tally(3, 2)
    assert tally.store(0) == WAITING
    assert tally.fail(1, "gone") == WAITING
    assert not tally.won
    assert tally.store(2) == COMPLETE
    assert tally.won
    assert tally.missing == [1]


def test_a_tally_tells_the_answer_that_reaches_the_quorum_from_the_last_one() -> None:
    tally = Tally(3, 2)
    assert [tally.store(number) for number in range(3)] == [WAITING, QUORUM, COMPLETE]
    lost = Tally(3, 2)
    assert [lost.fail(number, "gone") for number in range(2)] == [WAITING, WAITING]
    assert lost.store(2) == COMPLETE
    assert not lost.won
    assert Tally(1, 1).store(0) == COMPLETE


def test_a_silent_node_becomes_suspect_then_offline() -> None:
    def state(now: float, heard: float | None = 100.0, *, full: bool = False) -> NodeState:
        return decide_state(Sighting(heard, full), now=now, started=50.0, repair_after=600.0)

    assert state(105) is NodeState.ONLINE
    assert state(105, full=True) is NodeState.FULL
    assert state(110) is NodeState.SUSPECT
    assert state(700) is NodeState.OFFLINE
    assert state(60, None) is NodeState.SUSPECT
    assert state(650, None) is NodeState.OFFLINE


def test_no_node_is_offline_before_this_api_node_has_listened_long_enough() -> None:
    assert decide_state(Sighting(0.0), now=5000.0, started=4990.0, repair_after=600.0) is NodeState.SUSPECT
