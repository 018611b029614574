from __future__ import annotations

import socket

import pytest
import trio

from flared.http.stream import TcpStream
from flared.workers.dealing import HandedListener, HandedPort, hand_over


async def test_a_connection_that_found_no_descriptor_costs_no_other() -> None:
    """The kernel drops a descriptor that this process has no room for; the message comes without it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = HandedListener(theirs)
    ours.send(b"127.0.0.1:1")
    near, far = socket.socketpair()
    assert hand_over(ours, TcpStream(near, "127.0.0.1:2"))
    stream = await listener.accept()
    assert stream.peer == "127.0.0.1:2"
    far.send(b"hello")
    assert stream.receive_nowait(10) == b"hello"
    stream.close()
    far.close()
    ours.close()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    listener.close()


async def test_connections_of_another_port_go_to_its_own_listener() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    port = HandedPort()
    listener = HandedListener(theirs, {"s3": port})
    ends = [socket.socketpair() for _ in range(3)]
    for number, (near, _) in enumerate(ends):
        assert hand_over(ours, TcpStream(near, f"[::1]:{number}"), "" if number == 2 else "s3")
    first = await listener.accept()
    assert first.peer == "[::1]:2", "what came before it was of the other port"
    others = [await port.accept() for _ in range(2)]
    assert [one.peer for one in others] == ["[::1]:0", "[::1]:1"]
    with trio.move_on_after(0):
        await port.accept()
    port.close()
    with pytest.raises(trio.ClosedResourceError):
        await port.accept()
    for stream in (first, *others):
        stream.close()
    for _, far in ends:
        far.close()
    ours.close()
    listener.close()
