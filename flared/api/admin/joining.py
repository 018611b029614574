"""Joining: the calls that let a new host in: an operator makes an invite, with which the host takes the secret.

``access.invites`` says what travels and why a listener learns nothing.
"""

from __future__ import annotations

import json
import logging
import os
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from flared.access.invites import (
    INVITE_BYTES,
    IV_BYTES,
    NONCE_BYTES,
    VALID_SECONDS_MAX,
    find_key,
    seal,
)
from flared.catalog.invites import AGAIN, Invite, record_invite, use_invite
from flared.errors import BadName, BadRequest, Conflict, Unauthenticated
from flared.http.error_body import JSON
from flared.http.json_body import parse_json_object
from flared.http.percent import parse_query
from flared.names import parse_node
from flared.objects.store import now_ms

if TYPE_CHECKING:
    from flared.access.keys import Keyring
    from flared.http.messages import Reply, Request
    from flared.objects.store import Store

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 4096
PROOF_BYTES = 32


class Joining:
    """The calls. ``describe`` adds to an invite what its token must say: the cluster and where the api node listens."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        *,
        describe: Callable[[], dict[str, object]],
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._describe = describe
        self._random_bytes = random_bytes
        self._recording = trio.Lock()

    async def invite(self, request: Request, reply: Reply) -> None:
        """Make an invite. It hands the secret out, so it takes the secret (``access.authorize.PROVED``)."""
        if not self._keyring.secrets:
            raise Conflict(
                "this cluster has no secret to hand out: give its nodes a secret_file first (flared.toml(5))"
            )
        fields = await read_fields(request, {"valid_seconds", "node"})
        valid, node = fields.get("valid_seconds"), fields.get("node", "")
        if not isinstance(valid, int) or isinstance(valid, bool) or not 1 <= valid <= VALID_SECONDS_MAX:
            raise BadRequest(f"valid_seconds is a whole number from 1 to {VALID_SECONDS_MAX}")
        if node != "":
            node = parse_node(node if isinstance(node, str) else "")
        moment = now_ms(self._store)
        invite = Invite(self._random_bytes(INVITE_BYTES).hex(), moment + valid * 1000, str(node))
        async with self._recording:
            await record_invite(self._store.kv, invite, moment)
        log.info("event=invite_made invite=%s node=%s valid_seconds=%d", invite.id, invite.node, valid)
        answer = {"invite": invite.id, "expires": invite.expires_ms / 1000, "node": invite.node, **self._describe()}
        await reply.send(201, JSON, json.dumps(answer).encode() + b"\n")

    async def join(self, request: Request, reply: Reply) -> None:
        """Hand out the secret, once. A caller without a token of ours learns nothing, not even which invites exist."""
        fields = await read_fields(request, {"invite", "node", "nonce", "proof"})
        invite, nonce = parse_hex(fields, "invite", INVITE_BYTES), parse_hex(fields, "nonce", NONCE_BYTES)
        proof, given = parse_hex(fields, "proof", PROOF_BYTES), fields.get("node")
        try:
            node = parse_node(given if isinstance(given, str) else "")
        except BadName as error:
            raise BadRequest(f"node: {error}") from None
        secrets = self._keyring.secrets
        key = find_key(secrets, invite, node, nonce, proof)
        if key is None:
            raise Unauthenticated(f"this join token is of another cluster, or of a secret that is replaced; {AGAIN}")
        moment = now_ms(self._store)
        await self._store.kv.transact(lambda tx: use_invite(tx, invite.hex(), node, nonce.hex(), moment))
        iv = self._random_bytes(IV_BYTES)
        sealed = await self._store.chunks.threads.run(seal, secrets, key, invite, node, nonce, iv)
        log.info("event=secret_handed_out invite=%s node=%s peer=%s", invite.hex(), node, request.peer)
        await reply.send(200, JSON, json.dumps({"sealed": b64encode(sealed).decode()}).encode() + b"\n")


async def read_fields(request: Request, known: set[str], bytes_max: int = BODY_BYTES_MAX) -> dict[str, object]:
    """Return the fields of the request's JSON object. Raise BadRequest for one that is not known."""
    parse_query(request.query)
    fields = parse_json_object(await request.body.read_all(bytes_max), "the body")
    if set(fields) - known:
        raise BadRequest(f"the body is a JSON object with {', '.join(sorted(known))}")
    return fields


def parse_hex(fields: dict[str, object], name: str, size: int) -> bytes:
    """Return the bytes that a field has in hex digits. Raise BadRequest."""
    value = fields.get(name)
    try:
        content = bytes.fromhex(value if isinstance(value, str) else "")
    except ValueError:
        content = b""
    if len(content) != size:
        raise BadRequest(f"{name} is {2 * size} hex digits")
    return content
