from __future__ import annotations

import socket

import pytest
import trio

from flared.http.stream import TcpStream
from flared.workers.dealing import HandedListener, hand_over


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
