"""Eviction: decide which connection is closed when room is short, and which newcomer is refused. Pure.

A connection has a *standing*: what its client has proved so far. Strangers have proved nothing. They may neither take
all the room, nor much of it from one address; so a thousand silent strangers cost no other client a connection:

    standing   client                                                 may take
    TRUSTED    on this machine, or proved to know the secret          all places
    GUEST      has an access key, or needed none for a call           all but the reserve
    STRANGER   any other, and every client before its first call      the same, and only a share from one address

A newcomer that finds no room takes the place of a connection without a request in progress: first that of a stranger
that never made a request, the oldest first; then of another stranger, then of a guest, the longest idle first. Only a
trusted newcomer replaces an idle trusted one. A connection with a request in progress is never closed for a newcomer.

An address from which the secret was proved is remembered: new connections from there may take the reserve, though
not others' places, before they prove it again. Otherwise busy guests could keep out the nodes of the cluster.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from flared.http.address import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterable

RESERVE_SHARE = 8
"""One of so many places is reserved from strangers and guests: 128 of 1024, more than nodes and operators need."""
SOURCE_SHARE = 8
"""Strangers of one address get at most one of so many places: enough for a pool that connects in a burst."""
SOURCE_MIN = 16
"""Strangers of one address get at least so many places, also if the limit of connections is low."""
KNOWN_ADDRESSES_MAX = 1024
"""Addresses remembered because the secret was proved from there; the one with the oldest proof is forgotten."""


class Standing(IntEnum):
    """How much the client of a connection has proved. It only rises."""

    STRANGER = 0
    GUEST = 1
    TRUSTED = 2


STRANGER, GUEST, TRUSTED = Standing
"""Standing.TRUSTED as a constant for the hot path:

Python 3.11 takes half a microsecond to look up an enum's member.
"""


class Occupant(Protocol):
    """A connection as the table sees it."""

    requests: int
    """The number of requests made on it."""
    resting_since: float
    """About when its last request was answered, on any monotonic clock."""

    @property
    def resting(self) -> bool:
        """Return whether closing it would break off no request."""


T = TypeVar("T", bound=Occupant)


@dataclass(slots=True)
class _Seat:
    address: str
    source: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class Admission(Generic[T]):
    """The decision about a newcomer, and the connection that is closed for it."""

    admitted: bool
    evicted: T | None = None


class ConnectionTable(Generic[T]):
    """The open connections. ``enter`` takes constant time, unless it must evict one that has made requests."""

    def __init__(self, connections_max: int) -> None:
        self.evictions = 0
        self.refusals = 0
        self._seats: dict[T, _Seat] = {}
        self._silent: dict[T, None] = {}
        """Strangers in the order of arrival; those that have made a request since are dropped when met."""
        self._sources: dict[str, dict[T, None]] = {}
        """The strangers of each source, in the order of arrival."""
        self._untrusted = 0
        self._known: dict[str, None] = {}
        self.resize(connections_max)

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def strangers(self) -> int:
        return sum(map(len, self._sources.values()))

    def resize(self, connections_max: int) -> None:
        """Admit at most so many from now on; open connections stay."""
        self.connections_max = connections_max
        self.reserve = connections_max // RESERVE_SHARE
        self.source_max = max(SOURCE_MIN, connections_max // SOURCE_SHARE)

    def enter(self, newcomer: T, peer: str) -> Admission[T]:
        """Decide about a connection from ``peer``, an IP address and port.

        An admitted connection is in the table until ``leave``. An evicted one has left it; the caller closes it.
        """
        address = peer.rpartition(":")[0]
        local = is_local(peer)
        victim: T | None = None
        source = source_of(address)
        # An address at its share pays with a connection of its own, also when there is room; otherwise anyone may go.
        if not local and len(self._sources.get(source, ())) >= self.source_max:
            victim = _oldest_resting(self._sources[source])
            if victim is None:
                return self._refuse()
        elif not self._has_room(reserved=local or address in self._known):
            victim = self._find_victim(trusted=local)
            if victim is None:
                return self._refuse()
        if victim is not None:
            self.evictions += 1
            self.leave(victim)
        # This machine needs no proof; any other newcomer is a stranger until its first call.
        self._seats[newcomer] = _Seat(address, source, Standing.TRUSTED if local else Standing.STRANGER)
        if not local:
            self._untrusted += 1
            self._silent[newcomer] = None
            self._sources.setdefault(source, {})[newcomer] = None
        return Admission(admitted=True, evicted=victim)

    def prove(self, occupant: T, standing: Standing) -> None:
        """Raise the standing of ``occupant``; does nothing if it is not in the table."""
        seat = self._seats.get(occupant)
        if seat is None or standing <= seat.standing:
            return
        if seat.standing is Standing.STRANGER:
            self._forget_stranger(occupant, seat)
        if standing is Standing.TRUSTED:
            self._untrusted -= 1
            self._remember(seat.address)
        seat.standing = standing

    def leave(self, occupant: T) -> None:
        """Remove ``occupant``; does nothing if it is not in the table."""
        seat = self._seats.pop(occupant, None)
        if seat is None:
            return
        if seat.standing is Standing.STRANGER:
            self._forget_stranger(occupant, seat)
        if seat.standing is not Standing.TRUSTED:
            self._untrusted -= 1

    def busiest_source(self) -> tuple[str, int]:
        """Return the source with most strangers and their number; empty and 0 if there are none."""
        counts = {source: len(here) for source, here in self._sources.items()}
        return max(counts.items(), key=lambda count: count[1], default=("", 0))

    def _refuse(self) -> Admission[T]:
        self.refusals += 1
        return Admission(admitted=False)

    def _has_room(self, *, reserved: bool) -> bool:
        if len(self._seats) >= self.connections_max:
            return False
        return reserved or self._untrusted < self.connections_max - self.reserve

    def _find_victim(self, *, trusted: bool) -> T | None:
        while self._silent:
            oldest = next(iter(self._silent))
            if not oldest.requests and oldest.resting:
                return oldest
            del self._silent[oldest]
        resting = [
            (seat.standing, occupant.resting_since, number)
            for number, (occupant, seat) in enumerate(self._seats.items())
            if occupant.resting and (trusted or seat.standing is not Standing.TRUSTED)
        ]
        return list(self._seats)[min(resting)[2]] if resting else None

    def _forget_stranger(self, occupant: T, seat: _Seat) -> None:
        self._silent.pop(occupant, None)
        here = self._sources[seat.source]
        del here[occupant]
        if not here:
            del self._sources[seat.source]

    def _remember(self, address: str) -> None:
        self._known.pop(address, None)
        self._known[address] = None
        if len(self._known) > KNOWN_ADDRESSES_MAX:
            del self._known[next(iter(self._known))]


def is_local(peer: str) -> bool:
    """Return whether this is an address and port of this machine's loopback."""
    return peer.startswith(LOOPBACK)


def source_of(address: str) -> str:
    """Return the key that connections are counted by: an IPv4 address, or the /64 of an IPv6 one, since one host has
    it."""
    try:
        parsed = ipaddress.IPv6Address(address.strip("[]").partition("%")[0])
    except ValueError:
        return address
    return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"


def _oldest_resting(occupants: Iterable[T]) -> T | None:
    return next((occupant for occupant in occupants if occupant.resting), None)
