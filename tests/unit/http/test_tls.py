"""TLS on a listener: who needs it, what a bad certificate or handshake does, and that no byte is lost or added.

All of ``test_server`` runs over TLS as well.
"""

from __future__ import annotations

import random
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from flared.errors import ConfigError, ConnectionLost
from flared.http.tls import HANDSHAKE, RECEIVE_BYTES_MAX, UNSENT_BYTES_MAX, TlsStream
from flared.http.tls_context import Tls, TlsCaller, TlsListener
from flared.http.tls_settings import TlsSettings
from tests.support.certificates import (
    CERTIFICATE,
    KEY,
    OTHER_CERTIFICATE,
    OTHER_KEY,
    OwnAuthority,
    trusting,
    write_certificate,
)
from tests.support.memory_net import MemoryNetwork
from tests.unit.http.bench import ADDRESS, Raw, Way, echo, serve

if TYPE_CHECKING:
    from trio.testing import MockClock

    from flared.http.messages import Reply, Request
    from flared.http.stream import Stream

LAST = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("way", ["tasks", "turns"])
@pytest.mark.parametrize(("plain", "peer_is_here", "served"), [
    ("allow", False, True), ("allow", True, True), ("local", False, False), ("local", True, True),
    ("refuse", True, False),
])  # fmt: skip
async def test_who_may_do_without(
    way: Way,
    plain: str,
    peer_is_here: bool,
    served: bool,
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flared.http.tls.is_local", lambda peer: peer_is_here)
    async with serve(echo, way=way, tls=Tls(TlsSettings(*write_certificate(tmp_path), plain))) as bench:
        raw = Raw(await bench.network.connect(ADDRESS))
        await raw.send(LAST)
        answer = await raw.receive_all()
        assert answer.startswith(b"HTTP/1.1 200" if served else b"HTTP/1.1 400")
        assert (b"use https://" in answer) is not served
        assert (await bench.say(LAST)).startswith(b"HTTP/1.1 200")
    assert bench.server.statistics().connections == 0


@pytest.mark.parametrize("way", ["tasks", "turns"])
async def test_a_handshake_that_is_none_costs_its_own_connection(
    way: Way, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with serve(echo, way=way, tls=Tls(TlsSettings(*write_certificate(tmp_path), "refuse"))) as bench:
        good = await bench.connect()
        for seed in range(50):
            raw = Raw(await bench.network.connect(ADDRESS))
            await raw.send(bytes([HANDSHAKE]) + random.Random(seed).randbytes(300))
            with trio.move_on_after(200):  # a record that claims to be longer is waited for, and then swept
                await raw.receive_all()
            raw.stream.close()
        await good.send(LAST)
        assert (await good.receive_all()).startswith(b"HTTP/1.1 200")
    assert bench.server.statistics().failures == 0


async def test_a_client_believes_only_the_right_certificate(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with serve(echo, tls=Tls(TlsSettings(*write_certificate(tmp_path), "refuse"))) as bench:
        for context, host in ((trusting(OTHER_CERTIFICATE), "localhost"), (trusting(), "elsewhere.example")):
            stream = TlsStream(await bench.network.connect(ADDRESS), context, host=host)
            with pytest.raises(ConnectionLost, match="its certificate is not trusted"):
                await stream.shake_hands()
            stream.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_old_versions_are_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    context = trusting()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with serve(echo, tls=Tls(TlsSettings(*write_certificate(tmp_path), "refuse"))) as bench:
        stream = TlsStream(await bench.network.connect(ADDRESS), context, host="localhost")
        with pytest.raises(ConnectionLost, match="TLS failed"):
            await stream.shake_hands()


async def test_a_new_certificate_is_shown_from_the_next_connection_on(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    tls = Tls(TlsSettings(*write_certificate(tmp_path), "refuse"))
    async with serve(echo, tls=tls) as bench:
        before = await bench.connect()
        tls.load(TlsSettings(*write_certificate(tmp_path, OTHER_CERTIFICATE, OTHER_KEY), "refuse"))
        stream = TlsStream(await bench.network.connect(ADDRESS), trusting(OTHER_CERTIFICATE), host="localhost")
        await stream.shake_hands()
        await before.send(LAST)
        assert (await before.receive_all()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("certificate", "key", "said"), [
    (CERTIFICATE, OTHER_KEY, "key values mismatch"),
    ("nothing", KEY, "not a certificate in PEM"),
    (CERTIFICATE, "nothing", "not a certificate in PEM and its key"),
])  # fmt: skip
def test_files_that_do_not_belong_together_are_named(certificate: str, key: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        Tls(TlsSettings(*write_certificate(tmp_path, certificate, key)))


def test_files_that_cannot_be_used_are_named_and_change_nothing(tmp_path: Path) -> None:
    paths = write_certificate(tmp_path)
    tls = Tls(TlsSettings(*paths))
    context = tls.context
    paths[1].chmod(0o604)
    with pytest.raises(ConfigError, match="chmod o= "):
        tls.load(TlsSettings(*paths, "refuse"))
    paths[1].chmod(0o600)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        tls.load(TlsSettings(tmp_path / "nothing.pem", paths[1], "refuse"))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        tls.load(TlsSettings(paths[0], tmp_path / "nothing.pem", "refuse"))
    assert (tls.context, tls.plain) == (context, "allow")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("tls"))


def receive_into(stream: TlsStream, size: int) -> bytes | None:
    buffer = bytearray(size)
    with memoryview(buffer) as view:
        count = stream.receive_into_nowait(view)
    return None if count is None else bytes(buffer[:count])


async def pass_through(
    sender: TlsStream, receiver: TlsStream, sent: bytes, sizes: list[int], *, into: bool = False
) -> bytes:
    """Send ``sent`` by offers of these sizes, in turn, while the other end receives; the bytes that came. With ``into``
    the receiver brings its own buffer."""
    got = bytearray()

    async def receive() -> None:
        while len(got) < len(sent):
            size = sizes[len(got) % len(sizes)]
            data = receive_into(receiver, size) if into else receiver.receive_nowait(size)
            if data is None:
                await receiver.wait_readable()
            else:
                assert data, "the end came early"
                got.extend(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        at = turn = 0
        while at < len(sent):
            count = sender.send_nowait(sent[at : at + sizes[turn % len(sizes)]])
            at += count
            turn += 1
            if not count:
                await sender.wait_writable()
    return bytes(got)


@settings(deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    size=st.integers(0, 700_000),
    sizes=st.lists(st.sampled_from([1000, 4096, 16_384, 16_385, 70_000, 300_000]), min_size=1, max_size=4),
    fragment=st.booleans(),
    into=st.booleans(),
)
def test_every_byte_arrives_once_and_in_order(
    files: tuple[Path, Path], seed: int, size: int, sizes: list[int], fragment: bool, into: bool
) -> None:
    """Offers grow and shrink while the network takes what it likes: a byte that was encrypted counts once."""

    async def run() -> None:
        network = MemoryNetwork(seed)
        listener = network.listen(ADDRESS)
        client = TlsStream(await network.connect(ADDRESS), trusting(), host="localhost")
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(*files)
        server = TlsStream(await listener.accept(), server_context)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.shake_hands)
            nursery.start_soon(server.shake_hands)
        if fragment:
            network.fragment(ADDRESS)
        sent = random.Random(seed).randbytes(size)
        assert await pass_through(client, server, sent, sizes, into=into) == sent
        assert await pass_through(server, client, sent, sizes, into=into) == sent
        assert (client.sent, client.received, server.sent, server.received) == (size,) * 4
        client.finish_sending()
        assert server.receive_nowait(1) == b""

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_send_ends_only_where_the_network_is_full(
    files: tuple[Path, Path], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Senders in turns wait for an edge after a short send, and the kernel raises none while it has room."""
    monkeypatch.setattr("tests.support.memory_net.WINDOW_BYTES", 8 << 20)
    network = MemoryNetwork()
    listener = network.listen(ADDRESS)
    client = TlsStream(await network.connect(ADDRESS), trusting(), host="localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    server = TlsStream(await listener.accept(), context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.shake_hands)
        nursery.start_soon(server.shake_hands)
    assert server.send_nowait(bytes(1_000_000)) == 1_000_000
    parts = [bytes(5000)] * 300 + [bytes(700_000), b"", bytes(3)]
    size = sum(map(len, parts))
    assert server.send_parts_nowait(parts) == size
    left = 1_000_000 + size
    while left:
        data = client.receive_nowait(left)
        assert data
        left -= len(data)


async def test_a_refused_upload_is_dropped_until_its_sender_has_seen_why(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async def refuse(request: Request, reply: Reply) -> None:
        reply.close = True
        await reply.send(413, [], b"too large")

    async with serve(refuse, tls=Tls(TlsSettings(*write_certificate(tmp_path), "refuse"))) as bench:
        raw = await bench.connect()
        await raw.send(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n")
        for _ in range(30):
            await raw.send(bytes(100_000))
            await trio.sleep(0.01)
        answer = await raw.receive_all()
        assert answer.startswith(b"HTTP/1.1 413")
        assert answer.endswith(b"too large")
        raw.stream.close()


async def shake(server: Tls, client: ssl.SSLContext, name: str) -> str:
    """Return the answer that a client gets over the contexts of two nodes, or why there is none."""
    network = MemoryNetwork()
    listener = network.listen(ADDRESS)
    near = TlsStream(await network.connect(ADDRESS), client, host=name)
    assert server.context is not None
    far = TlsStream(await listener.accept(), server.context)

    async def serve_one() -> None:
        with suppress(ConnectionLost):
            await far.shake_hands()
            while far.receive_nowait(1) is None:
                await far.wait_readable()
            far.send_nowait(b"answer")

    said = ""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one)
        try:
            await near.shake_hands()
            near.send_nowait(b"x")
            while (got := near.receive_nowait(6)) is None:
                await near.wait_readable()
            said = got.decode()
        except ConnectionLost as error:
            said = str(error)
        nursery.cancel_scope.cancel()
    return said


async def test_nodes_show_each_other_certificates(tmp_path: Path, autojump_clock: MockClock) -> None:
    own, others = OwnAuthority(tmp_path), OwnAuthority(tmp_path / "others", "Flare of others")
    port = Tls(TlsSettings(**paths_of(own.write("data1")), client_ca=own.ca))
    caller = TlsCaller(TlsSettings(**paths_of(own.write("api"))))
    assert await shake(port, caller.context(), "data1") == "answer"
    assert "not valid for 'data2'" in await shake(port, caller.context(), "data2")
    assert "must be shown there" in await shake(port, own.trusting(), "data1")
    stranger = TlsCaller(TlsSettings(**{**paths_of(others.write("api")), "ca": own.ca}))
    assert "TLS failed: TLSV1_ALERT_UNKNOWN_CA" in await shake(port, stranger.context(), "data1")
    believer = TlsCaller(TlsSettings(**paths_of(others.write("api"))))
    assert "certificate is not trusted" in await shake(port, believer.context(), "data1")


async def test_a_port_for_all_asks_for_no_certificate(tmp_path: Path, autojump_clock: MockClock) -> None:
    own = OwnAuthority(tmp_path)
    tls = Tls(TlsSettings(**paths_of(own.write("data1")), client_ca=own.ca))
    network = MemoryNetwork()
    listener = TlsListener(network.listen(ADDRESS), tls, for_all=True)
    client = TlsStream(await network.connect(ADDRESS), own.trusting(), host="localhost")
    server = await listener.accept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.shake_hands)
        for _ in range(10):
            assert server.receive_nowait(1) is None
            await trio.lowlevel.checkpoint()
    ends = client.certificate_ends()
    assert ends is not None
    assert ends > time.time() + 300 * 86400


async def test_who_may_be_called_without_tls(tmp_path: Path) -> None:
    own = OwnAuthority(tmp_path)
    files = paths_of(own.write("api"))
    for plain, address in (("refuse", "127.0.0.1:1"), ("local", "192.0.2.1:1")):
        with pytest.raises(ConnectionLost, match=f"plain = '{plain}'"):
            await TlsCaller(TlsSettings(**files, plain=plain)).connect(address)
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:1"):
        await TlsCaller(TlsSettings(**files, plain="local")).connect("127.0.0.1:1")


def test_a_node_without_a_certificate_takes_one_over_and_gives_it_up(tmp_path: Path) -> None:
    tls = Tls()
    assert (tls.context, tls.plain) == (None, "allow")
    tls.load(TlsSettings(*write_certificate(tmp_path), "refuse"))
    assert tls.context is not None
    tls.load(None)
    assert (tls.context, tls.plain) == (None, "allow")
    with pytest.raises(ConfigError, match=r"tls.client_ca: .* does not hold certificates"):
        tls.load(TlsSettings(*write_certificate(tmp_path), client_ca=tmp_path / "key.pem"))
    with pytest.raises(ConfigError, match=r"tls.ca: .* cannot be read"):
        TlsCaller(TlsSettings(*write_certificate(tmp_path), ca=tmp_path / "none.pem"))


def paths_of(files: dict[str, str]) -> dict[str, Path]:
    return {name: Path(path) for name, path in files.items()}


class _Deaf:
    """A Stream whose peer sends much, and receives nothing."""

    peer = "192.0.2.1:5"

    def __init__(self) -> None:
        self._left = 1000

    def receive_nowait(self, size: int) -> bytes | None:
        self._left -= 1
        return bytes(size) if self._left else None

    def send_nowait(self, data: object) -> int:
        return 0


class _Answering:
    """In place of OpenSSL: it answers all that it is given, as it does each KeyUpdate, and finds no plain bytes."""

    def __init__(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    def read(self, *_: object) -> bytes:
        self._outgoing.write(self._incoming.read())
        raise ssl.SSLWantReadError


@pytest.mark.parametrize("into", [False, True])
def test_a_peer_that_never_receives_the_answers_of_tls_is_left(
    into: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Tls(TlsSettings(*write_certificate(tmp_path))).context
    assert context is not None
    stream = TlsStream(cast("Stream", _Deaf()), context)
    monkeypatch.setattr(stream, "_tls", _Answering(stream._incoming, stream._outgoing))
    with pytest.raises(ConnectionLost, match="receives none of"):
        stream.receive_into_nowait(memoryview(bytearray(100))) if into else stream.receive_nowait(100)
    assert len(stream._unsent) <= UNSENT_BYTES_MAX + RECEIVE_BYTES_MAX
