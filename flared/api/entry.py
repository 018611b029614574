"""Entry: the one way in for all requests of an api node, on every face, in a task or in turns.

    request id -> router -> the face identifies the caller -> authorize -> the face's call -> its errors, counted

Nothing is answered, and no name is looked up, for a caller that ``access.authorize`` does not let in.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, cast

from flared.access.authorize import authorize
from flared.api.callers import Caller, remember
from flared.api.counts import RequestCounts
from flared.api.gate import Gate
from flared.api.router import Refusal, Router
from flared.chunks.chunk import INLINE_DIGEST_MAX
from flared.errors import FlareError, Forbidden, Refused, Unauthenticated, leaves
from flared.http.percent import decode
from flared.log import current_request, next_request
from flared.names import DEFAULT_BUCKET, REQUEST_FIELD, ObjectName, is_request_id, parse_bucket, parse_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flared.access.authorize import Action, Context, Resource
    from flared.access.identity import Identity
    from flared.api.face import Face, Handler, TurnHandler
    from flared.api.router import Call, Finder, Route
    from flared.http.eviction import Standing
    from flared.http.exchange import Exchange
    from flared.http.messages import Reply, Request

REFUSED = frozenset({401, 403})
"""Statuses of callers that may not do what they ask for."""

_PROVED = "proved"

Prove = Callable[["Standing"], None]
"""Hears what the connection has proved."""


class Entry:
    """Over these faces. Of a path that none of them has, the first one says so.

    ``answer`` is the handler of the HTTP server; for turns it is a ``http.exchange.QuickHandler``.
    """

    body_bytes_max = INLINE_DIGEST_MAX

    def __init__(self, faces: Sequence[Face], finder: Finder | None = None, gate: Gate | None = None) -> None:
        """``finder`` finds the calls of faces that tell them apart by more than the path; else ``Router`` does.

        ``gate`` is the one of the process; without it there are no limits.
        """
        self._gate = gate or Gate()
        self._finder = finder or Router(face.routes for face in faces)
        self._first = faces[0]
        self._faces: dict[Call, Face] = {call: face for face in faces for call in face.handlers}
        self._handlers: dict[Call, Handler] = {call: way for face in faces for call, way in face.handlers.items()}
        self._in_turns: dict[Call, tuple[Face, TurnHandler]] = {
            call: (face, way) for face in faces for call, way in face.in_turns.items()
        }
        self._counts = self.counts = RequestCounts()

    async def answer(self, request: Request, reply: Reply) -> None:
        """Answer one request. Only ConnectionLost and bugs come out of here."""
        current_request.set(_request_id(request.fields))
        began = perf_counter()
        face, bucket = self._first, ""
        call, resource, admitted = None, None, False
        try:
            route = self._finder.find_call(request)
            if isinstance(route, Refusal):
                raise self._refuse(route, request, reply.prove, None)
            call = route.call
            face = self._faces[call]
            if face.extra_lines is not None:
                reply.extra = face.extra_lines(request, route)
            resource = self._admit(face, route, request, reply.prove, None)
            admitted = not face.relayed
            await self._handlers[call](request, reply, resource)
            if resource is not None:
                bucket = resource.bucket if isinstance(resource, ObjectName) else resource
        except FlareError as error:
            refusal = self._note_refusal(face, request, call, resource, error)
            admitted = admitted and refusal is None
            await face.errors.answer(request, reply, refusal or error)
        except ExceptionGroup as group:
            # A nursery below: if it failed for reasons we know, the first of them is the answer.
            cause = _known_cause(group)
            if cause is None:
                raise
            await face.errors.answer(request, reply, cause)
        finally:
            self._counts.count(request.method, reply.status, perf_counter() - began, bucket)
            self._counts.count_call(face.name, call, reply.status)
            if admitted and call is not None:
                self._gate.done(request, call, resource, reply.status)

    def begin(self, exchange: Exchange) -> bool:
        """Begin a small call in turns; False if it is left to ``answer``."""
        if not self._finder.fits_turn(exchange):
            return False
        route = self._finder.find_call(exchange)
        face = self._first
        try:
            if isinstance(route, Refusal):
                exchange.request_id = _request_id(exchange.fields)
                raise self._refuse(route, exchange, exchange.prove, exchange.memo)
            in_turn = self._in_turns.get(route.call)
            if in_turn is None:
                return False
            # From here on the request counts, by whichever way it is answered: identity, limits, grants.
            face, begin = in_turn
            exchange.call = route.call
            fields = exchange.fields
            exchange.request_id = _request_id(fields) if REQUEST_FIELD in fields else next_request()
            resource = self._admit(face, route, exchange, exchange.prove, exchange.memo)
            assert isinstance(resource, ObjectName)
            if self._gate.audits_objects:
                exchange.change = route.call, resource
            begun = begin(exchange, resource)
            # What is left to a task passes the limits again there.
            if not begun and self._gate.limits and isinstance(exchange.caller, Caller):
                self._gate.give_back(exchange.caller)
            return begun
        except FlareError as error:
            token = current_request.set(exchange.request_id)
            try:
                call = None if isinstance(route, Refusal) else route.call
                refusal = self._note_refusal(face, exchange, call, None, error)
            finally:
                current_request.reset(token)
            face.errors.answer_in_turn(exchange, refusal or error)
            return True

    def answered(self, exchange: Exchange, status: int) -> None:
        """Count a reply that was given in turns."""
        self._counts.count(exchange.method, status, perf_counter() - exchange.began, exchange.bucket)
        self._counts.count_call(self._first.name, cast("Call | None", exchange.call), status)
        if exchange.change is not None and status not in REFUSED:
            call, resource = cast("tuple[Call, ObjectName]", exchange.change)
            token = current_request.set(exchange.request_id)
            try:
                self._gate.done(exchange, call, resource, status)
            finally:
                current_request.reset(token)

    def _refuse(
        self, refusal: Refusal, request: Request | Exchange, prove: Prove, memo: dict[str, object] | None
    ) -> FlareError:
        """Return the error for a caller that may know it. Raises the error for any other."""
        caller = request.caller = self._first.identify(request, memo)
        if self._gate.limits:
            self._gate.admit(caller)
        prove(authorize(caller.identity, refusal.action, None, caller.context))
        return refusal.error

    def _note_refusal(
        self, face: Face, request: Request | Exchange, call: Call | None, resource: Resource, error: FlareError
    ) -> FlareError | None:
        """Return the error to answer a refused caller with; None if this error is about something else."""
        status = face.errors.status_of(error)
        if status not in REFUSED:
            return None
        self._counts.count_refusal(error.code)
        return self._gate.refuse(request, call, resource, error, status)

    def _admit(
        self, face: Face, route: Route, request: Request | Exchange, prove: Prove, memo: dict[str, object] | None
    ) -> Resource:
        """Return what the call is about, if the caller may make it.

        Raises what authorize does, SlowDown, BadName and BadRequest.
        """
        call, raw_bucket, raw_key = route
        caller = request.caller = face.identify(request, memo)
        if self._gate.limits:
            self._gate.admit(caller)
        identity, context = caller.identity, caller.context
        if identity.key is not None:
            self._gate.note_use(identity.key.id)
        resource: Resource = None
        try:
            if raw_bucket is not None:
                resource = bucket = parse_bucket(decode(raw_bucket)) if raw_bucket else DEFAULT_BUCKET
                if raw_key:
                    resource = ObjectName(bucket, parse_key(decode(raw_key)))
        except Refused:
            # A caller that may not make the call learns nothing about names either.
            prove(_authorize_unnamed(identity, call.action, resource, context))
            raise
        try:
            standing = authorize(identity, call.action, resource, context, request.query, call.name)
        except (Forbidden, Unauthenticated):
            if face.missing is not None and (missing := face.missing(call, resource)) is not None:
                raise missing from None
            raise
        if memo is None:
            prove(standing)
        elif memo.get(_PROVED) is not standing:  # a connection keeps what was proved on it
            prove(standing)
            remember(memo, _PROVED, standing)
        return resource


def _authorize_unnamed(identity: Identity, action: Action, bucket: Resource, context: Context) -> Standing:
    """Return what is proved by a call with a name that breaks the rules, for a caller that may do the like: anywhere,
    or in the ``bucket`` if its name is a good one. Raises what authorize does."""
    try:
        return authorize(identity, action, None, context)
    except (Forbidden, Unauthenticated):
        if bucket is None:
            raise
        return authorize(identity, action, bucket, context)


def _request_id(fields: Mapping[str, str]) -> int | str:
    """Return the id that the client chose, or a new one."""
    chosen = fields.get(REQUEST_FIELD)
    return chosen if chosen is not None and is_request_id(chosen) else next_request()


def _known_cause(group: ExceptionGroup[Exception]) -> FlareError | None:
    """Return the first of the errors, if every one of them is ours."""
    known = [error for error in leaves(group) if isinstance(error, FlareError)]
    return known[0] if len(known) == len(leaves(group)) else None
