"""Writers that put, overwrite and delete without rest, and tell a ledger what they asked and what was acknowledged."""

from __future__ import annotations

import threading
from random import Random
from typing import TYPE_CHECKING

from tests.support.bodies import body, digest
from tests.support.client import NO_ANSWER, Client

if TYPE_CHECKING:
    from tests.support.daemons import Cluster
    from tests.support.ledger import Ledger

CHUNK_SIZE = 256 * 1024
"""The chunk size of clusters under this load, so that small bodies already have several chunks."""

KEYS_PER_WRITER = 24
DELETES = 0.15


class Load:
    """``writers`` threads, each with keys of its own; ``start`` and ``stop`` as often as wanted."""

    def __init__(self, cluster: Cluster, ledger: Ledger, seed: int, *, writers: int = 8) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._randoms = [Random(f"{seed}/{number}") for number in range(writers)]
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._complaints: list[str] = []

    def start(self) -> None:
        self._stop.clear()
        self._threads = [
            threading.Thread(target=self._write, args=(number, random), daemon=True)
            for number, random in enumerate(self._randoms)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Return when every writer has had its last answer, or lost its connection."""
        self._stop.set()
        for thread in self._threads:
            thread.join(90)
            assert not thread.is_alive(), "a request hangs: no answer and no error for 90 s"
        assert not self._complaints, "\n".join(self._complaints)

    def _write(self, number: int, random: Random) -> None:
        client = self._cluster.client(timeout=80)
        try:
            while not self._stop.is_set():
                key = f"writer {number}/key-{random.randrange(KEYS_PER_WRITER)}"
                try:
                    self._write_once(client, key, random)
                except NO_ANSWER:
                    self._ledger.unknown(key)
                    self._stop.wait(0.02)
        except Exception as error:
            self._complaints.append(f"writer {number}: {error!r}")
            raise
        finally:
            client.close()

    def _write_once(self, client: Client, key: str, random: Random) -> None:
        if random.random() < DELETES:
            self._ledger.begin(key, None)
            self._note(key, None, client.delete(key).status, good=(204,))
            return
        content = body(random.getrandbits(64), random_size(random))
        version = digest(content)
        self._ledger.begin(key, version)
        self._note(key, version, client.put(key, content).status, good=(200, 201))

    def _note(self, key: str, version: str | None, status: int, *, good: tuple[int, ...]) -> None:
        if status in good:
            self._ledger.acknowledge(key, version)
        elif status >= 500:
            self._ledger.unknown(key)
            self._stop.wait(0.01)
        else:
            raise AssertionError(f"{key}: a right request was answered {status}")


def random_size(random: Random) -> int:
    """Mostly small; around the limit of packed records; several chunks; now and then nothing at all."""
    kind = random.random()
    if kind < 0.02:
        return 0
    if kind < 0.65:
        return random.randrange(1, 16 * 1024)
    if kind < 0.80:
        return 128 * 1024 + random.randrange(-64, 64)
    if kind < 0.90:
        return random.choice((1, 2, 3)) * CHUNK_SIZE + random.randrange(-1, 2)
    return random.randrange(CHUNK_SIZE, 6 * CHUNK_SIZE)


def complaints_after(cluster: Cluster, ledger: Ledger, keys: list[str]) -> list[str]:
    """Read every key and settle it; one sentence for each that is not what it may be."""
    client = cluster.client()
    complaints = []
    for key in keys:
        try:
            answer = client.get(key)
        except NO_ANSWER as error:
            complaints.append(f"{key}: no whole answer: {error!r}")
            continue
        if answer.status not in (200, 404):
            complaints.append(f"{key}: answered {answer.status} {answer.body[:200]!r}")
            continue
        complaint = ledger.settle(key, digest(answer.body) if answer.status == 200 else None)
        if complaint:
            complaints.append(complaint)
    client.close()
    return complaints
