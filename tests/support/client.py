"""A foreign HTTP client for tests and measurements: one blocking connection, nothing of Flare's own code.

It never repeats a request: what becomes of a request whose answer is lost is exactly what many tests ask.
"""

from __future__ import annotations

import http.client
import json
import select
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from tests.support.bodies import UNIT_SIZE, Stream

if TYPE_CHECKING:
    import socket
    import ssl

NO_ANSWER = (OSError, http.client.HTTPException)
"""Raised by a call whose answer is incomplete: whether it was done is unknown."""

Body = bytes | Iterable[bytes | bytearray]


class Answer(NamedTuple):
    status: int
    fields: Mapping[str, str]
    """By lower-case name."""
    body: bytes

    def json(self) -> dict[str, object]:
        parsed = json.loads(self.body)
        assert isinstance(parsed, dict)
        return parsed


def object_path(key: str, bucket: str = "default") -> str:
    return f"/bucket/{bucket}/object/{quote(key, safe='/')}"


class Client:
    """Use it from one thread. After NO_ANSWER the next call connects anew."""

    def __init__(
        self, port: int, *, host: str = "127.0.0.1", timeout: float = 60.0, context: ssl.SSLContext | None = None
    ) -> None:
        """With a ``context`` it speaks TLS."""
        if context is None:
            self._connection = http.client.HTTPConnection(host, port, timeout=timeout)
        else:
            self._connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)

    def call(self, method: str, path: str, body: Body = b"", fields: Mapping[str, str] | None = None) -> Answer:
        try:
            response = self._send(method, path, body, fields or {})
            return Answer(response.status, _fields(response), response.read())
        except NO_ANSWER:
            self.close()
            raise

    def put(self, key: str, body: Body, *, bucket: str = "default", fields: Mapping[str, str] | None = None) -> Answer:
        return self.call("PUT", object_path(key, bucket), body, fields)

    def get(self, key: str, *, bucket: str = "default", fields: Mapping[str, str] | None = None) -> Answer:
        return self.call("GET", object_path(key, bucket), fields=fields)

    def delete(self, key: str, *, bucket: str = "default") -> Answer:
        return self.call("DELETE", object_path(key, bucket))

    def put_stream(self, key: str, stream: Stream, *, bucket: str = "default") -> Answer:
        return self.put(key, stream.units(), bucket=bucket, fields={"content-length": str(stream.size)})

    def get_stream(self, key: str, stream: Stream, *, bucket: str = "default") -> bool:
        """Return whether the object is exactly ``stream``; nothing of it is kept."""
        response = self._send("GET", object_path(key, bucket), b"", {})
        buffer = memoryview(bytearray(UNIT_SIZE))
        same = response.status == 200 and response.length == stream.size
        for unit in stream.units() if same else ():
            got = _read_exactly(response, buffer[: len(unit)])
            if got != len(unit) or unit != buffer[:got]:
                same = False
                break
        if not same or response.read(1):
            self.close()
            return False
        return True

    def close(self) -> None:
        self._connection.close()

    def __del__(self) -> None:
        # A test may drop it at its end; the interpreter would warn of the socket, and warnings are errors.
        self.close()

    def _send(self, method: str, path: str, body: Body, fields: Mapping[str, str]) -> http.client.HTTPResponse:
        connection = self._connection
        fresh = connection.sock is None
        # http.client would answer keep-alive's races (the server closed an idle connection) with an error that says
        # nothing about the store, so a socket the peer has closed meanwhile is replaced before anything is sent.
        if not fresh and _is_closed(connection.sock):
            connection.close()
        names = {name.lower() for name in fields}
        connection.putrequest(method, path, skip_host="host" in names, skip_accept_encoding=True)
        if isinstance(body, bytes) and "content-length" not in names and (body or method in ("PUT", "POST")):
            connection.putheader("content-length", str(len(body)))
        for name, value in fields.items():
            connection.putheader(name, value)
        connection.endheaders()
        try:
            if isinstance(body, bytes):
                if body:
                    connection.send(body)
            else:
                for part in body:
                    connection.send(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused early: the answer may lie in the socket already
        return connection.getresponse()


def _is_closed(connected: socket.socket) -> bool:
    # Between two requests nothing may come: a readable socket means its end.
    return bool(select.select([connected], [], [], 0)[0])


def _read_exactly(response: http.client.HTTPResponse, buffer: memoryview) -> int:
    got = 0
    while got < len(buffer):
        count = response.readinto(buffer[got:])
        if not count:
            break
        got += count
    return got


def _fields(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}
