"""Eviction when room is short: each rule by itself, then all of them under random arrivals and departures."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flared.http.eviction import KNOWN_ADDRESSES_MAX, SOURCE_MIN, ConnectionTable, Standing, source_of

HERE = "127.0.0.1"
AWAY = "10.0.0."


@dataclass(eq=False)
class Guest:
    """A connection."""

    name: str
    requests: int = 0
    resting: bool = True
    resting_since: float = 0.0
    peer: str = field(default="", repr=False)


class Crowd:
    """A table, and names for who is in it."""

    def __init__(self, connections_max: int) -> None:
        self.table: ConnectionTable[Guest] = ConnectionTable(connections_max)
        self.count = 0

    def enter(self, host: str) -> tuple[Guest | None, Guest | None]:
        """The newcomer, if it was admitted, and who went for it."""
        self.count += 1
        guest = Guest(f"{host}:{self.count}", peer=f"{host}:{self.count}")
        entry = self.table.enter(guest, guest.peer)
        return guest if entry.admitted else None, entry.evicted

    def fill(self, count: int, standing: Standing = Standing.STRANGER, *, resting: bool = True) -> list[Guest]:
        """So many, from addresses that have four each; those of any standing have made a request."""
        guests = []
        for number in range(count):
            guest, evicted = self.enter(f"{AWAY}{number // 4}")
            assert guest is not None
            assert evicted is None
            if standing:
                guest.requests, guest.resting_since = 1, float(number)
                self.table.prove(guest, standing)
            guest.resting = resting
            guests.append(guest)
        return guests


def test_strangers_leave_the_reserve_to_this_machine() -> None:
    crowd = Crowd(160)
    strangers = crowd.fill(140)
    assert crowd.enter(AWAY + "99")[1] is strangers[0]  # the oldest that never spoke
    for _ in range(20):
        guest, evicted = crowd.enter(HERE)
        assert guest is not None
        assert evicted is None
    guest, evicted = crowd.enter(HERE)
    assert guest is not None
    assert evicted is strangers[1]
    assert (crowd.table.evictions, crowd.table.refusals, len(crowd.table)) == (2, 0, 160)


def test_strangers_of_one_address_replace_each_other() -> None:
    crowd = Crowd(32)
    crowd.enter(AWAY + "1")
    flood = [crowd.enter(AWAY + "2")[0] for _ in range(SOURCE_MIN)]
    assert crowd.enter(AWAY + "2")[1] is flood[0]
    for guest in flood[1:]:
        assert guest is not None
        guest.resting = False
    assert crowd.enter(AWAY + "2")[1] not in flood
    assert crowd.table.busiest_source() == (AWAY + "2", SOURCE_MIN)
    assert crowd.table.strangers == SOURCE_MIN + 1


def test_one_address_whose_strangers_are_all_answered_is_refused_more() -> None:
    crowd = Crowd(100)
    for _ in range(SOURCE_MIN):
        guest, _ = crowd.enter(AWAY + "2")
        assert guest is not None
        guest.resting = False
    assert crowd.enter(AWAY + "2") == (None, None)
    assert crowd.enter(AWAY + "3")[0] is not None
    assert crowd.table.refusals == 1


def test_who_proved_something_is_not_counted_by_its_address() -> None:
    crowd = Crowd(200)
    for _ in range(3 * SOURCE_MIN):
        guest, evicted = crowd.enter(AWAY + "2")
        assert guest is not None
        assert evicted is None
        crowd.table.prove(guest, Standing.GUEST)
    assert crowd.table.strangers == 0


def test_the_order_in_which_they_go() -> None:
    crowd = Crowd(32)
    guests = crowd.fill(10, Standing.GUEST)
    trusted = crowd.fill(10, Standing.TRUSTED)
    spoke, silent = crowd.fill(2)
    spoke.requests = 1
    locals_ = [crowd.enter(HERE)[0] for _ in range(10)]
    assert len(crowd.table) == 32
    order = [silent, spoke, *guests]
    assert [crowd.enter(HERE)[1] for _ in order] == order
    assert crowd.enter(AWAY + "77") == (None, None)  # a stranger never replaces a trusted one
    assert crowd.enter(HERE)[1] is trusted[0]
    assert [guest is not None for guest in locals_] == [True] * 10


def test_who_is_answered_is_never_cut() -> None:
    for standing in Standing:
        crowd = Crowd(16)
        crowd.fill(14, standing, resting=False)
        here = [crowd.enter(HERE)[0] for _ in range(2)]
        for guest in here:
            assert guest is not None
            guest.resting = False
        assert crowd.enter(HERE) == (None, None)
        assert crowd.enter(AWAY + "9") == (None, None)


def test_an_address_that_proved_the_secret_may_use_the_reserve_again() -> None:
    for others, admitted in ((0, True), (KNOWN_ADDRESSES_MAX - 1, True), (KNOWN_ADDRESSES_MAX, False)):
        crowd = Crowd(80)
        for host in (AWAY + "200", *(f"10.1.{number // 256}.{number % 256}" for number in range(others))):
            known, _ = crowd.enter(host)
            assert known is not None
            crowd.table.prove(known, Standing.TRUSTED)
            crowd.table.leave(known)
        crowd.fill(70, Standing.GUEST, resting=False)
        assert crowd.enter(AWAY + "50") == (None, None)
        guest, _ = crowd.enter(AWAY + "200")
        assert (guest is not None) is admitted


def test_less_room_evicts_no_connection_before_the_next_newcomer() -> None:
    crowd = Crowd(64)
    strangers = crowd.fill(50)
    crowd.table.resize(16)
    assert len(crowd.table) == 50
    assert crowd.enter(HERE)[1] is strangers[0]
    crowd.table.leave(strangers[0])  # gone already
    assert len(crowd.table) == 50


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ("[2001:db8::ffff:0:0:1]", "2001:db8::/64"),
        ("[2001:db8:0:1::1]", "2001:db8:0:1::/64"),
        ("[fe80::1%eth0]", "fe80::/64"),
        ("client", "client"),
    ],
)
def test_sources(address: str, source: str) -> None:
    assert source_of(address) == source


class Machine(RuleBasedStateMachine):
    """In any order of events: the limits hold, no request in progress is cut, and this machine gets in."""

    def __init__(self) -> None:
        super().__init__()
        self.crowd = Crowd(24)
        self.here: list[Guest] = []
        self.clock = 0.0

    @rule(host=st.sampled_from([HERE, "[::1]", *(f"{AWAY}{n}" for n in range(6)), "[2001:db8::1]", "[2001:db8::2]"]))
    def enter(self, host: str) -> None:
        table, before = self.crowd.table, list(self.here)
        local = host in (HERE, "[::1]")
        guest, evicted = self.crowd.enter(host)
        if evicted is not None:
            assert evicted.resting
            assert evicted in before
            silent = [one for one in before if not one.requests and not one.peer.startswith((HERE, "[::1]"))]
            if silent and source_of(evicted.peer.rpartition(":")[0]) != source_of(host):
                assert not evicted.requests
            self.here.remove(evicted)
        if guest is not None:
            self.here.append(guest)
        elif local:
            assert len(before) == table.connections_max
            assert not any(one.resting for one in before)

    @precondition(lambda self: self.here)
    @rule(data=st.data(), standing=st.sampled_from(Standing), resting=st.booleans())
    def request(self, data: st.DataObject, standing: Standing, resting: bool) -> None:
        guest = data.draw(st.sampled_from(self.here))
        self.clock += 1
        guest.requests, guest.resting, guest.resting_since = guest.requests + 1, resting, self.clock
        self.crowd.table.prove(guest, standing)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        guest = data.draw(st.sampled_from(self.here))
        self.here.remove(guest)
        self.crowd.table.leave(guest)

    @invariant()
    def limits_hold(self) -> None:
        table = self.crowd.table
        assert len(table) == len(self.here) <= table.connections_max
        assert table.busiest_source()[1] <= table.source_max
        assert table.strangers <= len(self.here)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=80, deadline=None)
