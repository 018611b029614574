"""Router: from a request's method and path to the call it means, or to why there is none. Pure.

Each face brings its paths: exact ones, and *trees*, where what follows a first segment names a bucket or an object. An
object's path is found with one look-up and one call, because a 4 KiB GET has 30 us in all on the api node. Nothing is
decoded here, and nothing is asked of the metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from flared.access.authorize import NEVER_GRANTED, OPEN, PROVED, Action
from flared.errors import BadMethod, NoSuchPath, Refused

if TYPE_CHECKING:
    from flared.http.exchange import Exchange
    from flared.http.messages import Request

SAFE_METHODS = frozenset({"GET", "HEAD"})
WRITE_METHODS = frozenset({"PUT", "POST", "DELETE"})


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a face. There is one value for each, so it is compared by identity."""

    face: str
    name: str
    action: Action


class Methods(dict[str, Call]):
    """The calls on one path, by method. Not changed once it is made."""

    def refuse(self, method: str) -> Refusal:
        """Return the refusal of a method that is not among them."""
        allowed = ", ".join(self)
        message = f"{method} is not possible here; possible are {allowed}"
        actions = {call.action for call in self.values()}
        return Refusal(unknown_action(method, actions), BadMethod(message, allowed=tuple(self)))


class Route(NamedTuple):
    """The target of a request. The names are as they were sent, still percent-encoded."""

    call: Call
    raw_bucket: str | None
    """Empty: the default bucket. None: the call is about no bucket."""
    raw_key: str
    """Empty: the call is about no object."""


class Refusal(NamedTuple):
    """There is no such call. Only callers that may do ``action``, the like of it, learn so."""

    action: Action
    error: Refused


class Finder(Protocol):
    """Finds the call of each request of a server. Pure."""

    def find_call(self, request: Request | Exchange) -> Route | Refusal:
        """Return what the request means. Any request has an answer."""

    def fits_turn(self, exchange: Exchange) -> bool:
        """Return whether its form, before anything else is known of it, is one that is answered in turns."""


Place = tuple[Methods, str | None, str]
"""The calls on a path, and the raw bucket and raw key that it names, as in a Route."""

Tree = Callable[[str], Place]
"""From what follows a first segment to the place; raises Refused if there is none."""


@dataclass(frozen=True, slots=True)
class Routes:
    """The paths of one face."""

    exact: Mapping[str, Methods] = field(default_factory=dict)
    trees: Mapping[str, Tree] = field(default_factory=dict)
    """By first segment, with both its slashes."""


class Router:
    """The paths of all faces of a server: a Finder. Raises ValueError if two faces have the same one."""

    def __init__(self, faces: Iterable[Routes]) -> None:
        self._exact: dict[str, Methods] = {}
        self._trees: dict[str, Tree] = {}
        for routes in faces:
            twice = (self._exact.keys() & routes.exact.keys()) | (self._trees.keys() & routes.trees.keys())
            if twice:
                raise ValueError(f"two faces have the path {min(twice)}")
            self._exact.update(routes.exact)
            self._trees.update(routes.trees)

    def find_call(self, request: Request | Exchange) -> Route | Refusal:
        return self.find(request.method, request.path)

    def fits_turn(self, exchange: Exchange) -> bool:
        return not exchange.query

    def find(self, method: str, path: str) -> Route | Refusal:
        """Return what ``path``, as it was sent, means with this method. Any two texts have an answer."""
        rest = path.find("/", 1) + 1
        tree = self._trees.get(path[:rest])
        if tree is not None:
            try:
                methods, raw_bucket, raw_key = tree(path[rest:])
            except Refused as error:
                return Refusal(unknown_action(method, ()), error)
        else:
            exact = self._exact.get(path)
            if exact is None:
                return Refusal(unknown_action(method, ()), no_such_path(path))
            methods, raw_bucket, raw_key = exact, None, ""
        call = methods.get(method)
        return methods.refuse(method) if call is None else Route(call, raw_bucket, raw_key)


def no_such_path(path: str) -> NoSuchPath:
    return NoSuchPath(f"there is no call at {path[:200]}; see docs/http-api.md")


def unknown_action(method: str, actions: Iterable[Action]) -> Action:
    """Return the action of a call that does not exist on a path whose calls have these ``actions``."""
    known = set(actions)
    if known and known <= OPEN:
        return Action.UNKNOWN_OPEN if known & PROVED.keys() else min(known)
    if method in SAFE_METHODS:
        return Action.UNKNOWN_READ
    if method in WRITE_METHODS and not known & NEVER_GRANTED:
        return Action.UNKNOWN_WRITE
    return Action.UNKNOWN
