"""Callers of the S3 face: who signs a request, and in which context; and the body that the signature speaks of.

A caller without a signature is anonymous, from this machine, too: S3's clients sign, and a proxy on this machine would
make everyone local.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from flared.access.aws_chunks import (
    SIGNED,
    SIGNED_TRAILER,
    UNSIGNED_TRAILER,
    ChunkDecoder,
    ChunkSeal,
    decoded_length,
)
from flared.access.identity import ANONYMOUS, key_identity
from flared.access.sigv4 import (
    UNSIGNED_PAYLOAD,
    Signature,
    SignatureRefused,
    check_scope,
    check_signature,
    check_time,
    find_signature,
    is_sha256,
)
from flared.access.sigv4_canonical import EMPTY_SHA256, signing_key
from flared.api.callers import Caller
from flared.api.s3.bodies import ChunkedPayload, HashedBody, wrong_payload
from flared.api.s3.errors import S3Error
from flared.api.s3.owner import OWNER_ID
from flared.api.s3.routes import bucket_of_host
from flared.errors import Forbidden
from flared.http.messages import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flared.access.access_key import AccessKey
    from flared.access.authorize import Policy
    from flared.access.identity import Identity
    from flared.api.s3.settings import S3Settings
    from flared.http.exchange import Exchange

PAYLOAD = "x-amz-content-sha256"
EXPECTED_OWNER = "x-amz-expected-bucket-owner"
STREAMING = frozenset({SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER})


class KeySource(Protocol):
    """Where access keys are found: ``catalog.key_store.KeyStore``."""

    def find(self, access_key_id: str) -> AccessKey | None:
        """Return the key if it works now."""


class S3Callers:
    """Finds the callers of one node."""

    def __init__(
        self, policy: Policy, settings: S3Settings, keys: KeySource, now: Callable[[], float] = time.time
    ) -> None:
        """``now`` is the wall clock."""
        self._policy = policy
        self.settings = settings
        self._ending = f".{settings.domain}" if settings.domain else ""
        self.keys = keys
        self.now = now

    def find(self, request: Request | Exchange, _memo: dict[str, object] | None) -> Caller:
        """Return who makes this request; from here on its body raises if it is not the one that was signed.

        Nothing is kept in the memo of its head: a signature covers the path, too. Raises SignatureRefused and S3Error.
        """
        fields, query = request.fields, request.query
        if EXPECTED_OWNER in fields and fields[EXPECTED_OWNER] != OWNER_ID:
            raise Forbidden("the bucket belongs to another account than the one expected", lacking="expected owner")
        # A browser asks before it uses a pre-signed link. The signature in it is of the call that may follow, so the
        # question is anonymous, as it is for AWS.
        signature = None if request.method == "OPTIONS" else find_signature(query, fields)
        if signature is None:
            identity, payload = ANONYMOUS, fields.get(PAYLOAD, UNSIGNED_PAYLOAD)
        else:
            identity, payload = key_identity(self._verify(signature, request)), signature.payload
        if payload in STREAMING:
            open_chunks(request, payload, make_seal(signature, identity))
        elif payload != UNSIGNED_PAYLOAD:
            check_body(request, payload)
        context = self._policy.context(request.method, request.peer, self._with_own_host(fields), secure=request.secure)
        return Caller(identity, context, request.peer, self._policy.keyring.secrets)

    def _with_own_host(self, fields: Mapping[str, str]) -> Mapping[str, str]:
        """Return the fields; a host name that a bucket has here counts as that of the node."""
        host = fields.get("host", "").lower()
        if self._ending and bucket_of_host(host, self._ending):
            return {**fields, "host": self.settings.domain}
        return fields

    def _verify(self, signature: Signature, request: Request | Exchange) -> AccessKey:
        """Return the key that has signed the request."""
        check_time(signature, self.now())
        check_scope(signature, self.settings.region)
        credential = signature.credential
        key = self.keys.find(credential.access_key_id)
        if key is None:
            raise SignatureRefused(
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
                {"AWSAccessKeyId": credential.access_key_id[:128]},
            )
        check_signature(signature, key.secret, request.method, request.path, request.query, request.fields)
        return key


def make_seal(signature: Signature | None, identity: Identity) -> ChunkSeal | None:
    """Return what the chunks of a body are signed with; None for a request without a signature."""
    if signature is None or identity.key is None:
        return None
    credential = signature.credential
    derived = signing_key(identity.key.secret, credential.date, credential.region)
    return ChunkSeal(derived, signature.time, credential.scope, signature.value)


def check_body(request: Request | Exchange, payload: str) -> None:
    """Have the body of the request raise before its end if it is not what ``payload`` says.

    A small body in turns is compared by the one call that takes one (``quick``); an empty one here.
    """
    if not is_sha256(payload):
        raise S3Error(
            "InvalidArgument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
        )
    if isinstance(request, Request):
        if request.body.length != 0:
            request.body = HashedBody(request.body, bytes.fromhex(payload))
            return
    elif request.body:
        return
    if payload.lower() != EMPTY_SHA256:
        raise wrong_payload()


def open_chunks(request: Request | Exchange, payload: str, seal: ChunkSeal | None) -> None:
    """Have the body of the request be what its chunks hold. Raises S3Error and SignatureRefused."""
    assert isinstance(request, Request), "the router leaves these to a task"
    length = decoded_length(request.fields)
    if length is None:
        raise S3Error("MissingContentLength", "You must provide the Content-Length HTTP header.")
    if payload == UNSIGNED_TRAILER:
        seal = None
    elif seal is None:
        raise SignatureRefused("AccessDenied", "Access Denied")
    decoder = ChunkDecoder(seal, trailers=payload != SIGNED)
    request.body = ChunkedPayload(request.body, decoder, length)
