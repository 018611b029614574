"""Once: signed writes that were carried out, for as long as their signature is good, so that none is done again.

    signed/{expires ms}/{signature} = "1{}"

The row is written by the transaction of the write itself, so a write that fails may be sent again as it was; calls that
need several transactions, or none, have one of their own before they begin (``claim``). All workers see it, and a
restart forgets nothing. Rows that have expired are removed by the sweep: there are as many as signed writes of the last
minutes, about 110 bytes each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flared.errors import Replayed
from flared.meta import keys

if TYPE_CHECKING:
    from flared.meta.kv import KV, Transaction

FORGOTTEN_AT_ONCE = 2048
"""Rows removed in one transaction, about 10 ms."""
_VALUE = b"1{}"


class Once(NamedTuple):
    """A signed write that may be carried out once: the key of its row."""

    key: bytes


def make_once(signature: str, expires_ms: int) -> Once:
    """Return what the write with this signature is recorded by: in hex, at least 32 digits that no other call has.

    It covers a time, and a nonce if its form has one. From ``expires_ms`` on the call would be refused anyway, by every
    process, even one whose clock is wrong.
    """
    return Once(keys.signed(expires_ms, signature[:32]))


def do_once(tx: Transaction, once: Once) -> None:
    """Record in the transaction of the write that it is carried out. Raises Replayed if it was before."""
    if tx.get(once.key) is not None:
        raise _replayed()
    tx.put(once.key, _VALUE)


async def check_once(kv: KV, once: Once) -> None:
    """Raise Replayed if the write was carried out before; the transaction of the write decides."""
    if await kv.get(once.key) is not None:
        raise _replayed()


async def claim(kv: KV, once: Once, *, reclaims: bool = False) -> None:
    """Record that the write is about to begin. Raises Replayed. ``reclaims``: it leads to space coming back."""

    def decide(tx: Transaction) -> None:
        if reclaims:
            tx.reclaim()
        do_once(tx, once)

    await kv.transact(decide)


async def forget_expired(kv: KV, now_ms: int) -> bool:
    """Remove rows that expired by ``now_ms``, a clock that cannot jump ahead. Return whether there may be more."""
    rows = [key for key, _ in await kv.scan(*keys.timed("signed", now_ms), FORGOTTEN_AT_ONCE)]
    if not rows:
        return False

    def decide(tx: Transaction) -> None:
        tx.reclaim()
        for key in rows:
            tx.delete(key)

    await kv.transact(decide)
    return len(rows) == FORGOTTEN_AT_ONCE


def _replayed() -> Replayed:
    return Replayed("this signed write came before, and it is carried out only once: sign every call anew")
