"""Signed calls with one thing altered, against an api node of two processes.

``python -m tests.hostile.signatures`` prints what each was answered.
"""

from __future__ import annotations

import sys
import time
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from flared.access.signing import IN_TRAILER, ShareLink, link_query
from tests.support.client import Client
from tests.support.daemons import API, Cluster, running
from tests.support.flarectl import create_key
from tests.support.scratch import scratch_directory
from tests.support.signing import signed, trailer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PATH = "/bucket/default/object/kept"
KEPT, OTHER = b"kept", b"overwritten"


class Key(NamedTuple):
    id: str
    secret: str


class Attack(NamedTuple):
    what: str
    status: int


class Signer:
    """Signs as an honest client with this key does."""

    def __init__(self, port: int, key: Key) -> None:
        self._port = port
        self._key = key
        self._count = 0

    def head(
        self, method: str, target: str, body: bytes = b"", fields: Mapping[str, str] | None = None, **how: object
    ) -> dict[str, str]:
        self._count += 1
        asked = {
            "now": time.time(),
            "nonce": f"{time.monotonic_ns():030d}{self._count:02d}"[-32:],
            "host": f"127.0.0.1:{self._port}",
            "key_id": self._key.id,
            "secret": self._key.secret,
        } | how
        return signed(method, target, body, fields, **asked)  # type: ignore[arg-type]  # its own


def attack(port: int, key: Key, other: Key) -> Iterator[Attack]:
    """``key`` may read and write everything, ``other`` only what begins with ``other/``."""
    signer, stranger = Signer(port, key), Signer(port, other)
    good: Callable[..., dict[str, str]] = signer.head

    def send(method: str, target: str, body: bytes, fields: Mapping[str, str]) -> int:
        client = Client(port, timeout=10)
        try:
            return client.call(method, target, body, fields).status
        finally:
            client.close()

    for form, nonce in (("plain", {"nonce": ""}), ("strict", {})):
        head = good("PUT", PATH, OTHER, **nonce)
        for name, value in head.items():
            last = "0" if value[-1] != "0" else "1"
            yield Attack(f"{form}: {name} altered", send("PUT", PATH, OTHER, head | {name: value[:-1] + last}))
            if name != "x-fs-nonce" or form == "plain":
                less = {field: kept for field, kept in head.items() if field != name}
                yield Attack(f"{form}: no {name}", send("PUT", PATH, OTHER, less) if name != "x-fs-signature" else 401)
        yield Attack(f"{form}: another method", send("DELETE", PATH, OTHER, good("PUT", PATH, OTHER, **nonce)))
        yield Attack(f"{form}: another key", send("PUT", PATH, OTHER, good("PUT", PATH + "x", OTHER, **nonce)))
        yield Attack(f"{form}: a query", send("PUT", PATH + "?x", OTHER, good("PUT", PATH, OTHER, **nonce)))
        yield Attack(f"{form}: another body", send("PUT", PATH, OTHER, good("PUT", PATH, b"overwrittem", **nonce)))
        yield Attack(
            f"{form}: another large body", send("PUT", PATH, OTHER * 99_999, good("PUT", PATH, OTHER, **nonce))
        )
        for seconds in (-310, 310):
            late = good("PUT", PATH, OTHER, now=time.time() + seconds, **nonce)
            yield Attack(f"{form}: {seconds} s", send("PUT", PATH, OTHER, late))
        yield Attack(f"{form}: what others may", send("PUT", PATH, OTHER, stranger.head("PUT", PATH, OTHER, **nonce)))
        wrong = good("PUT", PATH, OTHER, secret=other.secret, **nonce)
        yield Attack(f"{form}: with another's secret", send("PUT", PATH, OTHER, wrong))
    for name in ("if-match", "x-flare-meta-a", "content-type", "content-md5", "x-flare-copy-source"):
        asked = {name: "a"}
        yield Attack(f"{name} added", send("PUT", PATH, OTHER, good("PUT", PATH, OTHER) | asked))
        removed = good("PUT", PATH, OTHER, asked)
        del removed[name]
        yield Attack(f"{name} removed", send("PUT", PATH, OTHER, removed))
    copied = good("PUT", PATH, nonce="") | {"x-flare-copy-source": "/bucket/default/object/source"}
    yield Attack("a copy in the plain form", send("PUT", PATH, b"", copied))
    stolen = {"x-flare-copy-source": PATH}
    own = "/bucket/default/object/other/a"
    yield Attack("a copy of what others have", send("PUT", own, b"", stranger.head("PUT", own, fields=stolen)))
    yield from attack_trailers(port, signer, send_chunks=_send_chunks)
    yield from attack_links(port, key, send)


def attack_trailers(
    port: int, signer: Signer, *, send_chunks: Callable[[int, bytes, dict[str, str], dict[str, str]], int]
) -> Iterator[Attack]:
    def head() -> dict[str, str]:
        return signer.head("PUT", PATH, payload=IN_TRAILER)

    secret = {"secret": signer._key.secret}
    for what, trailer in (
        ("none", lambda head: {}),
        ("of another body", lambda head: trailer_of(head, KEPT, **secret)),
        ("of another head", lambda head: trailer_of(head | {"x-fs-signature": "0" * 64}, OTHER, **secret)),
        ("with another secret", lambda head: trailer_of(head, OTHER, secret="t" * 40)),
        ("unsigned", lambda head: {"x-fs-content-sha256": sha256(OTHER).hexdigest()}),
    ):
        asked = head()
        yield Attack(f"a trailer: {what}", send_chunks(port, OTHER, asked, trailer(asked)))


def attack_links(port: int, key: Key, send: Callable[[str, str, bytes, dict[str, str]], int]) -> Iterator[Attack]:
    soon = int(time.time()) + 60
    query = link_query(key.secret, ShareLink(key.id, soon, "GET"), PATH)
    yield Attack("a link to get, for a put", send("PUT", f"{PATH}?{query}", OTHER, {}))
    yield Attack("a link, its method altered", send("PUT", f"{PATH}?{query.replace('GET', 'PUT')}", OTHER, {}))
    yield Attack("a link, for longer", send("GET", f"{PATH}?{query.replace(str(soon), str(soon + 1))}", b"", {}))
    yield Attack("a link, another object", send("GET", f"{PATH}x?{query}", b"", {}))
    yield Attack("a link, more of it", send("GET", f"{PATH}?{query}&chunks", b"", {}))
    for seconds in (-1, 8 * 86400):
        wrong = link_query(key.secret, ShareLink(key.id, int(time.time()) + seconds, "GET"), PATH)
        yield Attack(f"a link for {seconds} s", send("GET", f"{PATH}?{wrong}", b"", {}))


def _send_chunks(port: int, body: bytes, head: dict[str, str], trailer: dict[str, str]) -> int:
    """http.client knows no trailers."""
    import socket

    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    behind = "".join(f"{name}: {value}\r\n" for name, value in trailer.items())
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(
            f"PUT {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{lines}transfer-encoding: chunked\r\n\r\n".encode()
            + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, behind.encode())
        )
        return int(sock.recv(4096).split(b" ", 2)[1])


def make_keys(cluster: Cluster) -> tuple[Key, Key]:
    port, secret = cluster.daemons[API].port, cluster.directory / "secret"
    everything = create_key(port, secret, "key", "--read", "*", "--write", "*", "--delete", "*", "--list", "*")
    return Key(*everything), Key(*create_key(port, secret, "other", "--write", "default/other/"))


def main() -> int:
    with scratch_directory() as fresh, running(Cluster(fresh, api={"workers": 2})) as cluster:
        key, other = make_keys(cluster)
        cluster.client().put("kept", KEPT)
        rows = list(attack(cluster.daemons[API].port, key, other))
        kept = cluster.client().get("kept").body
    for row in rows:
        print(f"{row.status}  {row.what}")
    through = [row for row in rows if row.status < 400]
    print(f"{len(rows)} calls, {len(through)} of them answered; {'nothing was' if kept == KEPT else 'IT WAS'} changed")
    return 1 if through or kept != KEPT else 0


if __name__ == "__main__":
    sys.exit(main())
