"""The network between the api node and one data node, and what may be wrong with it: of the fakes, and of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tests.support.memory_net import FROM, TO

if TYPE_CHECKING:
    from tests.support.memory_net import MemoryNetwork


class Link(Protocol):
    """Faults hold until ``heal``. Heartbeats go over the same link as calls, in the other direction."""

    @property
    def replies_lost(self) -> int:
        """By ``lose_reply``, so far."""

    def delay(self, seconds: float) -> None:
        """Everything takes so much longer, in either direction."""

    def slow(self, bytes_per_second: float) -> None: ...

    def cut_to(self) -> None:
        """Nothing arrives at the data node any more, and neither end is notified."""

    def cut_from(self) -> None:
        """Nothing arrives from the data node any more: it carries out requests, but its answers are lost."""

    def cut(self) -> None:
        """Nothing arrives at either end."""

    def refuse(self) -> None:
        """Connections break, and none can be made."""

    def reset(self) -> None:
        """Connections break; others can be made."""

    def lose_reply(self) -> None:
        """The connection breaks when the data node answers next: what it was asked has been done."""

    def heal(self) -> None: ...


class FakeLink:
    """Of a ``MemoryNode``, which looks here before and after it does what it is asked."""

    def __init__(self) -> None:
        self.resets = 0
        self.replies_lost = 0
        self.heal()

    def heal(self) -> None:
        self.cut_off_to = self.cut_off_from = self.refusing = False
        self.replies_to_lose = 0
        self._delay_seconds = self._seconds_per_byte = 0.0

    def delay(self, seconds: float) -> None:
        self._delay_seconds = seconds

    def slow(self, bytes_per_second: float) -> None:
        self._seconds_per_byte = 1 / bytes_per_second

    def cut_to(self) -> None:
        self.cut_off_to = True

    def cut_from(self) -> None:
        self.cut_off_from = True

    def cut(self) -> None:
        self.cut_off_to = self.cut_off_from = True

    def refuse(self) -> None:
        self.refusing = True
        self.reset()

    def reset(self) -> None:
        self.resets += 1

    def lose_reply(self) -> None:
        self.replies_to_lose += 1

    @property
    def is_slow(self) -> bool:
        return bool(self._delay_seconds or self._seconds_per_byte)

    def seconds_for(self, size: int) -> float:
        """How much longer than usual so many bytes take."""
        return self._delay_seconds + size * self._seconds_per_byte

    @property
    def carries_heartbeats(self) -> bool:
        """TCP needs both directions."""
        return not (self.cut_off_to or self.cut_off_from or self.refusing)


class RealLink:
    """Of a data node on a network in memory. Its heartbeats have an address of their own at the api node."""

    def __init__(self, net: MemoryNetwork, data_address: str, api_address: str) -> None:
        self._net = net
        self._data = data_address
        self._api = api_address

    @property
    def replies_lost(self) -> int:
        return self._net.replies_lost(self._data)

    def delay(self, seconds: float) -> None:
        for address in (self._data, self._api):
            self._net.delay(address, seconds)

    def slow(self, bytes_per_second: float) -> None:
        for address in (self._data, self._api):
            self._net.slow(address, bytes_per_second)

    def cut_to(self) -> None:
        self._net.freeze(self._data, TO)
        self._net.freeze(self._api, FROM)

    def cut_from(self) -> None:
        self._net.freeze(self._data, FROM)
        self._net.freeze(self._api, TO)

    def cut(self) -> None:
        self.cut_to()
        self.cut_from()

    def refuse(self) -> None:
        for address in (self._data, self._api):
            self._net.cut(address)

    def reset(self) -> None:
        for address in (self._data, self._api):
            self._net.reset(address)

    def lose_reply(self) -> None:
        self._net.lose_reply(self._data)

    def heal(self) -> None:
        for address in (self._data, self._api):
            self._net.heal(address)
