"""The limits of the machine: its disk without a file system's cache, and its loopback."""

from __future__ import annotations

import mmap
import os
import socket
import statistics
import threading
import time
from pathlib import Path

BUFFER_SIZE = 8 * 1024 * 1024


def disk_write_rate(directory: Path, size: int) -> float:
    """Bytes a second: one large file with O_DIRECT, then fdatasync."""
    path = directory / "raw"
    flags = os.O_CREAT | os.O_WRONLY
    try:
        descriptor = os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError:  # a file system without it, such as tmpfs
        descriptor = os.open(path, flags, 0o600)
    buffer = mmap.mmap(-1, BUFFER_SIZE)
    buffer[:] = os.urandom(BUFFER_SIZE)
    try:
        os.posix_fallocate(descriptor, 0, size)
        os.fdatasync(descriptor)
        started = time.perf_counter()
        for _ in range(0, size, BUFFER_SIZE):
            os.write(descriptor, buffer)
        os.fdatasync(descriptor)
        return size / (time.perf_counter() - started)
    finally:
        os.close(descriptor)
        path.unlink()


def disk_sync_times(directory: Path, seconds: float) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds, of appending 4 KiB and fdatasync."""
    path = directory / "appended"
    block = os.urandom(4096)
    times = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            times.append((time.perf_counter() - started) * 1e3)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def loopback_rate(size: int) -> float:
    """Bytes a second from one thread's send to another's receive without a copy."""
    ours, theirs = _tcp_pair()
    data = memoryview(os.urandom(1024 * 1024))

    def send() -> None:
        for _ in range(0, size, len(data)):
            ours.sendall(data)
        ours.close()

    thread = threading.Thread(target=send)
    sink = bytearray(1024 * 1024)
    started = time.perf_counter()
    thread.start()
    while theirs.recv_into(sink, len(sink), socket.MSG_TRUNC):
        pass
    thread.join()
    theirs.close()
    return size / (time.perf_counter() - started)


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return ours, theirs
