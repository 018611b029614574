"""Authorize: may this identity do this action on this resource, in this context? Pure.

The one decision that every call of an api node passes, on every face. In short, until there are access keys:

- a holder of the cluster's secret may do everything, from everywhere;
- this machine may do everything that does not hand out the secret or speak for a node;
- everybody else may do what the setting ``anonymous`` grants, and the few calls that tell nothing;
- what needs no secret is refused to web pages that came from elsewhere (``origin``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from flared.access.identity import BY_CLUSTER, BY_LOCAL, is_local
from flared.access.origin import foreign_reason
from flared.errors import Forbidden, Unauthenticated
from flared.http.eviction import GUEST
from flared.names import BucketName, ObjectName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.access.identity import Identity
    from flared.access.keys import Keyring
    from flared.http.eviction import Standing

Resource = ObjectName | BucketName | None
"""The target of an action: an object, a bucket, or nothing that has a name."""


class Action(StrEnum):
    """The kind of a call. Each call of each face has one; grants are sets of them."""

    READ = "object:read"
    WRITE = "object:write"
    DELETE = "object:delete"
    LIST = "object:list"
    LIST_BUCKETS = "bucket:list"
    CREATE_BUCKET = "bucket:create"
    REMOVE_BUCKET = "bucket:remove"
    STATUS = "cluster:status"
    """See how the cluster is, and what an operation would cost; changes nothing."""
    METRICS = "cluster:metrics"
    OPERATE = "cluster:operate"
    """Remove nodes, let held orphans be deleted, accept old metadata."""
    INVITE = "cluster:invite"
    JOIN = "cluster:join"
    HEARTBEAT = "cluster:heartbeat"
    HEALTH = "node:health"
    # Calls that do not exist. Only callers that may make similar calls learn so: a stranger cannot explore the paths.
    UNKNOWN_OPEN = "unknown:open"
    UNKNOWN_READ = "unknown:read"
    UNKNOWN_WRITE = "unknown:write"
    UNKNOWN = "unknown:other"


_METRICS = Action.METRICS

READS = frozenset({Action.READ, Action.LIST, Action.LIST_BUCKETS, Action.STATUS, Action.METRICS, Action.UNKNOWN_READ})
WRITES = frozenset(
    {
        Action.WRITE,
        Action.DELETE,
        Action.CREATE_BUCKET,
        Action.REMOVE_BUCKET,
        Action.INVITE,
        Action.UNKNOWN_WRITE,
    }
)
EVERYTHING = frozenset(Action)

GRANTS: Mapping[str, frozenset[Action]] = {"none": frozenset(), "read": READS, "read-write": READS | WRITES}
"""The actions granted to everybody, by the word of the setting ``anonymous``.

``OPERATE`` is in none of them: nodes come and go by the operator's word alone, even where everyone may change objects.
"""

OPEN = frozenset({Action.HEALTH, Action.HEARTBEAT, Action.JOIN, Action.UNKNOWN_OPEN})
"""Needs no grant: health tells nothing; a heartbeat needs a proof below; who joins proves to have a token of ours."""

ANY_ORIGIN = frozenset({Action.HEALTH, Action.JOIN})
"""Calls that a foreign page may make: it learns nothing, and changes nothing without a join token."""

PROVED: Mapping[Action, str] = {
    Action.HEARTBEAT: "the heartbeat does not carry the secret of this cluster, as it is on the api host",
    Action.INVITE: "an invite takes the secret of the cluster, on this machine too (flarectl: secret_file)",
}
"""Actions that always take the secret, of this machine too; and the error for callers that do not bring it."""

SHUT = (
    "this call needs the secret of the cluster (flarectl config set secret_file FILE), "
    "or 'anonymous' in the api node's TOML file must allow it"
)
WRONG_SECRET = "the secret that came with this call is not this cluster's (flarectl config set secret_file FILE)"
METRICS_ELSEWHERE = "metrics are for this machine; elsewhere they are at metrics_listen (flared.toml(5))"


@dataclass(frozen=True, slots=True)
class Context:
    """The context of a decision: where the call comes from, and what the node is set to allow."""

    local: bool
    """It comes from this machine."""
    foreign: str
    """Why it comes from a foreign web page; empty if it does not."""
    granted: frozenset[Action]
    """To everybody."""
    guarded: bool
    """The cluster has a secret that could be proved."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of an api node about access; it makes the context of each call."""

    keyring: Keyring
    """Whose secret callers prove. If it is empty the node listens on loopback only, and everything is granted."""
    granted: frozenset[Action]
    hosts: frozenset[str] = frozenset()
    """The names, in lower case, that callers without the secret may call this node by."""

    def context(self, method: str, peer: str, fields: Mapping[str, str]) -> Context:
        """Return the context of a call; it depends on these arguments and the secrets, and on nothing else."""
        guarded = bool(self.keyring.secrets)
        foreign = foreign_reason(method, fields, self.hosts)
        return Context(is_local(peer), foreign, self.granted if guarded else EVERYTHING, guarded)


def authorize(identity: Identity, action: Action, resource: Resource, context: Context) -> Standing:
    """Return what the connection has proved by this call, if it may be made.

    No rule is about a ``resource`` yet; grants of access keys will be. Raises Unauthenticated for a caller that must
    prove itself and did not, Forbidden for a foreign web page; ``lacking`` of the error names the action.
    """
    standing = identity.proved
    if identity.who is not BY_CLUSTER:
        if identity.who is not BY_LOCAL and action not in OPEN:
            if action not in context.granted:
                raise Unauthenticated(WRONG_SECRET if identity.claimed else SHUT, lacking=action)
            standing = GUEST
        if context.foreign and action not in ANY_ORIGIN:
            raise Forbidden(context.foreign, lacking=action)
        if action in PROVED and context.guarded:
            raise Unauthenticated(PROVED[action], lacking=action)
    if action is _METRICS and not context.local:
        raise Unauthenticated(METRICS_ELSEWHERE, lacking=action)
    return standing
