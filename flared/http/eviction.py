"""Eviction: which connection goes when room is short, and which newcomer is refused. Pure.

A connection has a *standing*: what was proved on it so far. Strangers, who have proved nothing, may neither take all
the room nor much of it from one address; so a thousand of them that never say a word cost nobody else a connection:

    standing   who                                                    may take
    TRUSTED    this machine; whoever proved to know the secret        all of it
    GUEST      whose call needs no secret, where the node allows that all but the reserve
    STRANGER   everybody else, and everybody before the first call    the same, and of one address only a share

A newcomer that finds no room takes the place of a connection on which no request is being answered: first of a stranger
that never made one, the oldest first; then of another stranger, then of a guest, the one that rests longest first. Only
trusted newcomers replace a trusted one at rest. Who is answered a request is never cut for a newcomer.

An address at which somebody proved the secret is remembered: new connections from there may take the reserve, though
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
"""One place in so many is kept from strangers and guests: 128 of 1024, more than nodes and operators need at once."""
SOURCE_SHARE = 8
"""Strangers of one address have at most one place in so many: enough for the burst in which a pool connects."""
SOURCE_MIN = 16
"""And at least so many, where connections are few."""
KNOWN_ADDRESSES_MAX = 1024
"""Addresses remembered because somebody there proved the secret; the one that proved it longest ago is forgotten."""


class Standing(IntEnum):
    """What was proved on a connection. It only rises."""

    STRANGER = 0
    GUEST = 1
    TRUSTED = 2


STRANGER, GUEST, TRUSTED = Standing
"""The same, for the way of every request: Python 3.11 takes half a microsecond to find a member of an enumeration."""


class Occupant(Protocol):
    """A connection, as far as this is concerned."""

    requests: int
    """How many it has made."""
    resting_since: float
    """Roughly when its last request was answered, by any clock."""

    @property
    def resting(self) -> bool:
        """Whether it could be closed without breaking off the answer to a request."""


T = TypeVar("T", bound=Occupant)


@dataclass(slots=True)
class _Seat:
    address: str
    source: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """What becomes of a newcomer, and who goes for it."""

    admitted: bool
    evicted: T | None = None


class ConnectionTable(Generic[T]):
    """Who is here. ``enter`` takes constant time unless only connections that made requests are left to evict."""

    def __init__(self, connections_max: int) -> None:
        self.evictions = 0
        self.refusals = 0
        self._seats: dict[T, _Seat] = {}
        self._silent: dict[T, None] = {}
        """Strangers in the order of their coming; those that have made a request since are dropped when met."""
        self._sources: dict[str, dict[T, None]] = {}
        """The strangers of each source, in the order of their coming."""
        self._untrusted = 0
        self._known: dict[str, None] = {}
        self.resize(connections_max)

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def strangers(self) -> int:
        return sum(map(len, self._sources.values()))

    def resize(self, connections_max: int) -> None:
        """From now on admit no more than these; those that are here stay."""
        self.connections_max = connections_max
        self.reserve = connections_max // RESERVE_SHARE
        self.source_max = max(SOURCE_MIN, connections_max // SOURCE_SHARE)

    def enter(self, newcomer: T, peer: str) -> Entry[T]:
        """Decide about a connection from ``peer``, an IP address and port.

        If it is admitted it is here until ``leave``. Who is evicted is not here any more; the caller closes it.
        """
        address = peer.rpartition(":")[0]
        local = is_local(peer)
        victim: T | None = None
        source = source_of(address)
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
        self._seats[newcomer] = _Seat(address, source, Standing.TRUSTED if local else Standing.STRANGER)
        if not local:
            self._untrusted += 1
            self._silent[newcomer] = None
            self._sources.setdefault(source, {})[newcomer] = None
        return Entry(admitted=True, evicted=victim)

    def prove(self, occupant: T, standing: Standing) -> None:
        """``occupant`` has proved so much. One that is not here (any more) may prove what it likes."""
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
        """``occupant`` is gone; it need not have been here."""
        seat = self._seats.pop(occupant, None)
        if seat is None:
            return
        if seat.standing is Standing.STRANGER:
            self._forget_stranger(occupant, seat)
        if seat.standing is not Standing.TRUSTED:
            self._untrusted -= 1

    def busiest_source(self) -> tuple[str, int]:
        """The source with most strangers, and how many; nothing and 0 if there are none."""
        counts = {source: len(here) for source, here in self._sources.items()}
        return max(counts.items(), key=lambda count: count[1], default=("", 0))

    def _refuse(self) -> Entry[T]:
        self.refusals += 1
        return Entry(admitted=False)

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
    """Whether this is an address and port of this machine's loopback."""
    return peer.startswith(LOOPBACK)


def source_of(address: str) -> str:
    """What connections are counted by: an IPv4 address, or the /64 of an IPv6 one, which one host has all of."""
    try:
        parsed = ipaddress.IPv6Address(address.strip("[]").partition("%")[0])
    except ValueError:
        return address
    return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"


def _oldest_resting(occupants: Iterable[T]) -> T | None:
    return next((occupant for occupant in occupants if occupant.resting), None)
