"""Invites: which host may fetch the cluster's secret, until when, and which one has (``access.invites``).

invite/{id} = "1" {"e": expires ms, "n": the only node it is for, "u": the node that used it, "o": its nonce}

No key is kept here. A used invite stays until it expires, so that the host whose answer was lost may ask again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flared.catalog.records import UNDECODABLE, corrupt, parse, scan_readable, text_of
from flared.errors import Conflict, Forbidden
from flared.meta import keys

if TYPE_CHECKING:
    from flared.meta.kv import KV, Snapshot, Transaction

INVITES_MAX = 256
"""That have not expired."""
AGAIN = "make another one: flarectl node invite"


@dataclass(frozen=True, slots=True)
class Invite:
    id: str
    expires_ms: int
    node: str = ""
    """The only one that may use it; empty: any."""
    used_by: str = ""
    nonce: str = ""
    """Of the call that used it."""


async def record_invite(kv: KV, invite: Invite, now_ms: int) -> None:
    """Keep the invite, and forget those that have expired. Raises Conflict if there are too many; one at a time."""
    known = await scan_readable(kv, *keys.under(b"invite/"), 2 * INVITES_MAX, decode)
    expired = [old.id for old in known if old.expires_ms <= now_ms]
    if len(known) - len(expired) >= INVITES_MAX:
        raise Conflict(f"there are {INVITES_MAX} invites that have not expired; wait until the first of them has")

    def decide(tx: Transaction) -> None:
        for old in expired:
            tx.delete(keys.invite(old))
        _put(tx, invite)

    await kv.transact(decide)


def use_invite(tx: Transaction, invite: str, node: str, nonce: str, now_ms: int) -> None:
    """Let this call have the secret, and no other from now on. Raises Forbidden with the reason."""
    known = read_invite(tx, invite)
    if known is None or known.expires_ms <= now_ms:
        raise Forbidden(f"this join token has expired; {AGAIN}")
    if known.node and known.node != node:
        raise Forbidden(f"this join token is for a node named {known.node}, not for {node}")
    if known.used_by:
        if (known.used_by, known.nonce) == (node, nonce):
            return
        raise Forbidden(f"this join token was used already, by node {known.used_by}; {AGAIN}")
    _put(tx, replace(known, used_by=node, nonce=nonce))


def read_invite(snapshot: Snapshot, invite: str) -> Invite | None:
    key = keys.invite(invite)
    value = snapshot.get(key)
    return None if value is None else decode(key, value)


def decode(key: bytes, value: bytes) -> Invite:
    """Raises ManifestCorrupt."""
    name = key.decode().partition("/")[2]
    try:
        fields = parse(text_of(value), 1)[0]
        return Invite(name, fields["e"], fields["n"], fields["u"], fields["o"])
    except UNDECODABLE as error:
        raise corrupt(f"the invite {name}", error) from error


def _put(tx: Transaction, invite: Invite) -> None:
    fields = {"e": invite.expires_ms, "n": invite.node, "u": invite.used_by, "o": invite.nonce}
    tx.put(keys.invite(invite.id), b"1" + json.dumps(fields, separators=(",", ":")).encode())
