"""Uses of access keys: when each was last used, so that an operator sees which may go.

    key-used/{access key id} = "1" {"t": last use ms}

Each process notes uses in memory and writes down once a minute which keys were used since: a row for each, in one
transaction, so a key that is used all the time costs one small write a minute. A crash forgets up to a minute.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from flared.catalog.records import UNDECODABLE, corrupt, parse, scan_readable, text_of
from flared.errors import FlareError
from flared.meta import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.meta.kv import KV, Transaction

log = logging.getLogger(__name__)

WRITE_SECONDS = 60.0
ROWS_MAX = 1000
"""Of one transaction."""
USES_MAX = 50_000
"""Rows read at once: more than there are keys."""


class KeyUses:
    """Those that one process sees. Only keys that proved themselves are noted, so there are no more than there are."""

    def __init__(self, kv: KV, now: Callable[[], float]) -> None:
        """``now`` is the wall clock, in seconds since 1970."""
        self._kv = kv
        self._now = now
        self._seen: dict[str, float] = {}

    def note(self, access_key_id: str) -> None:
        """The key was used now."""
        self._seen[access_key_id] = self._now()

    async def run(self) -> None:
        """Write down what was noted, until cancelled."""
        while True:
            await trio.sleep(WRITE_SECONDS)
            try:
                await self.write()
            except FlareError as error:  # such as a full disk: it will be noted again
                log.info("event=key_uses_not_written error=%s message=%r", error.code, str(error))

    async def write(self) -> None:
        """Write down what was noted since the last time."""
        seen, self._seen = self._seen, {}
        noted = list(seen.items())
        for start in range(0, len(noted), ROWS_MAX):
            page = noted[start : start + ROWS_MAX]
            await self._kv.transact(lambda tx, page=page: _write(tx, page))  # type: ignore[misc]  # a default in a lambda


def _write(tx: Transaction, noted: list[tuple[str, float]]) -> None:
    for access_key_id, seconds in noted:
        if tx.get(keys.access_key(access_key_id)) is not None:  # it may have been removed since
            tx.put(keys.key_used(access_key_id), b'1{"t":%d}' % int(seconds * 1000))


async def list_uses(kv: KV) -> dict[str, int]:
    """Return when each key was last used, by access key id, in ms since 1970."""
    return dict(await scan_readable(kv, *keys.under(b"key-used/"), USES_MAX, _decode))


def _decode(key: bytes, value: bytes) -> tuple[str, int]:
    access_key_id = key.decode().partition("/")[2]
    try:
        return access_key_id, int(parse(text_of(value), 1)[0]["t"])
    except UNDECODABLE as error:
        raise corrupt(f"the last use of the access key {access_key_id}", error) from error
