"""Face: one way to speak to the verbs: its paths, its calls, how its callers are identified, how its errors look.

A face is a folder of this room; ``api_role`` lists the faces of the server. Behind ``entry``, which is the same for
all of them, a face parses a request into values, calls one verb and answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flared.api.signed import once_of
from flared.catalog.once import claim
from flared.names import ObjectName

if TYPE_CHECKING:
    from flared.access.authorize import Resource
    from flared.api.callers import Caller
    from flared.api.errors import ErrorAnswers
    from flared.api.router import Call, Route, Routes
    from flared.errors import FlareError
    from flared.http.exchange import Exchange
    from flared.http.messages import Reply, Request
    from flared.meta.kv import KV
    from flared.names import BucketName

Handler = Callable[["Request", "Reply", "Resource"], Awaitable[None]]
"""Answers one call in a task. The caller may make it, and the resource is the one that the path names."""

TurnHandler = Callable[["Exchange", ObjectName], bool]
"""Begins one call on an object in turns, with the contract of ``http.exchange.QuickHandler.begin``."""

Identify = Callable[["Request | Exchange", "dict[str, object] | None"], "Caller"]
"""Finds out who calls. The dict, if there is one, is the memo of the request's head."""


ExtraLines = Callable[["Request", "Route"], bytes]
"""Finds the field lines that the reply to a request gets, an error, too. Raises nothing."""


Missing = Callable[["Call", "Resource"], "FlareError | None"]
"""Returns the error for a resource that does not exist, where a face tells it to those who may not make the call."""


@dataclass(frozen=True, slots=True)
class Face:
    """Raises ValueError if one of its routes has no handler."""

    name: str
    routes: Routes
    handlers: Mapping[Call, Handler]
    identify: Identify
    errors: ErrorAnswers
    in_turns: Mapping[Call, TurnHandler] = field(default_factory=dict)
    extra_lines: ExtraLines | None = None
    missing: Missing | None = None
    relayed: bool = False
    """Its calls are passed on to another process, which notes what they change."""

    def __post_init__(self) -> None:
        for path, methods in self.routes.exact.items():
            for call in methods.values():
                if call not in self.handlers:
                    raise ValueError(f"{self.name}: {path} has no handler for {call.name}")


def claiming(kv: KV, handler: Handler) -> Handler:
    """Have a signed write recorded before it begins, for a call whose verb does not do so in its own transaction."""

    async def handle(request: Request, reply: Reply, resource: Resource) -> None:
        if (once := once_of(request)) is not None:
            await claim(kv, once, reclaims=request.method == "DELETE")
        await handler(request, reply, resource)

    return handle


def on_object(answer: Callable[[Request, Reply, ObjectName], Awaitable[None]]) -> Handler:
    """Make the handler of a call on an object."""

    def handle(request: Request, reply: Reply, resource: Resource) -> Awaitable[None]:
        assert isinstance(resource, ObjectName)
        return answer(request, reply, resource)

    return handle


def on_bucket(answer: Callable[[Request, Reply, BucketName], Awaitable[None]]) -> Handler:
    """Make the handler of a call on a bucket, or on all of its objects."""

    def handle(request: Request, reply: Reply, resource: Resource) -> Awaitable[None]:
        assert isinstance(resource, str)
        return answer(request, reply, resource)

    return handle


def on_nothing(answer: Callable[[Request, Reply], Awaitable[None]]) -> Handler:
    """Make the handler of a call that names neither."""

    def handle(request: Request, reply: Reply, resource: Resource) -> Awaitable[None]:
        assert resource is None
        return answer(request, reply)

    return handle
