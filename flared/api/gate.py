"""Gate: what all callers of a node's faces pass beside ``authorize``: limits on their requests, and the audit.

One for each process, over all of its faces. Its state is bounded (``access.limits``): it remembers at most so many keys
and addresses, and for each a number. An IPv6 address counts by its /64, since one host has that.

A caller that is refused without having proved anything counts as a failed proof. Beyond ``FAILURES_PER_SECOND`` from
one address the answer is SlowDown, so that it can see that it goes too far, and one line a second goes to the log. A
right signature is let in all the same: secrets have 240 bits, so no one finds one by trying, while a door that shuts
for an address would let anyone shut out others behind the same one. This machine, and who has the cluster's secret,
pass without limits.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

from flared.access.authorize import Action
from flared.access.identity import BY_CLUSTER, BY_KEY, BY_LOCAL, is_local
from flared.access.limits import NAMES_MAX, RateLimit
from flared.access.origin import SAFE_METHODS
from flared.api.audit import audit
from flared.api.callers import Caller
from flared.errors import SlowDown
from flared.http.eviction import source_of
from flared.names import ObjectName

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.access.authorize import Resource
    from flared.access.identity import Identity
    from flared.api.router import Call
    from flared.errors import FlareError
    from flared.http.exchange import Exchange
    from flared.http.messages import Request

FAILURES_PER_SECOND = 10
FAILURES_BURST = 100
"""A client with a wrong key learns so some times before it hears SlowDown."""
LINES_PER_SECOND = 1
LINES_BURST = 20
"""About refusals of one key or address; the next line says how many were left out."""
SHOWN_CHARS_MAX = 300

CHANGES = frozenset(
    {
        Action.CREATE_BUCKET,
        Action.REMOVE_BUCKET,
        Action.CONFIGURE_BUCKET,
        Action.KEYS,
        Action.OPERATE,
        Action.INVITE,
        Action.JOIN,
    }
)
OBJECT_CHANGES = frozenset({Action.WRITE, Action.DELETE, Action.POST_FORM, Action.SHOW_BUCKET})
"""``SHOW_BUCKET`` with a method that changes something is the delete of many, which asks again for each."""

_KEY_ID = re.compile(r"\bFL[A-Z0-9]{18}\b")


@dataclass(frozen=True, slots=True)
class GateSettings:
    requests_per_key: int = 0
    """A second, with as many at once; 0: without limit. Each process of a node counts by itself."""
    requests_per_address: int = 0
    audit_objects: bool = False
    """Writes and deletes of objects have audit lines, too."""


class Gate:
    def __init__(self, settings: GateSettings | None = None, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self.note_use: Callable[[str], None] = lambda _: None
        """Hears the access key id of each caller that has one."""
        self._failures = RateLimit(FAILURES_PER_SECOND, FAILURES_BURST)
        self._lines = RateLimit(LINES_PER_SECOND, LINES_BURST)
        self._left_out: Counter[str] = Counter()
        self.limits = False
        """Requests are counted at all."""
        self.change(settings or GateSettings())

    def change(self, settings: GateSettings) -> None:
        """Go by these settings from now on."""
        per_key, per_address = settings.requests_per_key, settings.requests_per_address
        self._by_key = RateLimit(per_key, per_key) if per_key else None
        self._by_address = RateLimit(per_address, per_address) if per_address else None
        self.limits = bool(per_key or per_address)
        self._audited = CHANGES | OBJECT_CHANGES if settings.audit_objects else CHANGES
        self.audits_objects = settings.audit_objects

    def admit(self, caller: Caller) -> None:
        """Count a request. Raises SlowDown for one too many."""
        identity = caller.identity
        if identity.who is BY_CLUSTER or identity.who is BY_LOCAL:
            return
        if self._by_key is not None and identity.key is not None:
            _raise_if_late(self._by_key.take(identity.key.name, self._now()), "this access key")
        if self._by_address is not None:
            _raise_if_late(self._by_address.take(_source(caller.peer), self._now()), "this address")

    def give_back(self, caller: Caller) -> None:
        """A request that was counted is handed over, and will be counted again."""
        identity = caller.identity
        if identity.who is BY_CLUSTER or identity.who is BY_LOCAL:
            return
        if self._by_key is not None and identity.key is not None:
            self._by_key.give_back(identity.key.name)
        if self._by_address is not None:
            self._by_address.give_back(_source(caller.peer))

    def refuse(
        self, request: Request | Exchange, call: Call | None, resource: Resource, error: FlareError, status: int
    ) -> FlareError:
        """Note that a request is refused with ``status``; return the error to answer with."""
        now, identity = self._now(), _identity_of(request)
        has_proved = identity is not None and identity.who in (BY_KEY, BY_CLUSTER)
        source = _source(request.peer)
        counted_by = str(identity) if has_proved else source
        if self._lines.take(counted_by, now):
            self._leave_out(counted_by)
        else:
            left_out = self._left_out.pop(counted_by, 0)
            self._write(request, call, resource, status, allowed=False, more=_describe(request, error, left_out))
        if has_proved or is_local(request.peer):
            return error
        wait = self._failures.take(source, now)
        return SlowDown("too many refused requests from this address", retry_after=ceil(wait)) if wait else error

    def done(self, request: Request | Exchange, call: Call, resource: Resource, status: int) -> None:
        """Note that a request was let in, and answered with ``status``."""
        if call.action not in self._audited or request.method in SAFE_METHODS:
            return
        self._write(request, call, resource, status, allowed=True)

    def _leave_out(self, counted_by: str) -> None:
        if counted_by not in self._left_out and len(self._left_out) >= NAMES_MAX:
            self._left_out.clear()
        self._left_out[counted_by] += 1

    def _write(
        self,
        request: Request | Exchange,
        call: Call | None,
        resource: Resource,
        status: int,
        *,
        allowed: bool,
        more: str = "",
    ) -> None:
        audit.info(
            "event=audit who=%s peer=%s action=%s call=%s on=%r allowed=%s status=%d%s",
            _identity_of(request) or "unproved", request.peer, call.action if call else "-",
            f"{call.face}.{call.name}" if call else f"{request.method[:20]}", _name(request, call, resource),
            "yes" if allowed else "no", status, more,
        )  # fmt: skip


def _raise_if_late(wait: float, who: str) -> None:
    if wait:
        raise SlowDown(f"too many requests of {who}: slow down", retry_after=ceil(wait))


def _source(peer: str) -> str:
    return source_of(peer.rpartition(":")[0])


def _identity_of(request: Request | Exchange) -> Identity | None:
    caller = request.caller
    return caller.identity if isinstance(caller, Caller) else None


def _name(request: Request | Exchange, call: Call | None, resource: Resource) -> str:
    """Return what a request is about; for an operator's call that names nothing, its query and what it noted."""
    if isinstance(resource, ObjectName):
        text = f"{resource.bucket}/{resource.key}"
    elif resource is not None:
        text = resource
    elif call is not None and call.face == "admin":
        text = request.query or request.about or "-"
    else:
        text = request.path
    return text[:SHOWN_CHARS_MAX]


def _describe(request: Request | Exchange, error: FlareError, left_out: int) -> str:
    lacking = getattr(error, "lacking", "")
    text = f" reason={error.code}"
    if lacking:
        text += f" lacking={lacking[:SHOWN_CHARS_MAX]!r}"
    if request.caller is None and (claimed := claimed_key(request)):
        text += f" key={claimed}"
    if left_out:
        text += f" left_out={left_out}"
    return text


def claimed_key(request: Request | Exchange) -> str:
    """Return the access key id that a request claims to be signed with; empty if it names none in our form."""
    for text in (request.fields.get("x-fs-access-key"), request.fields.get("authorization"), request.query):
        if text and (found := _KEY_ID.search(text)):
            return found[0]
    return ""
