"""Chunk: the record of a stored chunk, and the handles that the pipeline works with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import trio

    from flared.background import Threads
    from flared.chunks.budget import MemoryBudget
    from flared.chunks.damage import DamageList
    from flared.chunks.delays import Delay
    from flared.chunks.inflight import InFlight
    from flared.chunks.nodes import Nodes
    from flared.chunks.recent import RecentChunks
    from flared.chunks.spill import Spills
    from flared.http.turns import Turns
    from flared.names import ChunkId, NodeName

CHUNK_SIZE_DEFAULT = 8 * 1024 * 1024
CHUNK_SIZE_MIN = 64 * 1024
CHUNK_SIZE_MAX = 64 * 1024 * 1024

INLINE_DIGEST_MAX = 64 * 1024
"""Up to here hashing stays on the event loop (40 us); a hop to a thread costs 60 us."""


class PlacedChunk(Protocol):
    """The part of a chunk's record that reading it needs."""

    @property
    def id(self) -> ChunkId: ...
    @property
    def size(self) -> int: ...
    @property
    def stored(self) -> int: ...
    @property
    def codec(self) -> int: ...
    @property
    def scheme(self) -> str: ...
    @property
    def nodes(self) -> tuple[NodeName | None, ...]: ...
    @property
    def missing(self) -> tuple[int, ...]: ...


class ChunkRecord(NamedTuple):
    """A chunk whose pieces were durable on at least the write quorum: as it is recorded (``catalog.chunks``), or as it
    was stored just now and is to be."""

    id: ChunkId
    size: int
    """Plain bytes."""
    stored: int
    """Bytes after the codec, before the scheme."""
    codec: int
    """As in ``data.pieces``."""
    scheme: str
    references: int
    """One, its creator's, before it is recorded."""
    nodes: tuple[NodeName | None, ...]
    """The node that holds each piece, by piece number, or should hold it; None: no node yet."""
    missing: tuple[int, ...] = ()
    """Piece numbers that are known not to be where ``nodes`` says; every None is one of them."""
    due_ms: int = 0
    """When the garbage item of a chunk without references is due; 0 while there are references."""

    @property
    def pieces(self) -> tuple[tuple[int, NodeName], ...]:
        """Every piece that a node may hold, missing or not."""
        return placed_pieces(self.nodes)


def placed_pieces(nodes: Sequence[NodeName | None]) -> tuple[tuple[int, NodeName], ...]:
    """(piece number, node) of every piece that a node may hold."""
    return tuple((number, node) for number, node in enumerate(nodes) if node is not None)


@dataclass(frozen=True, slots=True)
class Chunks:
    """The handles of the chunk pipeline."""

    nodes: Nodes
    budget: MemoryBudget
    stages: MemoryBudget
    """The memory that uploads may hold before they have a lease; see ``chunker``."""
    units: MemoryBudget
    """The buffers that downloads read into. Apart from the leases, so that slow readers cannot keep writers waiting."""
    blocks: MemoryBudget
    """The buffer for verifying when a reader got no unit; never held while waiting for a client."""
    spills: Spills
    """Where the bytes of the slow go whose memory others want."""
    rereads: trio.Semaphore
    """How many slow readers may read a whole chunk at once."""
    damage: DamageList
    in_flight: InFlight
    recent: RecentChunks
    turns: Turns
    """Where what waits for nodes goes on."""
    stragglers: Delay
    """Puts whose quorum is durable, and whose last pieces have a little time left."""
    hedges: Delay
    """Small reads whose node has a little time left before another one is asked."""
    prefetches: trio.Semaphore
    """How many streams may be asked for ahead of their turn, over all readers: tried, never waited for, because the
    holder keeps another connection meanwhile."""
    threads: Threads
    now: Callable[[], float]
    """The wall clock, seconds since the epoch: what the ids of chunks begin with."""
    random_bits: Callable[[int], int]
    """``random.getrandbits`` of a source that is seeded by the operating system, or by a test."""


async def digest_of(threads: Threads, plain: bytes | memoryview) -> bytes:
    """SHA-256 of a chunk: the digest that names it."""
    if len(plain) <= INLINE_DIGEST_MAX:
        return hashlib.sha256(plain).digest()
    return await threads.run(_sha256, plain)


def _sha256(plain: bytes | memoryview) -> bytes:
    return hashlib.sha256(plain).digest()
