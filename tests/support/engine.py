"""The data engine in tests: pieces to store, and volumes that run for the length of a block."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from flared.background import Threads
from flared.data.pieces import LARGE_SIZE, Piece, describe_piece
from flared.data.volume.open import open_volumes
from flared.data.volume.values import DataSettings
from flared.data.volume.volumes import Volumes
from flared.errors import FlareError
from flared.http.turns import open_turns
from tests.support.lanes import InlineLane
from tests.support.threads import InlineThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from flared.data.disk.disk import Disk
    from flared.http.turns import Turns

MIB = 1 << 20


def piece_of(name: str, payload: bytes) -> Piece:
    return describe_piece(name, payload, codec=0, scheme="replica:1", plain_size=len(payload))


def payload_of(name: str, size: int) -> bytes:
    """Bytes that follow from the name, so that a test can tell whose they are."""
    return random.Random(name).randbytes(size)


def settings_for(*volumes: str, segment_size: int = MIB, reserve: int = MIB, buffers: int = 8 * MIB) -> DataSettings:
    return DataSettings("data1", volumes, segment_size, reserve, buffer_bytes=buffers)


@asynccontextmanager
async def running(disk: Disk, settings: DataSettings, *, threads: Threads | None = None) -> AsyncIterator[Volumes]:
    """Volumes that serve; ready when the block begins, stopped in order when it ends."""
    async with open_turns() as turns:
        volumes = await open_inline(turns, disk, settings, threads=threads)
        async with trio.open_nursery() as nursery:
            await nursery.start(volumes.run)
            await volumes.wait_ready()
            yield volumes
            nursery.cancel_scope.cancel()


async def open_inline(
    turns: Turns, disk: Disk, settings: DataSettings, *, threads: Threads | None = None, seed: object = ""
) -> Volumes:
    """Volumes without threads, for virtual clocks; run them."""
    bits = random.Random(f"{' '.join(settings.volumes)}{seed}")
    return await open_volumes(
        settings, turns, disk=disk, threads=threads or InlineThreads(), make_lane=InlineLane, random_bits=bits
    )


async def put(volumes: Volumes, name: str, payload: bytes) -> bool:
    """Store one piece of any size; raises what refused it."""
    piece = piece_of(name, payload)
    if len(payload) < LARGE_SIZE:
        (answer,) = await volumes.put_many([(piece, payload)])
        if isinstance(answer, FlareError):
            raise answer
        return answer
    async with volumes.buffers.lease(len(payload)) as buffer:
        buffer.payload[: len(payload)] = payload
        return await volumes.put_large(piece, buffer)


async def get(volumes: Volumes, name: str, *, verify: bool = True) -> bytes:
    """One piece, whole; raises what refused it."""
    with await volumes.open(name) as opened:
        buffer = memoryview(bytearray(opened.piece.size))
        assert await opened.read_into(0, buffer, verify=verify) == opened.piece.size
        return bytes(buffer)


async def delete(volumes: Volumes, names: Sequence[str]) -> list[bool]:
    answers = []
    for answer in await volumes.delete_many(names):
        if isinstance(answer, FlareError):
            raise answer
        answers.append(answer)
    return answers


async def names_of(volumes: Volumes) -> list[str]:
    return [name for name, _ in await volumes.list("", 100_000)]
