"""The calls about access keys: create, list, replace, remove. A secret is only in the answer that makes it.

``access.authorize`` lets in who brings the secret of the cluster, or an admin key.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, NamedTuple

import trio

from flared.access.access_key import ID_BYTES, SECRET_BYTES, make_id, make_secret, parse_key_name
from flared.access.grants import GRANTS_MAX, parse_grants
from flared.access.sealing import IV_BYTES, seal, unseal
from flared.catalog.access_keys import (
    KEYS_MAX,
    StoredKey,
    create_key,
    list_keys,
    read_keys,
    remove_key,
    replace_key,
)
from flared.catalog.key_uses import list_uses
from flared.errors import BadRequest, Conflict
from flared.http.error_body import JSON
from flared.http.json_body import parse_json_object
from flared.http.percent import parse_query
from flared.objects.store import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flared.access.keys import Keyring
    from flared.http.messages import Reply, Request
    from flared.objects.store import Store

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 256 * 1024
"""Of 64 grants with long prefixes."""
EXPIRES_MAX = 253_402_300_799
"""The last second of the year 9999."""
GRACE_SECONDS = 24 * 3600
"""How long a replaced key goes on working, if the call does not say."""
GRACE_SECONDS_MAX = 365 * 86400

_SECRET = JSON + b"cache-control: no-store\r\n"


class KeyCalls:
    """The calls."""

    def __init__(self, store: Store, keyring: Keyring, *, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._store = store
        self._keyring = keyring
        self._random_bytes = random_bytes
        self._creating = trio.Lock()

    async def show(self, request: Request, reply: Reply) -> None:
        """Answer all keys, or with ``?name=NAME`` that one, without their secrets."""
        query = parse_query(request.query, "name")
        if "name" not in query:
            stored = await list_keys(self._store.kv)
            return await _send(reply, 200, {"keys": describe_all(stored, await self._find_facts(stored))})
        name = parse_key_name(query["name"])
        stored = await self._store.kv.view(lambda look: read_keys(look, name))
        return await _send(reply, 200, describe(stored, await self._find_facts(stored)))

    async def create(self, request: Request, reply: Reply) -> None:
        """Make a key, and answer with its secret. Raises Conflict for a name that is taken."""
        parse_query(request.query)
        fields = await _read(request, "name", "grants", "expires")
        name, moment = _parse_name(fields.get("name")), now_ms(self._store)
        request.about = f"name={name}"
        expires = _parse_expires(fields.get("expires"), moment)
        grants = parse_grants(_parse_texts(fields.get("grants")))
        key, secret = await self._make(name)
        key = StoredKey(key.id, name, key.sealed, grants, moment, expires)
        async with self._creating:
            if len({known.name for known in await list_keys(self._store.kv)}) >= KEYS_MAX:
                raise Conflict(f"there are {KEYS_MAX:,} access keys, the limit: remove one (flarectl key rm)")
            await self._store.kv.transact(lambda tx: create_key(tx, key))
        log.info(
            "event=key_created key=%s id=%s grants=%r peer=%s",
            name, key.id, ",".join(map(str, grants)), request.peer,
        )  # fmt: skip
        await _send(reply, 201, describe([key], Facts(moment)) | {"secret": secret})

    async def replace(self, request: Request, reply: Reply) -> None:
        """Give ``?name=NAME`` another id and secret; those it has go on working for ``grace_seconds``."""
        name = parse_key_name(parse_query(request.query, "name").get("name", ""))
        fields = await _read(request, "grace_seconds")
        grace = fields.get("grace_seconds", GRACE_SECONDS)
        if not isinstance(grace, int) or isinstance(grace, bool) or not 0 <= grace <= GRACE_SECONDS_MAX:
            raise BadRequest(f"grace_seconds is a whole number from 0 to {GRACE_SECONDS_MAX}")
        moment = now_ms(self._store)
        fresh, secret = await self._make(name)
        await self._store.kv.transact(lambda tx: replace_key(tx, fresh, moment + grace * 1000, moment))
        stored = await self._store.kv.view(lambda look: read_keys(look, name))
        log.info("event=key_replaced key=%s id=%s grace_seconds=%d peer=%s", name, fresh.id, grace, request.peer)
        await _send(reply, 200, describe(stored, Facts(moment)) | {"secret": secret})

    async def remove(self, request: Request, reply: Reply) -> None:
        """Forget ``?name=NAME``: it works no more from the answer on. Raises NoSuchKey."""
        name = parse_key_name(parse_query(request.query, "name").get("name", ""))
        await self._store.kv.transact(lambda tx: remove_key(tx, name))
        log.info("event=key_removed key=%s peer=%s", name, request.peer)
        await reply.send(204, b"")

    async def _find_facts(self, stored: Sequence[StoredKey]) -> Facts:
        unreadable = await self._store.chunks.threads.run(find_unreadable, self._keyring.secrets, stored)
        return Facts(now_ms(self._store), await list_uses(self._store.kv), unreadable)

    async def _make(self, name: str) -> tuple[StoredKey, str]:
        """Return a key that no one has, without grants, and its secret. Raises Conflict."""
        if not self._keyring.secrets:
            raise Conflict(
                "access keys are kept sealed with the secret of the cluster, and this one has none: "
                "give its nodes a secret_file first (flared.toml(5))"
            )
        draw = self._random_bytes
        access_key_id, secret = make_id(draw(ID_BYTES)), make_secret(draw(SECRET_BYTES))
        sealing = self._keyring.secrets[0], secret, access_key_id, name, draw(IV_BYTES)
        sealed = await self._store.chunks.threads.run(seal, *sealing)
        return StoredKey(access_key_id, name, sealed, (), now_ms(self._store)), secret


class Facts(NamedTuple):
    """What is known of keys beside their records."""

    now_ms: int
    uses: Mapping[str, int] = {}
    """When each was last used, in ms since 1970, by id."""
    unreadable: frozenset[str] = frozenset()
    """Ids of keys whose secret no secret of the cluster opens."""

    def state_of(self, key: StoredKey) -> str:
        if not key.works_at(self.now_ms):
            return "expired"
        return "unreadable" if key.id in self.unreadable else "works"


def find_unreadable(secrets: Sequence[bytes], stored: Sequence[StoredKey]) -> frozenset[str]:
    """Return the ids of keys that none of the cluster's secrets opens: no one can sign with them."""
    return frozenset(key.id for key in stored if unseal(secrets, key.sealed, key.id, key.name) is None)


def describe(keys: Sequence[StoredKey], facts: Facts) -> dict[str, object]:
    """Return all that may be known of the keys of one name, the newest first."""
    newest, now_ms = keys[0], facts.now_ms
    used = max((facts.uses.get(key.id, 0) for key in keys), default=0)
    return {
        "name": newest.name,
        "id": newest.id,
        "grants": [str(grant) for grant in newest.grants],
        "created": newest.created_ms / 1000,
        "expires": newest.expires_ms / 1000 if newest.expires_ms else None,
        "used": used / 1000 if used else None,
        "state": facts.state_of(newest),
        "replaced": [
            {"id": old.id, "created": old.created_ms / 1000, "until": old.ends_ms / 1000}
            for old in keys[1:]
            if old.works_at(now_ms)
        ],
    }


def describe_all(keys: Sequence[StoredKey], facts: Facts) -> list[dict[str, object]]:
    """The same of all names."""
    names: dict[str, list[StoredKey]] = {}
    for key in sorted(keys, key=lambda key: bool(key.replaced_ms)):
        names.setdefault(key.name, []).append(key)
    return [describe(names[name], facts) for name in sorted(names)]


async def _read(request: Request, *known: str) -> dict[str, object]:
    body = await request.body.read_all(BODY_BYTES_MAX)
    fields = parse_json_object(body, "the body") if body else {}
    if set(fields) - set(known):
        raise BadRequest(f"the body is a JSON object with {', '.join(known)}")
    return fields


def _parse_name(value: object) -> str:
    return parse_key_name(value if isinstance(value, str) else "")


def _parse_texts(value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise BadRequest("grants is a list of texts such as 'read:photos/2024/'")
    if len(value) > 2 * GRANTS_MAX:
        raise BadRequest(f"these are {len(value)} grants; a key has at most {GRANTS_MAX}")
    return value


def _parse_expires(value: object, now_ms: int) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= EXPIRES_MAX:
        raise BadRequest("expires is a time in seconds since 1970, or null")
    if value * 1000 <= now_ms:
        raise BadRequest("expires lies in the past: the key would never work")
    return int(value * 1000)


async def _send(reply: Reply, status: int, answer: dict[str, object]) -> None:
    await reply.send(status, _SECRET if "secret" in answer else JSON, json.dumps(answer).encode() + b"\n")
