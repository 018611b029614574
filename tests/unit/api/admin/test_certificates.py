"""Certificates over real HTTP: who gets one, which errors all others get, and what a stranger may see."""

from __future__ import annotations

import json
from base64 import b64decode
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trio.testing

from flared.access.certificates import first_certificate, is_signed_by, make_key, make_request
from flared.access.enrolment import open_issued, prove_request
from flared.access.keys import Keyring
from flared.api.admin.certificates import AuthorityFiles
from flared.http.pool import Pool, PoolSettings
from flared.http.server import Server
from tests.support.certificates import CERTIFICATE, SECRET, OwnAuthority
from tests.support.cluster import Cluster
from tests.support.entry import make_entry
from tests.support.memory_net import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Clock = trio.testing.MockClock
NONCE = bytes(range(16))


class Caller:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        async with self._pool.request(method, path, (), (body,) if body else ()) as response:
            return response.status, await response.body.read_all(1 << 20)

    async def ask(
        self, node: str, request: bytes, *, secret: bytes = SECRET, proved: bytes | None = None
    ) -> tuple[int, str]:
        """Return the status, and what was sealed or why nothing was."""
        proof = prove_request(secret, node, NONCE, request if proved is None else proved)
        body = {"node": node, "nonce": NONCE.hex(), "request": request.decode(), "proof": proof.hex()}
        status, answer = await self.call("POST", "/cluster/certificate", json.dumps(body).encode())
        fields = json.loads(answer)
        return status, str(fields["sealed"] if status == 200 else fields["error"]["message"])


@asynccontextmanager
async def calling(files: AuthorityFiles | None, *secrets: bytes) -> AsyncIterator[Caller]:
    """An api node on a memory network that goes by these secrets."""
    net = MemoryNetwork()
    cluster = Cluster()
    async with cluster.running(), trio.open_nursery() as nursery:
        entry = make_entry(cluster, Keyring(secrets or (SECRET,)), authority=files)
        await nursery.start(Server(entry.answer).serve, [net.listen("api:80")])
        pool = Pool("api:80", PoolSettings(stall_seconds=5), net.connect)
        yield Caller(pool)
        pool.close()
        nursery.cancel_scope.cancel()


def files_of(directory: Path) -> tuple[OwnAuthority, AuthorityFiles]:
    own = OwnAuthority(directory)
    (directory / "ca.key").write_bytes(own.authority.key)
    # A file of authorities may go on: with the one of the api node's public certificate.
    own.ca.write_bytes(own.authority.certificate + CERTIFICATE.encode())
    return own, AuthorityFiles(own.ca, directory / "ca.key")


async def test_who_proves_the_secret_gets_a_certificate(tmp_path: Path, autojump_clock: Clock) -> None:
    own, files = files_of(tmp_path)
    request = make_request("data9", ("host9",), make_key())
    async with calling(files, b"the-secret-that-comes-next", SECRET) as caller:
        status, answer = await caller.ask("data9", request)
        assert status == 200, answer
        issued = open_issued(b64decode(answer), SECRET, "data9", NONCE)
        assert issued.authority == own.authority.certificate
        assert is_signed_by(issued.certificate, issued.authority)
        assert await caller.call("GET", "/cluster/ca") == (200, first_certificate(own.authority.certificate))


async def test_all_others_get_errors(tmp_path: Path, autojump_clock: Clock) -> None:
    _, files = files_of(tmp_path)
    request = make_request("data9", (), make_key())
    async with calling(files) as caller:
        for asked, word in (
            (caller.ask("data9", request, secret=b"another-secret-of-others"), "was not made with the secret"),
            (caller.ask("data9", request, proved=b"another request"), "was not made with the secret"),
        ):
            status, answer = await asked
            assert (status, word in answer) == (401, True), answer
        for asked, word in (
            (caller.ask("data8", request), "not one of node data8"),
            (caller.ask("data9", b"nothing"), ""),
            (caller.ask("a/b", request), "node"),
        ):
            status, answer = await asked
            assert (status, word in answer) == (400, True), answer
        files.key.unlink()
        status, answer = await caller.ask("data9", request)
        assert (status, "cannot be read" in answer) == (409, True)
    async with calling(None) as caller:
        status, answer = await caller.ask("data9", request)
        assert (status, "no authority of its own" in answer) == (409, True)
        assert (await caller.call("GET", "/cluster/ca"))[0] == 409
