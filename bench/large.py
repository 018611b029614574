"""Large bodies by the thinnest client there is: sends from one buffer, receives without copying (MSG_TRUNC)."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

BUFFER_SIZE = 8 * 1024 * 1024
UNIT_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class LargeLoad:
    """Bytes a second of all clients together, and the clients' CPU seconds a GiB."""

    rate: float
    client_cpu: float


def put(port: int, path: str, size: int, *, policy: int = os.SCHED_OTHER) -> LargeLoad:
    """One client; the body is noise with a number in each 64 KiB, so that no chunk of it was ever seen before."""

    def send() -> None:
        noise = bytearray(os.urandom(BUFFER_SIZE))
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(f"PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n".encode())
            for start in range(0, size, BUFFER_SIZE):
                for unit in range(0, BUFFER_SIZE, UNIT_SIZE):
                    noise[unit : unit + 8] = (start + unit).to_bytes(8, "big")
                connection.sendall(memoryview(noise)[: size - start])
            answer = connection.recv(65536)
        assert answer.startswith((b"HTTP/1.1 201", b"HTTP/1.1 200")), answer[:300]

    return _measure([send], size, policy)


def get(port: int, path: str, size: int, *, clients: int = 1, policy: int = os.SCHED_OTHER) -> LargeLoad:
    """Each client fetches the whole of it once."""

    def receive() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            left = size - len(_read_head(connection, size))
            sink = bytearray(1024 * 1024)
            while left:
                got = connection.recv_into(sink, min(left, len(sink)), socket.MSG_TRUNC)
                assert got, f"{left} bytes are missing"
                left -= got

    return _measure([receive] * clients, size * clients, policy)


def _measure(clients: list[Callable[[], None]], size: int, policy: int) -> LargeLoad:
    spent: list[float] = []

    def run(client: Callable[[], None]) -> None:
        os.sched_setscheduler(0, policy, os.sched_param(0))  # of this thread alone
        before = time.thread_time()
        client()
        spent.append(time.thread_time() - before)

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    assert len(spent) == len(clients), "a client failed"
    return LargeLoad(size / seconds, sum(spent) / (size / 2**30))


def _read_head(connection: socket.socket, size: int) -> bytes:
    """Reads the head of a 200 that promises ``size`` bytes; returns what came of the body with it."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(16384)
        assert more, received[:300]
        received += more
    head, _, rest = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b" 200 " in lines[0], head
    assert b"content-length: %d" % size in lines, head
    return rest
