"""Aborted downloads: clients ask for a large compressible object, read 70 kB and close, again and again.

    python -m tests.hostile.aborted_downloads --downloads 300 --clients 16

The api node runs without the garbage collector: what exceptions refer to must not be what is left to it.
"""

from __future__ import annotations

import argparse
import os
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tests.support.client import Client, object_path
from tests.support.daemons import API, Cluster, private_bytes, running
from tests.support.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024 * 1024
OBJECT_SIZE = 64 * MIB
READ_SIZE = 70_000

WITHOUT_COLLECTOR = "import gc\ngc.disable()\n"

OLD_CODEC = """
import flared.chunks.codec
flared.chunks.codec.FRAME_SIZE = 1 << 30
"""
"""Has an api node write compressed chunks as a whole, as it did before there were frames."""


class Memory(NamedTuple):
    """Private bytes of the api node."""

    before: int
    after: int
    after_at_once: int
    """After the same by all clients at once."""


@contextmanager
def customized(directory: Path, code: str) -> Iterator[None]:
    """Processes started inside run ``code`` first."""
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(code)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(directory), before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def text(size: int) -> Iterator[bytes]:
    """About 2.5 to 1 with LZ4, in parts of 1 MiB."""
    part = b"".join(b"%d: %s, and so on and so forth\n" % (n, os.urandom(8).hex().encode()) for n in range(24_000))
    part = part[:MIB]
    for _ in range(size // MIB):
        yield part


def abort_downloads(port: int, key: str, count: int) -> None:
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(f"GET {object_path(key)} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
            left = READ_SIZE
            while left > 0 and (data := connection.recv(left)):
                left -= len(data)


def attack(cluster: Cluster, downloads: int, clients: int) -> Memory:
    """The cluster runs; it gets an object, and is left running."""
    daemon = cluster.daemons[API]
    Client(daemon.port).put("text", text(OBJECT_SIZE), fields={"content-length": str(OBJECT_SIZE)})
    abort_downloads(daemon.port, "text", 5)  # so that what is kept for reuse is there
    before = private_bytes(daemon.pid)
    abort_downloads(daemon.port, "text", downloads)
    after = private_bytes(daemon.pid)
    threads = [
        threading.Thread(target=abort_downloads, args=(daemon.port, "text", max(1, downloads // clients)))
        for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Memory(before, after, private_bytes(daemon.pid))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--downloads", type=int, default=300)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--collector", action="store_true", help="leave the garbage collector on")
    arguments = parser.parse_args()
    code = "" if arguments.collector else WITHOUT_COLLECTOR
    with scratch_directory() as directory:
        for name, codec in (("lz4-blocks", ""), ("lz4 as of old", OLD_CODEC)):
            with customized(directory / "site", code + codec), running(Cluster(directory / name)) as cluster:
                memory = attack(cluster, arguments.downloads, arguments.clients)
            print(
                f"{name}: {memory.before / MIB:.0f} MiB before, {memory.after / MIB:.0f} after {arguments.downloads} "
                f"aborted downloads, {memory.after_at_once / MIB:.0f} after as many by {arguments.clients} at once"
            )


if __name__ == "__main__":
    main()
