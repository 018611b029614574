"""Share links in web pages of other sites: a page that has a link may use it, as anyone may who has it.

A browser asks first whether a page may put (Fetch, 3.2.2), without its own fields; the answer is yes for all that
has the form of a link, and the call itself is refused if the link is not right. No other call has CORS fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.signing import is_link, parse_link
from flared.api.native.routes import ON_OBJECT
from flared.errors import BadMethod

if TYPE_CHECKING:
    from flared.api.router import Route
    from flared.http.messages import Reply, Request
    from flared.names import ObjectName

LINES = (
    b"access-control-allow-origin: *\r\n"
    b"access-control-expose-headers: etag, x-flare-version, content-range, accept-ranges\r\n"
)
_ASKED = b"access-control-allow-methods: %b\r\naccess-control-allow-headers: *\r\naccess-control-max-age: 600\r\n"


def link_lines(request: Request, _: Route) -> bytes:
    """Return the field lines that a page of another site needs to read the answer to a link, an error too."""
    return LINES if "origin" in request.fields and is_link(request.query) else b""


async def preflight(request: Request, reply: Reply, _: ObjectName) -> None:
    """Say what a page may do with a link. Raises BadMethod without one, BadSignature for one that was changed."""
    if not is_link(request.query):
        raise BadMethod("OPTIONS is for share links", allowed=tuple(ON_OBJECT))
    methods = b"PUT" if parse_link(request.query).method == "PUT" else b"GET, HEAD"
    await reply.send(204, _ASKED % methods)
