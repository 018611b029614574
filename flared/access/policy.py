"""Policy: the statements that S3's clients put on a bucket, as JSON: who may do what, and who may not. Pure.

    policy    = {"Version": "2012-10-17" or "2008-10-17", ["Id": text,] "Statement": [statement, ...]}
    statement = {["Sid": text,] "Effect": "Allow" or "Deny", "Principal": principal, "Action": one or [actions],
                 "Resource": one or [arns] [, "Condition": conditions]}
    principal = "*" | {"AWS": one or [of "*", the name of an access key, "arn:aws:iam:::user/" name]}
    action    = "s3:" name, with * and ?      arn = "arn:aws:s3:::" bucket ["/" key], with * and ?

What is not understood is refused when the policy is put, never ignored: NotPrincipal, NotAction, NotResource,
variables, other principals, actions that S3 does not have, other buckets. Of what a policy says of a call, a Deny
counts more than an Allow.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from flared.access.access_key import parse_key_name
from flared.access.conditions import Condition, UnknownValue, parse_conditions
from flared.access.globs import matches
from flared.access.s3_actions import known_actions
from flared.errors import BadName, BadRequest
from flared.http.json_body import parse_json

if TYPE_CHECKING:
    from flared.access.conditions import Facts

POLICY_BYTES_MAX = 20 * 1024
"""As at AWS."""
VERSIONS = ("2012-10-17", "2008-10-17")
ARN = "arn:aws:s3:::"
USER = "arn:aws:iam:::user/"
EVERYBODY = "*"
_STATEMENT = frozenset({"Sid", "Effect", "Principal", "Action", "Resource", "Condition"})
_POLICY = frozenset({"Version", "Id", "Statement"})


class MalformedPolicy(BadRequest):
    """A bucket policy says something that is not understood; the message names it."""


class Effect(Enum):
    ALLOW = "Allow"
    DENY = "Deny"


ALLOW, DENY = Effect


class Statement(NamedTuple):
    effect: Effect
    principals: frozenset[str]
    """Names of access keys, or EVERYBODY, who may have none."""
    actions: frozenset[str]
    """Without their ``s3:``; wildcards are resolved."""
    resources: tuple[str, ...]
    """Patterns of ``bucket`` and ``bucket/key``."""
    conditions: tuple[Condition, ...] = ()

    def applies(self, who: str, action: str, resource: str, facts: Facts) -> bool:
        """Return whether it is about this call."""
        if action not in self.actions or not (EVERYBODY in self.principals or (who and who in self.principals)):
            return False
        if not any(matches(pattern, resource) for pattern in self.resources):
            return False
        try:
            return all(condition.holds(facts) for condition in self.conditions)
        except UnknownValue:
            return self.effect is DENY


class BucketPolicy(NamedTuple):
    """Of one bucket."""

    statements: tuple[Statement, ...]

    def decide(self, who: str, action: str, resource: str, facts: Facts) -> Effect | None:
        """Return what it says of a call; None: nothing. ``who`` is the name of the caller's key, empty without one."""
        found: Effect | None = None
        for statement in self.statements:
            if statement.effect is not found and statement.applies(who, action, resource, facts):
                if statement.effect is DENY:
                    return DENY
                found = ALLOW
        return found

    @property
    def is_public(self) -> bool:
        """Return whether it allows anything to everybody, without a condition."""
        return any(
            statement.effect is ALLOW and EVERYBODY in statement.principals and not statement.conditions
            for statement in self.statements
        )

    @property
    def names(self) -> frozenset[str]:
        """The access keys that it names."""
        return frozenset().union(*(statement.principals for statement in self.statements)) - {EVERYBODY}


def parse_policy(body: bytes, bucket: str) -> BucketPolicy:
    """Return the policy in a document for this bucket. Raises MalformedPolicy."""
    if len(body) > POLICY_BYTES_MAX:
        raise MalformedPolicy(f"the policy has {len(body)} bytes; at most {POLICY_BYTES_MAX} are allowed")
    try:
        fields = _object(parse_json(body), "the policy", _POLICY)
        if fields.get("Version") not in VERSIONS:
            raise ValueError(f"Version is one of {', '.join(VERSIONS)}")
        if not isinstance(fields.get("Id", ""), str):
            raise ValueError("Id is a text")
        statements = _list(fields.get("Statement"), "Statement")
        parsed = tuple(_parse_statement(_object(one, "a statement", _STATEMENT), bucket) for one in statements)
    except ValueError as error:
        raise MalformedPolicy(f"policy: {error}") from None
    return BucketPolicy(parsed)


@lru_cache(64)
def read_policy(body: bytes, bucket: str) -> BucketPolicy:
    """The same, for a document that was accepted before."""
    return parse_policy(body, bucket)


def _parse_statement(fields: dict[str, object], bucket: str) -> Statement:
    if not isinstance(fields.get("Sid", ""), str):
        raise ValueError("Sid is a text")
    try:
        effect = Effect(fields.get("Effect"))
    except ValueError:
        raise ValueError("Effect is Allow or Deny") from None
    return Statement(
        effect,
        _parse_principal(fields.get("Principal")),
        frozenset().union(*map(_parse_action, _texts(fields.get("Action"), "Action"))),
        tuple(_parse_resource(arn, bucket) for arn in _texts(fields.get("Resource"), "Resource")),
        parse_conditions(fields["Condition"]) if "Condition" in fields else (),
    )


def _parse_principal(value: object) -> frozenset[str]:
    if value == EVERYBODY:
        return frozenset({EVERYBODY})
    fields = _object(value, "Principal", frozenset({"AWS"}))
    return frozenset(map(_parse_name, _texts(fields.get("AWS"), "Principal")))


def _parse_name(text: str) -> str:
    if text == EVERYBODY:
        return text
    try:
        return parse_key_name(text.removeprefix(USER))
    except BadName:
        raise ValueError(f"the principal {text[:120]!r} is not *, the name of an access key, or {USER}NAME") from None


def _parse_action(text: str) -> frozenset[str]:
    found = known_actions("s3:*" if text == "*" else text)
    if not found:
        raise ValueError(f"there is no action {text[:80]!r} on buckets or objects")
    return found


def _parse_resource(arn: str, bucket: str) -> str:
    if arn == "*":
        return arn
    pattern = arn.removeprefix(ARN)
    if pattern == arn or not matches(pattern.partition("/")[0], bucket):
        raise ValueError(f"the resource {arn[:120]!r} is not this bucket, or objects in it: {ARN}{bucket}/*")
    if "${" in pattern:
        raise ValueError(f"{arn[:120]!r}: variables are not known here")
    return pattern


def _object(value: object, what: str, known: frozenset[str]) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not a JSON object")
    for name in value:
        if name not in known:
            raise ValueError(f"{what} has {name[:80]!r}, which is not known here; there are {', '.join(sorted(known))}")
    return value


def _list(value: object, what: str) -> list[object]:
    found = value if isinstance(value, list) else [value]
    if not found or value is None:
        raise ValueError(f"{what} is missing")
    return found


def _texts(value: object, what: str) -> list[str]:
    found = _list(value, what)
    if not all(isinstance(one, str) and one for one in found):
        raise ValueError(f"{what} is a text, or a list of texts")
    return [str(one) for one in found]
