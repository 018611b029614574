"""Certificates: the calls by which nodes get one of the cluster's own authority, and clients its certificate.

``access.enrolment`` says what travels and why a listener learns nothing.
"""

from __future__ import annotations

import json
import logging
import os
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple

import trio

from flared.access.certificates import REQUEST_BYTES_MAX, Authority, first_certificate, sign_request
from flared.access.enrolment import Issued, find_prover, seal_issued
from flared.access.invites import IV_BYTES, NONCE_BYTES
from flared.api.admin.joining import PROOF_BYTES, parse_hex, read_fields
from flared.errors import BadName, BadRequest, Conflict, Unauthenticated
from flared.http.error_body import JSON
from flared.http.percent import parse_query
from flared.names import parse_node

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flared.access.keys import Keyring
    from flared.http.messages import Reply, Request
    from flared.objects.store import Store

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 2 * REQUEST_BYTES_MAX
_PEM = b"content-type: application/x-pem-file\r\n"


class AuthorityFiles(NamedTuple):
    """Where the cluster's own authority lies on this host."""

    certificate: Path
    """It comes first in this file."""
    key: Path
    """Sealed with the secret."""


class CertificateCalls:
    """The calls. ``files`` says where the authority lies now; None if there is none on this host."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        files: Callable[[], AuthorityFiles | None],
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._files = files
        self._random_bytes = random_bytes
        self._signing = trio.Lock()
        """One at a time: each takes a thread for some milliseconds."""

    async def show_authority(self, request: Request, reply: Reply) -> None:
        """Send the authority's certificate, which is public. Who believes it must know its fingerprint."""
        parse_query(request.query)
        files = self._require_files()
        content = await self._store.chunks.threads.run(_read, files.certificate)
        await reply.send(200, _PEM, first_certificate(content))

    async def issue(self, request: Request, reply: Reply) -> None:
        """Make a certificate for a node that proves to know the secret."""
        fields = await read_fields(request, {"node", "nonce", "request", "proof"}, BODY_BYTES_MAX)
        nonce, proof = parse_hex(fields, "nonce", NONCE_BYTES), parse_hex(fields, "proof", PROOF_BYTES)
        given, asked = fields.get("node"), fields.get("request")
        try:
            node = parse_node(given if isinstance(given, str) else "")
        except BadName as error:
            raise BadRequest(f"node: {error}") from None
        if not isinstance(asked, str) or not asked.isascii() or len(asked) > REQUEST_BYTES_MAX:
            raise BadRequest("request is a request for a certificate in PEM")
        secrets = self._keyring.secrets
        secret = find_prover(secrets, node, nonce, asked.encode(), proof)
        if secret is None:
            raise Unauthenticated("this request for a certificate was not made with the secret of this cluster")
        files, now = self._require_files(), self._store.now()
        iv = self._random_bytes(IV_BYTES)

        def make() -> bytes:
            authority = Authority(first_certificate(_read(files.certificate)), _read(files.key))
            made = sign_request(authority, secrets, node, asked.encode(), now)
            return seal_issued(Issued(authority.certificate, made), secret, node, nonce, iv)

        try:
            async with self._signing:
                sealed = await self._store.chunks.threads.run(make)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        log.info("event=certificate_issued node=%s peer=%s", node, request.peer)
        await reply.send(200, JSON, json.dumps({"sealed": b64encode(sealed).decode()}).encode() + b"\n")

    def _require_files(self) -> AuthorityFiles:
        files = self._files()
        if files is None:
            raise Conflict("this cluster has no authority of its own (ca and ca_key of [tls] in flared.toml(5))")
        return files


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Conflict(f"{file} cannot be read: {error.strerror}") from None
