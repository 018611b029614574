"""Service: a data node's server of piece calls. ``docs/chunk-api.md`` says what each call promises.

It lets callers in, finds the call for a path, and answers for the node as a whole; it never decides and never asks
another node. ``batch_calls`` and ``piece_calls`` have the calls for pieces.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from flared import __version__
from flared.access.keys import CHALLENGE, Keyring, data_audience
from flared.access.origin import foreign_reason
from flared.data.mark import mark_fields
from flared.data.transport import statuses, wire
from flared.data.transport.batch_calls import TURN_BYTES_MAX, BatchCalls, log_failures
from flared.data.transport.metrics import CallCounts, data_metrics
from flared.data.transport.piece_calls import PieceCalls
from flared.errors import BadRequest, Busy, FlareError, Forbidden, ProtocolError, Unauthenticated, Unavailable
from flared.http.address import LOOPBACK
from flared.http.error_body import JSON, pack_error
from flared.http.eviction import TRUSTED
from flared.http.messages import Reply, Request, encode_fields
from flared.http.metrics import send_metrics
from flared.http.percent import parse_query
from flared.log import current_request
from flared.names import REQUEST_FIELD, NodeName, are_request_ids

if TYPE_CHECKING:
    from flared.data.volume.volumes import Volumes
    from flared.http.exchange import Exchange
    from flared.http.server import Server
    from flared.metrics import Durations, Metric

log = logging.getLogger(__name__)

LIST_DEFAULT = 1000

_TEXT = b"content-type: text/plain; charset=utf-8\r\n"
_RETRY = b"retry-after: 1\r\n"

Call = Callable[[Request, Reply], Awaitable[None]]


class DataService:
    """Answers the requests of one data node. Callers must present a token that ``keyring`` accepts.

    Without a secret, and for what this machine may ask without it, ``hosts`` are the names the node may be called by.
    ``handler`` answers any request; for turns it is a ``http.exchange.QuickHandler``, which takes the small batches.
    """

    body_bytes_max = TURN_BYTES_MAX

    def __init__(
        self,
        node: NodeName,
        volumes: Volumes,
        keyring: Keyring,
        *,
        hosts: frozenset[str] = frozenset(),
        instance: str = "",
    ) -> None:
        self._node = node
        self._instance = instance
        """The same as in its heartbeats, so that an api node can find out which process answers here."""
        self._volumes = volumes
        self._keyring = keyring
        self._hosts = hosts
        self._audience = data_audience(node)
        self._server: Server | None = None
        self._counts = CallCounts()
        self._batches = BatchCalls(volumes, self._counts)
        self._pieces = PieceCalls(volumes, self._counts)
        self._calls: dict[str, dict[str, Call]] = {
            wire.PATH_PUT: {"POST": self._batches.put},
            wire.PATH_GET: {"POST": self._batches.get},
            wire.PATH_DELETE: {"POST": self._batches.delete},
            wire.PATH_QUARANTINE: {"POST": self._batches.quarantine},
            wire.PATH_LIST: {"GET": self._list, "HEAD": self._list},
            "/status": {"GET": self._status, "HEAD": self._status},
            "/metrics": {"GET": self._metrics, "HEAD": self._metrics},
        }
        self._in_turns: dict[str, Callable[[Exchange], bool]] = {
            wire.PATH_PUT: self._batches.begin_put,
            wire.PATH_GET: self._batches.begin_get,
            wire.PATH_DELETE: self._batches.begin_delete,
        }
        self._piece_calls: dict[str, Call] = {
            "PUT": self._pieces.put,
            "GET": self._pieces.get,
            "HEAD": self._pieces.head,
            "DELETE": self._pieces.delete,
        }
        self._open_calls: dict[str, dict[str, Call]] = {
            "/healthz": {"GET": self._healthz, "HEAD": self._healthz},
            "/readyz": {"GET": self._readyz, "HEAD": self._readyz},
        }

    def attach_server(self, server: Server) -> None:
        """Count the connections of ``server``, which has this service's handler, among the metrics."""
        self._server = server

    async def handler(self, request: Request, reply: Reply) -> None:
        """Answer one request; for ``http.server.Server``."""
        path = request.path
        asking = request.fields.get(REQUEST_FIELD, "")
        current_request.set(asking if are_request_ids(asking) else "")
        try:
            if path in self._open_calls:
                calls = self._open_calls[path]
            elif path == "/metrics":
                if not request.peer.startswith(LOOPBACK):
                    raise Unauthenticated("metrics are for this machine; elsewhere they are at metrics_listen")
                self._refuse_foreign(request)
                calls = self._calls[path]
            elif not self._keyring.secrets:
                self._refuse_foreign(request)
                calls = self._calls_at(path)
            elif not self._keyring.admits(request.fields.get("authorization"), self._audience):
                raise Unauthenticated(
                    f"this is data node {self._node}, which answers api nodes only, by 'Authorization: Flare …'; "
                    "clients ask the api node"
                )
            else:
                reply.prove(TRUSTED)
                calls = self._calls_at(path)
            call = calls.get(request.method)
            if call is None:
                await _send_unknown(reply, calls)
            else:
                if request.query and path != wire.PATH_LIST:
                    parse_query(request.query)  # which knows none
                await call(request, reply)
        except FlareError as error:
            # Broken HTTP is the connection's affair; and once the head is out, cutting it is the only honest answer.
            if reply.started or isinstance(error, ProtocolError):
                raise
            self._counts.refused += 1
            log_failures(request.method.lower(), [error])
            await _send_error(reply, error)

    def begin(self, exchange: Exchange) -> bool:
        """Begin a small batch in turns; False if it is left to ``handler``, as all refusals are."""
        begin = self._in_turns.get(exchange.path)
        if begin is None or exchange.method != "POST" or exchange.query:
            return False
        fields = exchange.fields
        if not self._keyring.secrets:
            if foreign_reason("POST", fields, self._hosts):
                return False
        elif self._keyring.admits(fields.get("authorization"), self._audience):
            exchange.prove(TRUSTED)
        else:
            return False
        return begin(exchange)

    def answered(self, exchange: Exchange, status: int) -> None:
        """Batches are counted where they are answered; as ``http.exchange.QuickHandler`` wants it."""

    def _calls_at(self, path: str) -> dict[str, Call]:
        return self._piece_calls if path.startswith(wire.PATH_ONE) else self._calls.get(path, {})

    def _refuse_foreign(self, request: Request) -> None:
        """Raise Forbidden for a web page that came from elsewhere (``access.origin``)."""
        reason = foreign_reason(request.method, request.fields, self._hosts)
        if reason:
            raise Forbidden(reason)

    async def _list(self, request: Request, reply: Reply) -> None:
        query = parse_query(request.query, "after", "limit", wire.WORKING_QUERY, wire.QUARANTINED_QUERY)
        try:
            limit = min(int(query.get("limit", LIST_DEFAULT)), wire.LIST_MAX)
        except ValueError:
            limit = 0
        if limit < 1:
            raise BadRequest("limit is not a number from 1 on")
        if wire.QUARANTINED_QUERY in query:
            hidden = await self._volumes.list_quarantined(query.get("after", ""), limit)
            return await _send_json(reply, {"pieces": hidden, "next": hidden[-1][0] if len(hidden) == limit else None})
        rows, left_out = await self._volumes.list_working(query.get("after", ""), limit)
        if left_out and wire.WORKING_QUERY not in query:
            raise Busy(f"volume {left_out[0]} could not be asked")
        page: dict[str, object] = {"pieces": rows, "next": rows[-1][0] if len(rows) == limit else None}
        if wire.WORKING_QUERY in query:
            page["left_out"] = left_out
        return await _send_json(reply, page)

    async def _status(self, request: Request, reply: Reply) -> None:
        answer = {
            "name": self._node,
            "role": "data",
            "version": __version__,
            "instance": self._instance,
            "marks": [mark_fields(mark) for mark in self._volumes.marks.seen()],
            "storage": asdict(self._volumes.status()),
        }
        await _send_json(reply, answer)

    async def _healthz(self, request: Request, reply: Reply) -> None:
        await reply.send(200, _TEXT, b"alive\n")

    async def _readyz(self, request: Request, reply: Reply) -> None:
        states = {volume.state for volume in self._volumes.status().volumes}
        if "replaying" in states or not states - {"failed"}:
            raise Unavailable(f"volumes are {', '.join(sorted(states)) or 'not there'}")
        await reply.send(200, _TEXT, b"ready\n")

    async def _metrics(self, request: Request, reply: Reply) -> None:
        await send_metrics(reply, self.metrics())

    def metrics(self) -> Iterator[Metric | Durations]:
        """Return the metrics for /metrics."""
        return data_metrics(self._counts, self._volumes.status().volumes, self._server)


async def _send_json(reply: Reply, answer: object) -> None:
    await reply.send(200, JSON, json.dumps(answer, separators=(",", ":")).encode() + b"\n")


async def _send_error(reply: Reply, error: FlareError) -> None:
    status = statuses.status_of(error)
    lines = JSON + (_RETRY if status == 503 else CHALLENGE if isinstance(error, Unauthenticated) else b"")
    await reply.send(status, lines + _error_line(error.code), pack_error(error.code, str(error)))


async def _send_unknown(reply: Reply, calls: dict[str, Call]) -> None:
    """Answer a path that does not exist, or a method that it does not support."""
    if not calls:
        await reply.send(404, JSON + _error_line("NoSuchPath"), pack_error("NoSuchPath", "no such call"))
        return
    allow = b"allow: %b\r\n" % ", ".join(sorted(calls)).encode()
    message = f"this path supports {', '.join(sorted(calls))}"
    await reply.send(405, JSON + allow + _error_line("BadMethod"), pack_error("BadMethod", message))


def _error_line(code: str) -> bytes:
    return encode_fields([(statuses.ERROR_FIELD, code)])
