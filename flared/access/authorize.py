"""Authorize: may this identity do this action on this resource, in this context? Pure.

The one decision that every call of an api node passes, on every face. In short:

- a holder of the cluster's secret may do everything, from everywhere;
- a holder of an access key may do what its grants say and everything in buckets that it owns, from everywhere;
- this machine may do everything that does not hand out the secret or a key, or speak for a node;
- everybody may do what a bucket or an object allows to everybody (``bucket_access``), from everywhere;
- to all but the cluster's secret and this machine, what the policy of a bucket allows is allowed, and what it denies is
  refused, even if something else allows it (``policy``);
- everybody else may do what the setting ``anonymous`` grants, and the few calls that tell nothing;
- what this machine and ``anonymous`` allow is refused to web pages that came from elsewhere (``origin``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from flared.access.bucket_access import CLOSED, PRIVATE, Acl, Blocks, BucketAccess
from flared.access.conditions import UnknownValue
from flared.access.facts import NO_OBJECT, RequestFacts, names_version, no_object
from flared.access.grants import Grant, Permission, allows
from flared.access.identity import BY_CLUSTER, BY_KEY, BY_LOCAL, is_local
from flared.access.origin import foreign_reason
from flared.access.policy import ALLOW, DENY
from flared.access.s3_actions import OF_POLICY, action_of
from flared.errors import BadRequest, Forbidden, NoSuchObject, Unauthenticated
from flared.http.eviction import GUEST, STRANGER
from flared.http.percent import decode
from flared.names import BucketName, ObjectName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.access.access_key import AccessKey
    from flared.access.facts import FindObject
    from flared.access.identity import Identity
    from flared.access.keys import Keyring
    from flared.http.eviction import Standing

Resource = ObjectName | BucketName | None
"""The target of an action: an object, a bucket, or nothing that has a name."""

FindBucket = Callable[[BucketName], BucketAccess]
"""What a bucket says about access now; ``CLOSED`` if there is none of this name."""


class Action(StrEnum):
    """The kind of a call. Each call of each face has one; grants are sets of them."""

    READ = "object:read"
    WRITE = "object:write"
    DELETE = "object:delete"
    LIST = "object:list"
    LIST_BUCKETS = "bucket:list"
    CREATE_BUCKET = "bucket:create"
    REMOVE_BUCKET = "bucket:remove"
    SHOW_BUCKET = "bucket:show"
    """See that it exists, and its settings: of use to all who may do something in it."""
    CONFIGURE_BUCKET = "bucket:configure"
    """Change its settings and documents."""
    STATUS = "cluster:status"
    """See how the cluster is, and what an operation would cost; changes nothing."""
    METRICS = "cluster:metrics"
    OPERATE = "cluster:operate"
    """Remove nodes, let held orphans be deleted, accept old metadata."""
    KEYS = "cluster:keys"
    """Create, list, replace and remove access keys."""
    INVITE = "cluster:invite"
    JOIN = "cluster:join"
    HEARTBEAT = "cluster:heartbeat"
    HEALTH = "node:health"
    PREFLIGHT = "cors:preflight"
    """Ask which web pages may call a bucket."""
    POST_FORM = "form:post"
    """Send a form that brings its own proof: the face asks again, for ``WRITE``, when it has read it."""
    # Calls that do not exist. Only callers that may make similar calls learn so: a stranger cannot explore the paths.
    UNKNOWN_OPEN = "unknown:open"
    UNKNOWN_READ = "unknown:read"
    UNKNOWN_WRITE = "unknown:write"
    UNKNOWN = "unknown:other"


_METRICS, _READ, _WRITE, _DELETE = Action.METRICS, Action.READ, Action.WRITE, Action.DELETE
_LIST, _SHOW_BUCKET = Action.LIST, Action.SHOW_BUCKET
"""For the way of every request: Python 3.11 takes half a microsecond to find a member of an enumeration."""
ACL_FIELD = "x-amz-acl"
OPEN_ACLS = frozenset(Acl) - {PRIVATE}

READS = frozenset(
    {
        Action.READ,
        Action.LIST,
        Action.LIST_BUCKETS,
        Action.SHOW_BUCKET,
        Action.STATUS,
        Action.METRICS,
        Action.UNKNOWN_READ,
    }
)
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
NEVER_GRANTED = frozenset({Action.OPERATE, Action.KEYS, Action.CONFIGURE_BUCKET})
"""To everybody: nodes, keys and what buckets allow change by the operator's word alone."""

GRANTS: Mapping[str, frozenset[Action]] = {"none": frozenset(), "read": READS, "read-write": READS | WRITES}
"""The actions granted to everybody, by the word of the setting ``anonymous``."""

OPEN = frozenset(
    {Action.HEALTH, Action.PREFLIGHT, Action.POST_FORM, Action.HEARTBEAT, Action.JOIN, Action.UNKNOWN_OPEN}
)
"""Needs no grant: health and a preflight tell nothing that is secret; forms and heartbeats need a proof below; who
joins proves to have a token of ours."""

ANY_ORIGIN = frozenset({Action.HEALTH, Action.PREFLIGHT, Action.POST_FORM, Action.JOIN})
"""Calls that a foreign page may make: it learns nothing, and changes nothing without a signed policy or a join token.
"""

PROVED: Mapping[Action, str] = {
    Action.HEARTBEAT: "the heartbeat does not carry the secret of this cluster, as it is on the api host",
    Action.INVITE: "an invite takes the secret of the cluster, on this machine too (flarectl: secret_file)",
    Action.KEYS: "access keys take the secret of the cluster, on this machine too (flarectl: secret_file), or an "
    "admin key",
}
"""Actions that always take the secret, of this machine too; and the error for callers that do not bring it."""

PERMISSIONS: Mapping[Action, Permission] = {
    Action.READ: Permission.READ,
    Action.WRITE: Permission.WRITE,
    Action.DELETE: Permission.DELETE,
    Action.LIST: Permission.LIST,
    Action.CREATE_BUCKET: Permission.CREATE,
}
"""The permission that an access key needs for an action; what is not in here takes an admin key, or a rule below."""

ANY_KEY = frozenset(
    {Action.LIST_BUCKETS, Action.UNKNOWN_OPEN, Action.UNKNOWN_READ, Action.UNKNOWN_WRITE, Action.UNKNOWN}
)
"""Every key may list buckets: those that it may see (``may_see``)."""

OWNED = frozenset(
    {
        Action.READ,
        Action.WRITE,
        Action.DELETE,
        Action.LIST,
        Action.SHOW_BUCKET,
        Action.CONFIGURE_BUCKET,
        Action.REMOVE_BUCKET,
    }
)
"""What the owner of a bucket may do with it and in it."""

READ_BY_ALL = frozenset({"GetObject", "GetObjectVersion", "GetObjectAttributes", "GetObjectVersionAttributes"})
"""What reading an object means where everybody may: not its tags, nor its ACL."""
WRITE_BY_ALL = frozenset({"PutObject", "AbortMultipartUpload", "DeleteObject"})
"""What writing means where everybody may: no tags, locks or old versions."""

EACH_ASKS_AGAIN = frozenset({"DeleteObjects"})
"""Calls about many objects, which a policy may tell apart: the face has each one authorized."""

NO_KEY = frozenset({Action.HEARTBEAT, Action.INVITE})
"""No key may do these, not even an admin's: they speak for nodes, or lead to the secret."""

SHUT = (
    "this call needs the secret of the cluster (flarectl config set secret_file FILE), "
    "or 'anonymous' in the api node's TOML file must allow it"
)
WRONG_SECRET = "the secret that came with this call is not this cluster's (flarectl config set secret_file FILE)"
KEY_REFUSED = "access denied: this access key has no grant for that; the log of the api node names what it lacks"
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
    find_bucket: FindBucket
    find_object: FindObject = no_object
    peer: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Of the request's head."""
    secure: bool = False
    """The connection is encrypted."""
    tells_missing: bool = False
    """As with S3, everybody may know that an object does not exist if everybody may list its bucket."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of an api node about access; it makes the context of each call."""

    keyring: Keyring
    """Whose secret callers prove. If it is empty the node listens on loopback only, and everything is granted."""
    granted: frozenset[Action]
    find_bucket: FindBucket
    """Asked about the bucket of each call that neither the secret nor this machine allows."""
    hosts: frozenset[str] = frozenset()
    """The names, in lower case, that callers without the secret may call this node by."""
    find_object: FindObject = no_object
    """Asked about objects if nothing else decides, or a policy wants to know."""
    tells_missing: bool = False

    def context(self, method: str, peer: str, fields: Mapping[str, str], *, secure: bool = False) -> Context:
        """Return the context of a call; it depends on these arguments and the secrets, and on nothing else.

        Buckets and objects change between calls: the context asks for them at each decision.
        """
        guarded = bool(self.keyring.secrets)
        foreign = foreign_reason(method, fields, self.hosts)
        granted = self.granted if guarded else EVERYTHING
        find = self.find_bucket, self.find_object
        return Context(is_local(peer), foreign, granted, guarded, *find, peer, fields, secure, self.tells_missing)


def authorize(
    identity: Identity, action: Action, resource: Resource, context: Context, query: str = "", call: str = ""
) -> Standing:
    """Return what the connection has proved by this call, if it may be made.

    ``query`` is the request's, as it was sent: what a listing asks for is in it. ``call`` is the name of the call, by
    which policies tell the operations of S3 apart. Without a ``resource`` the question is
    whether the caller may do this anywhere. Raises Unauthenticated for a caller that must prove itself and did not;
    Forbidden for a foreign web page, and for a key without a grant for this. ``lacking`` of the error names the action,
    or the grant: for the log, not for the caller.
    """
    if action is _WRITE and context.fields.get(ACL_FIELD, PRIVATE) in OPEN_ACLS:
        # Who may write an object does not open it to everybody by that.
        authorize(identity, Action.CONFIGURE_BUCKET, resource, context, query, "PutObjectAcl")
        if resource is not None and context.find_bucket(_bucket_of(resource)).is_blocked(Blocks.PUT_ACLS):
            lacking = f"the public access block of bucket {_bucket_of(resource)} forbids open ACLs"
            raise Forbidden(KEY_REFUSED, lacking=lacking)
    standing = identity.proved
    local = identity.who is BY_LOCAL
    if identity.who is BY_CLUSTER:
        pass
    elif (not local or context.foreign) and _is_allowed(identity, action, resource, context, query, call):
        if standing is STRANGER:
            standing = GUEST
    else:
        if not local and action not in OPEN:
            if action not in context.granted:
                if identity.who is BY_KEY:
                    raise Forbidden(KEY_REFUSED, lacking=_name_grant(action, resource, query))
                raise Unauthenticated(WRONG_SECRET if identity.claimed else SHUT, lacking=action)
            standing = GUEST
        if context.foreign and action not in ANY_ORIGIN:
            raise Forbidden(context.foreign, lacking=action)
        if action in PROVED and context.guarded:
            if identity.who is BY_KEY:
                raise Forbidden(KEY_REFUSED, lacking=_name_grant(action, resource, query))
            raise Unauthenticated(PROVED[action], lacking=action)
    if action is _METRICS and not context.local:
        raise Unauthenticated(METRICS_ELSEWHERE, lacking=action)
    return standing


def may_see(identity: Identity, bucket: BucketName, access: BucketAccess, context: Context) -> bool:
    """Return whether a caller that may list buckets sees this one: a key sees those in which it may do something."""
    key = identity.key
    if key is None or Action.LIST_BUCKETS in context.granted:
        return True
    return access.is_owned_by(key.name) or _has_grant(key, Action.SHOW_BUCKET, bucket, "")


def _is_allowed(
    identity: Identity, action: Action, resource: Resource, context: Context, query: str, call: str
) -> bool:
    """Return whether the caller's key, the bucket or the object allows this.

    Raises Forbidden or Unauthenticated if the bucket's policy denies it; NoSuchObject as the context says.
    """
    key = identity.key
    granted = key is not None and _has_grant(key, action, resource, query)
    if resource is None or action not in OWNED:
        return granted
    access = context.find_bucket(_bucket_of(resource))
    if granted and access.policy is None:
        return True
    owns = access.is_owned_by(identity.name)
    name = action_of(call, action, versioned=names_version(query))
    if call in EACH_ASKS_AGAIN and access.policy is not None:
        return True
    # The policy first: what it denies, nothing below allows. Only who may change it is not locked out by it.
    if access.policy is not None:
        facts = _facts(identity, resource, context, query)
        target = f"{resource.bucket}/{resource.key}" if isinstance(resource, ObjectName) else resource
        effect = access.policy.decide(identity.name, name, target, facts)
        if effect is DENY and not (name in OF_POLICY and (owns or (key is not None and key.is_admin))):
            lacking = f"the policy of bucket {_bucket_of(resource)} denies s3:{name}"
            raise Unauthenticated(SHUT, lacking=lacking) if key is None else Forbidden(KEY_REFUSED, lacking=lacking)
        is_restricted = key is None and access.is_blocked(Blocks.POLICY) and access.policy.is_public
        if effect is ALLOW and not is_restricted:
            return True
    if granted or owns:
        return True
    # What is open to everybody, unless the bucket blocks that.
    has_key = key is not None
    if access.is_blocked(Blocks.ACLS):
        return False
    if access is not CLOSED and _is_public(access, action, name, has_key=has_key):
        return True
    if not isinstance(resource, ObjectName) or name != "GetObject":
        return False
    return _is_public_object(resource, access, context, has_key=has_key)


def _bucket_of(resource: ObjectName | BucketName) -> BucketName:
    return resource.bucket if isinstance(resource, ObjectName) else resource


def _facts(identity: Identity, resource: ObjectName | BucketName, context: Context, query: str) -> RequestFacts:
    return RequestFacts(
        identity.name,
        resource,
        context.peer,
        context.fields,
        query,
        secure=context.secure,
        find_object=context.find_object,
    )


def _is_public(access: BucketAccess, action: Action, name: str, *, has_key: bool) -> bool:
    if action is _READ:
        return access.public and name in READ_BY_ALL
    if action is _LIST:
        return access.may_list(has_key=has_key)
    if action is _WRITE or action is _DELETE:
        return access.may_write and name in WRITE_BY_ALL
    return action is _SHOW_BUCKET and (access.public or access.may_list(has_key=has_key))


def _is_public_object(resource: ObjectName, access: BucketAccess, context: Context, *, has_key: bool) -> bool:
    """Return whether the ACL of an object lets everybody read it. It is that of the newest version."""
    try:
        found = context.find_object(resource)
    except UnknownValue:
        return False
    if context.tells_missing and found is NO_OBJECT and access.may_list(has_key=has_key):
        raise NoSuchObject(f"there is no object {resource.key!r} in the bucket {resource.bucket}")
    return found.may_read(has_key=has_key)


def _has_grant(key: AccessKey, action: Action, resource: Resource, query: str) -> bool:
    if action in NO_KEY:
        return False
    if key.is_admin or action in ANY_KEY:
        return True
    bucket, name = _place(action, resource, query)
    if action is _SHOW_BUCKET:
        return any(grant.touches(bucket) for grant in key.grants if grant.permission is not Permission.CREATE)
    permission = PERMISSIONS.get(action)
    if permission is None:
        return False
    if resource is None:  # a name that breaks the rules: who may do this somewhere learns so
        return any(grant.permission is permission for grant in key.grants)
    return allows(key.grants, permission, bucket, name)


def _place(action: Action, resource: Resource, query: str) -> tuple[str, str]:
    """Return the bucket, and what the keys that this is about begin with."""
    if isinstance(resource, ObjectName):
        return resource
    return resource or "", listed_prefix(query) if action is _LIST else ""


def listed_prefix(query: str) -> str:
    """Return what the keys of a listing begin with; empty, which is all keys, unless the query says so clearly."""
    found = [value for name, _, value in (part.partition("=") for part in query.split("&")) if name == "prefix"]
    try:
        return decode(found[0].replace("+", "%20")) if len(found) == 1 else ""
    except BadRequest:
        return ""


def _name_grant(action: Action, resource: Resource, query: str) -> str:
    permission = PERMISSIONS.get(action)
    if permission is None or resource is None:
        return permission or action
    return str(Grant(permission, *_place(action, resource, query)))
