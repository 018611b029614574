"""Callers: who makes a request, and in which context; for faces whose callers show a field, a signature or nothing.

What is found depends on the head's fields, the method, the peer and the secrets. Equal heads on one connection share
their ``memo`` (``http.parsing.Fields``), so it is kept there, by method. Only identity and context are: what they may
do is decided for each call. A signature is compared for each call, too (``signed``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from flared.access.authorize import GRANTS, Policy, authorize, may_see
from flared.access.identity import identify
from flared.access.signing import SIGNATURE, is_link
from flared.api.signed import identify_link, identify_signed
from flared.catalog.access import find_access, find_object_access
from flared.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.access.authorize import Action, Context, Resource
    from flared.access.identity import Identity
    from flared.access.keys import Keyring
    from flared.catalog.buckets import Bucket
    from flared.catalog.key_store import KeyStore
    from flared.http.exchange import Exchange
    from flared.http.messages import Request
    from flared.meta.kv import KV

REMEMBERED_MAX = 8
"""Entries of one memo: a client may send any number of methods with the same fields."""


def access_policy(
    kv: KV, keyring: Keyring, anonymous: str, hosts: frozenset[str], *, tells_missing: bool = False
) -> Policy:
    """Return the settings about access of a face on this metadata; ``anonymous`` is the word of the node's TOML file.

    ``tells_missing``: it answers as S3 for what does not exist.
    """
    find = partial(find_access, kv), partial(find_object_access, kv)
    return Policy(keyring, GRANTS[anonymous], find[0], hosts, find[1], tells_missing)


class Caller(NamedTuple):
    identity: Identity
    context: Context
    peer: str
    secrets: tuple[bytes, ...]
    """Those that the identity was found with."""


class Callers:
    """Finds the callers of one node."""

    def __init__(self, policy: Policy, keys: KeyStore) -> None:
        self._policy = policy
        self.keys = keys
        """Those that callers may sign with now."""

    def find(self, request: Request | Exchange, memo: dict[str, object] | None) -> Caller:
        """Return who makes this request. ``memo`` is that of its head, if there is one."""
        policy, method, peer, fields = self._policy, request.method, request.peer, request.fields
        secrets = policy.keyring.secrets
        if SIGNATURE in fields:
            if "authorization" in fields:
                raise BadRequest("a call is signed with an access key or has an Authorization field, not both")
            signer = identify_signed(request, self.keys)
            return Caller(signer, policy.context(method, peer, fields, secure=request.secure), peer, secrets)
        if request.query and is_link(request.query) and method != "OPTIONS":  # a preflight of a page that has the link
            signer = identify_link(request, self.keys)
            return Caller(signer, policy.context(method, peer, fields, secure=request.secure), peer, secrets)
        if memo is not None:
            known = memo.get(method)
            # A keyring that was changed has another tuple of secrets.
            if type(known) is Caller and known.secrets is secrets and known.peer == peer:
                return known
        identity = identify(policy.keyring, peer, fields.get("authorization"))
        caller = Caller(identity, policy.context(method, peer, fields, secure=request.secure), peer, secrets)
        if memo is not None:
            remember(memo, method, caller)
        return caller


def authorize_also(
    request: Request | Exchange, action: Action, resource: Resource, call: str = "", *, version: object = None
) -> None:
    """Raise what ``authorize`` does, unless the caller of ``request`` may do this, too: for a second resource.

    ``call`` is the operation of S3 that would do it by itself, for policies; ``version``: it is about an old version.
    """
    caller = request.caller
    assert isinstance(caller, Caller), "the entry has found the caller before"
    authorize(caller.identity, action, resource, caller.context, "" if version is None else "versionId=", call)


def identity_of(request: Request | Exchange) -> Identity:
    """Return who makes a request that was admitted."""
    caller = request.caller
    assert isinstance(caller, Caller), "the entry has found the caller before"
    return caller.identity


def sees_bucket(request: Request) -> Callable[[Bucket], bool]:
    """Return what says whether the caller of a listing of buckets sees one."""
    caller = request.caller
    assert isinstance(caller, Caller), "the entry has found the caller before"
    return lambda bucket: may_see(caller.identity, bucket.name, bucket.access, caller.context)


def remember(memo: dict[str, object], name: str, value: object) -> None:
    """Keep what a head means for the next equal one, if there is room."""
    if len(memo) < REMEMBERED_MAX:
        memo[name] = value
