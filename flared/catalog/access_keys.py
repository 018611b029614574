"""Access keys as records: who may do what, with which secret, until when.

    access-key/{access key id} = "1" {"n": name, "s": sealed secret (``access.sealing``), base64, "g": [grants],
                                      "c": created ms, ["e": expires ms], ["u": replaced, works until ms]}
    key-name/{name}            = "1" {"i": [access key ids, the newest first]}

The name is what grants and owners go by; the id is what callers send. Replacing a key gives its name another id and
secret, while the old id goes on for a while. Both rows change in one transaction.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flared.access.grants import Grant, parse_grants
from flared.catalog.records import UNDECODABLE, corrupt, parse, scan_readable, text_of
from flared.errors import BadName, BadRequest, Conflict, NoSuchKey
from flared.meta import keys

if TYPE_CHECKING:
    from flared.meta.kv import KV, Snapshot, Transaction

KEYS_MAX = 10_000
"""Of a cluster; each lookup reads one, but a listing reads all."""
IDS_MAX = 4
"""Of one name: the newest, and those that were replaced and still work."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An access key as it is recorded: its secret is sealed."""

    id: str
    name: str
    sealed: bytes = field(repr=False)
    grants: tuple[Grant, ...]
    created_ms: int
    expires_ms: int = 0
    """0: never."""
    replaced_ms: int = 0
    """Until when it works beside the one that replaced it; 0: it was not replaced."""

    @property
    def ends_ms(self) -> int:
        """When it stops working; 0: never."""
        return min(filter(None, (self.expires_ms, self.replaced_ms)), default=0)

    def works_at(self, now_ms: int) -> bool:
        return not self.ends_ms or now_ms < self.ends_ms


def create_key(tx: Transaction, key: StoredKey) -> None:
    """Record the first key of its name. Raises Conflict."""
    if tx.get(keys.key_name(key.name)) is not None or tx.get(keys.access_key(key.id)) is not None:
        raise Conflict(
            f"there is a key named {key.name} already: choose another name, or replace its secret (flarectl key rotate)"
        )
    _put(tx, key)
    _put_ids(tx, key.name, [key.id])


def replace_key(tx: Transaction, key: StoredKey, until_ms: int, now_ms: int) -> StoredKey:
    """Give the name of ``key`` its id and secret; the key it had works until ``until_ms``.

    Grants and expiry stay those of the name. Returns what was recorded. Raises NoSuchKey; Conflict if too many old ones
    still work.
    """
    known = read_keys(tx, key.name)
    newest, older = known[0], [old for old in known[1:] if old.works_at(now_ms)]
    if not newest.works_at(now_ms):
        raise Conflict(f"the key {key.name} has expired: remove it (flarectl key rm), and create it anew")
    # At once means all that came before, also those that had been left some time.
    older = [replace(newest, replaced_ms=until_ms), *older] if until_ms > now_ms else []
    if len(older) >= IDS_MAX:
        raise Conflict(
            f"{len(older) - 1} replaced keys named {key.name} still work: wait until one has ended, "
            "or end them at once (--grace 0)"
        )
    key = replace(key, grants=newest.grants, expires_ms=newest.expires_ms)
    kept = {one.id for one in older}
    for old in known:
        if old.id not in kept:
            _delete(tx, old.id)
    for one in (key, *older):
        _put(tx, one)
    _put_ids(tx, key.name, [key.id, *(old.id for old in older)])
    return key


def remove_key(tx: Transaction, name: str) -> None:
    """Forget the name and all of its keys. Raises NoSuchKey."""
    tx.reclaim()
    for access_key_id in _read_ids(tx, name):
        _delete(tx, access_key_id)
    tx.delete(keys.key_name(name))


def reseal_key(tx: Transaction, key: StoredKey, sealed: bytes) -> None:
    """Keep the secret sealed anew, if the key is still what it was."""
    if read_key(tx, key.id) == key:
        _put(tx, replace(key, sealed=sealed))


def read_keys(snapshot: Snapshot, name: str) -> list[StoredKey]:
    """Return all keys of a name, the newest first; there is one at least. Raises NoSuchKey."""
    found = [key for one in _read_ids(snapshot, name) if (key := read_key(snapshot, one)) is not None]
    if not found:
        raise corrupt(f"the keys named {name}", LookupError("none of them has a record"))
    return found


def read_key(snapshot: Snapshot, access_key_id: str) -> StoredKey | None:
    value = snapshot.get(keys.access_key(access_key_id))
    return None if value is None else decode(access_key_id, value)


async def list_keys(kv: KV) -> list[StoredKey]:
    """Return all keys that can be read, by name; of one name the newest first."""
    found = await scan_readable(kv, *keys.under(b"access-key/"), KEYS_MAX * IDS_MAX, _decode_row)
    return sorted(found, key=lambda key: (key.name, -key.created_ms, key.id))


def decode(access_key_id: str, value: bytes) -> StoredKey:
    """Raises ManifestCorrupt."""
    try:
        fields = parse(text_of(value), 1)[0]
        grants = parse_grants(fields["g"])
        ends = fields.get("e", 0), fields.get("u", 0)
        return StoredKey(access_key_id, fields["n"], b64decode(fields["s"]), grants, fields["c"], *ends)
    except (BadRequest, BadName, *UNDECODABLE) as error:
        raise corrupt(f"the access key {access_key_id}", error) from None


def _decode_row(key: bytes, value: bytes) -> StoredKey:
    return decode(key.decode().partition("/")[2], value)


def _read_ids(snapshot: Snapshot, name: str) -> list[str]:
    value = snapshot.get(keys.key_name(name))
    if value is None:
        raise NoSuchKey(f"there is no key named {name} (flarectl key ls)")
    try:
        return list(map(str, parse(text_of(value), 1)[0]["i"]))
    except UNDECODABLE as error:
        raise corrupt(f"the keys named {name}", error) from error


def _delete(tx: Transaction, access_key_id: str) -> None:
    tx.delete(keys.access_key(access_key_id))
    tx.delete(keys.key_used(access_key_id))


def _put(tx: Transaction, key: StoredKey) -> None:
    fields: dict[str, object] = {
        "n": key.name,
        "s": b64encode(key.sealed).decode(),
        "g": [str(grant) for grant in key.grants],
        "c": key.created_ms,
    }
    if key.expires_ms:
        fields["e"] = key.expires_ms
    if key.replaced_ms:
        fields["u"] = key.replaced_ms
    tx.put(keys.access_key(key.id), _pack(fields))


def _put_ids(tx: Transaction, name: str, ids: list[str]) -> None:
    tx.put(keys.key_name(name), _pack({"i": ids}))


def _pack(fields: dict[str, object]) -> bytes:
    return b"1" + json.dumps(fields, separators=(",", ":")).encode()
