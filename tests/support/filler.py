"""Storing very many small things as fast as the store takes them: raw connections, one request at a time on each."""

from __future__ import annotations

import itertools
import selectors
import socket
from typing import TYPE_CHECKING

from tests.support.client import object_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONNECTIONS = 64


def put_requests(bucket: str, keys: Iterable[str], payload: bytes) -> Iterator[bytes]:
    """A PUT of ``payload`` for every key, made unique by the key in front of it."""
    for key in keys:
        body = key.encode() + payload
        head = f"PUT {object_path(key, bucket)} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        yield head.encode() + body


def fill(port: int, requests: Iterator[bytes]) -> int:
    """Send every request; returns how many. Any answer but 201 fails."""
    selector = selectors.DefaultSelector()
    stored = 0
    connection: socket.socket
    for request in itertools.islice(requests, CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        selector.register(connection, selectors.EVENT_READ)
    while selector.get_map():
        for event, _ in selector.select():
            assert isinstance(event.fileobj, socket.socket)
            connection = event.fileobj
            answer = _answer(connection)
            assert answer.startswith(b"HTTP/1.1 201"), answer[:300]
            stored += 1
            following = next(requests, None)
            if following is not None:
                connection.sendall(following)
            else:
                selector.unregister(connection)
                connection.close()
    return stored


def _answer(connection: socket.socket) -> bytes:
    """One whole answer; those of a PUT are small, so it nearly always comes in one piece."""
    received = connection.recv(65536)
    while True:
        head, end, rest = received.partition(b"\r\n\r\n")
        if end:
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            if len(rest) >= length:
                return received
        more = connection.recv(65536)
        assert more, f"the connection was closed after {received[:300]!r}"
        received += more
