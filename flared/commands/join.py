"""The new host's part of an invite: exchange a join token for the secrets of the cluster (``access.invites``)."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from http.client import HTTPException
from typing import TYPE_CHECKING

from flared.access.invites import NONCE_BYTES, SEALED_BYTES_MAX, prove, unseal
from flared.commands.certificates import connect, url_of
from flared.http.error_body import parse_error
from flared.http.json_body import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.access.invites import JoinToken
    from flared.http.address import Endpoint

PATH = "/cluster/join"
ATTEMPTS = 2
"""The first answer may be lost after the token was used; a second call with the same nonce returns it again."""
ANSWER_BYTES_MAX = 2 * SEALED_BYTES_MAX


class NotJoined(Exception):  # the message is one sentence for the operator
    """The cluster did not accept this host."""


def fetch_secrets(token: JoinToken, node: str, apis: Sequence[Endpoint]) -> tuple[bytes, ...]:
    """Return the cluster's secrets for the node of this name, from the first api node that answers.

    Raise NotJoined.
    """
    nonce = os.urandom(NONCE_BYTES)
    proof = prove(token.key, token.invite, node, nonce)
    body = json.dumps({"invite": token.invite.hex(), "node": node, "nonce": nonce.hex(), "proof": proof.hex()}).encode()
    failures = []
    for api in apis:
        for _ in range(ATTEMPTS):
            try:
                status, answer = _post(api, body)
            except (OSError, HTTPException) as error:
                failures.append(f"{url_of(api)}: {getattr(error, 'strerror', None) or error or type(error).__name__}")
                continue
            return _open(token, node, nonce, api, status, answer)
    raise NotJoined(
        f"no api node answers ({'; '.join(dict.fromkeys(failures))}): check that it runs and that this host reaches "
        "it there, or name another URL with --api"
    )


def _post(api: Endpoint, body: bytes) -> tuple[int, bytes]:
    connection = connect(api)
    try:
        connection.request("POST", PATH, body, {"content-type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read(ANSWER_BYTES_MAX)
    finally:
        connection.close()


def _open(token: JoinToken, node: str, nonce: bytes, api: Endpoint, status: int, answer: bytes) -> tuple[bytes, ...]:
    try:
        fields: object = parse_json(answer)
    except ValueError:
        fields = None
    fields = fields if isinstance(fields, dict) else {}
    sealed = fields.get("sealed")
    if status != 200 or not isinstance(sealed, str):
        message = parse_error(answer).message
        if not message:
            raise NotJoined(f"{url_of(api)} answered with HTTP status {status}, not as an api node of Flare would")
        raise NotJoined(f"{url_of(api)}: {message[:500]}")
    try:
        return unseal(b64decode(sealed), token.key, token.invite, node, nonce)
    except ValueError as reason:
        raise NotJoined(f"{url_of(api)}: {reason}") from None
