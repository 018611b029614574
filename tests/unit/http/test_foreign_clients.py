"""Our server as clients that others wrote see it: httpx (h11, on trio) and http.client from the standard library."""

from __future__ import annotations

import http.client
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from flared.http.server import Server, listening_address, open_listeners

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flared.http.messages import Reply, Request


async def echo(request: Request, reply: Reply) -> None:
    """The body comes back, with what was asked in the fields."""
    body = await request.body.read_all(10_000_000)
    await reply.send(200, [("x-method", request.method), ("x-path", request.path)], body)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    listeners = open_listeners("127.0.0.1:0")
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(echo).serve, listeners)
        yield str(listening_address(listeners[0]))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_httpx_gets_back_what_it_sends(size: int) -> None:
    async with serving() as address, httpx.AsyncClient(trust_env=False) as client:
        for _ in range(3):  # the second and third on a kept connection
            response = await client.put(f"http://{address}/a%2Fb?q=1", content=b"x" * size)
            assert response.content == b"x" * size
            assert response.headers["x-path"] == "/a%2Fb"


async def test_httpx_streams_a_body_of_unknown_length() -> None:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(50):
            yield bytes([number]) * 10_000

    async with serving() as address, httpx.AsyncClient(trust_env=False) as client:
        response = await client.put(f"http://{address}/", content=parts())
        assert response.content == b"".join([bytes([number]) * 10_000 for number in range(50)])


async def test_httpx_sees_no_body_in_the_answer_to_head() -> None:
    async with serving() as address, httpx.AsyncClient(trust_env=False) as client:
        response = await client.head(f"http://{address}/x")
        assert (response.status_code, response.content, response.headers["x-method"]) == (200, b"", "HEAD")


async def test_the_standard_library_keeps_its_connection() -> None:
    def talk(address: str) -> list[bytes]:
        connection = http.client.HTTPConnection(address, timeout=10)
        answers = []
        for number in range(5):
            connection.request("POST", "/", body=b"%d" % number)
            answers.append(connection.getresponse().read())
        connection.close()
        return answers

    async with serving() as address:
        assert await trio.to_thread.run_sync(talk, address) == [b"%d" % number for number in range(5)]
