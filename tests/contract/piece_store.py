"""The contract of a store of pieces. ``test_piece_store.py`` runs this on the real disk and on the fake."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from flared.data.disk.disk import Disk
from flared.data.pieces import BLOCK_SIZE, LARGE_SIZE, PIECE_SIZE_MAX, Piece
from flared.data.volume.volumes import Volumes
from flared.errors import BadDigest, Busy, ConfigError, NoSuchPiece, TooLarge
from tests.support.engine import delete, get, names_of, payload_of, piece_of, put, running, settings_for

SIZES = [0, 1, 7, 8, 4096, LARGE_SIZE - 1, LARGE_SIZE, LARGE_SIZE + 1, BLOCK_SIZE, BLOCK_SIZE + 1, 1_000_000]


class PieceStoreContract:
    """Fixtures: ``disk``, ``root`` (an empty directory on it), ``threads``."""

    @pytest.fixture
    async def store(self, disk: Disk, root: str) -> AsyncIterator[Volumes]:
        async with running(disk, settings_for(f"{root}/v1")) as volumes:
            yield volumes

    @pytest.mark.parametrize("size", SIZES)
    async def test_what_was_put_is_read_also_after_a_restart(self, disk: Disk, root: str, size: int) -> None:
        payload = payload_of("a", size)
        async with running(disk, settings_for(f"{root}/v1")) as store:
            assert await put(store, "a", payload)
            assert not await put(store, "a", payload)
            assert await get(store, "a") == payload
        async with running(disk, settings_for(f"{root}/v1")) as store:
            assert not await put(store, "a", payload)
            assert await get(store, "a") == await get(store, "a", verify=False) == payload
            assert await store.head("a") == piece_of("a", payload)
            assert await store.list("", 10) == [("a", size)]

    async def test_everything_about_a_piece_is_kept(self, store: Volumes) -> None:
        payload = b"x" * 100
        plain = piece_of("n" * 200, payload)
        piece = Piece(plain.name, 1, "rs:10+4-abcdefg", 1 << 40, 100, plain.checksum, plain.blocks)
        assert await store.put_many([(piece, payload)]) == [True]
        assert await store.read_many([piece.name]) == [(piece, payload)]

    async def test_many_at_once_are_answered_in_order(self, store: Volumes) -> None:
        items = [(piece_of(f"p{n}", payload_of(f"p{n}", n * 37)), payload_of(f"p{n}", n * 37)) for n in range(300)]
        assert await store.put_many(items) == [True] * 300
        assert await store.put_many(items[::-1]) == [False] * 300
        assert await store.read_many([f"p{n}" for n in range(300)]) == items
        found = await store.read_many(["p1", "no", "p2"])
        assert isinstance(found[1], NoSuchPiece)
        assert [found[0], found[2]] == items[1:3]

    async def test_a_payload_that_is_not_the_pieces_is_refused_alone(self, store: Volumes) -> None:
        good, bad = piece_of("good", b"good"), piece_of("bad", b"good")
        wrong_blocks = Piece("blocks", 0, "replica:1", 4, 4, good.checksum, bytes(8))
        answers = await store.put_many([(bad, b"evil"), (good, b"good"), (bad, b"short"), (wrong_blocks, b"good")])
        assert [type(answer) for answer in answers] == [BadDigest, bool, BadDigest, BadDigest]
        assert await names_of(store) == ["good"]
        with pytest.raises(BadDigest):
            async with store.buffers.lease(LARGE_SIZE) as buffer:
                await store.put_large(piece_of("large", bytes(LARGE_SIZE)), _spoilt(buffer.payload))  # type: ignore[arg-type]

    async def test_one_name_put_by_many_is_stored_once(self, store: Volumes) -> None:
        answers: list[bool] = []

        async def put_one(size: int) -> None:
            answers.append(await put(store, f"n{size}", payload_of("n", size)))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(put_one, 10)
                nursery.start_soon(put_one, LARGE_SIZE)
        assert sorted(answers) == [False] * 18 + [True] * 2
        piece = piece_of("twice", b"2")
        assert await store.put_many([(piece, b"2"), (piece, b"2")]) == [True, False]
        assert store.status().pieces == 3

    async def test_a_deleted_piece_is_gone_for_good(self, disk: Disk, root: str) -> None:
        async with running(disk, settings_for(f"{root}/v1")) as store:
            for name, size in (("a", 10), ("b", LARGE_SIZE), ("c", 10)):
                await put(store, name, payload_of(name, size))
            assert await delete(store, ["a", "b", "none", "a"]) == [True, True, False, False]
            with pytest.raises(NoSuchPiece):
                await store.open("b")
        async with running(disk, settings_for(f"{root}/v1")) as store:
            assert await names_of(store) == ["c"]
            assert await delete(store, ["a", "b"]) == [False, False]
            assert await put(store, "a", b"again")
            assert await get(store, "a") == b"again"

    async def test_put_and_delete_of_one_name_in_turns(self, disk: Disk, root: str) -> None:
        async with running(disk, settings_for(f"{root}/v1")) as store:
            for turn in range(5):
                assert await put(store, "a", payload_of(f"{turn}", turn * LARGE_SIZE))
                assert await delete(store, ["a"]) == [True]
            assert await put(store, "a", b"last")
            assert store.status().pieces == 1
        async with running(disk, settings_for(f"{root}/v1")) as store:
            assert await get(store, "a") == b"last"
            assert store.status().pieces == 1

    async def test_the_inventory_is_paged_in_name_order(self, store: Volumes) -> None:
        names = sorted(f"{n * 7919 % 1000:03}.{n}" for n in range(250))
        await store.put_many([(piece_of(name, b"x"), b"x") for name in names])
        await delete(store, names[10:20])
        left = names[:10] + names[20:]
        seen, after = [], ""
        while page := await store.list(after, 7):
            seen += [name for name, _ in page]
            after = seen[-1]
        assert seen == left

    async def test_ranges_of_a_large_piece(self, store: Volumes) -> None:
        payload = payload_of("r", 3 * BLOCK_SIZE + 5)
        await put(store, "r", payload)
        with await store.open("r") as opened:
            for offset, count in ((0, 1), (BLOCK_SIZE - 1, 2), (5, 2 * BLOCK_SIZE), (3 * BLOCK_SIZE, 99), (10**9, 1)):
                for verify in (False, True):
                    buffer = memoryview(bytearray(count))
                    got = await opened.read_into(offset, buffer, verify=verify)
                    assert bytes(buffer[:got]) == payload[offset : offset + count]

    async def test_large_pieces_are_opened_not_read_whole(self, store: Volumes) -> None:
        await put(store, "l", bytes(LARGE_SIZE))
        (answer,) = await store.read_many(["l"])
        assert isinstance(answer, TooLarge)

    async def test_a_reader_keeps_its_piece_while_segments_come_and_go(self, store: Volumes) -> None:
        payload = payload_of("s", 10_000)
        await put(store, "s", payload)
        with await store.open("s") as opened:
            await delete(store, ["s"])
            buffer = memoryview(bytearray(10_000))
            assert await opened.read_into(0, buffer) == 10_000
            assert buffer == payload

    async def test_buffers_are_bounded(self, store: Volumes) -> None:
        with pytest.raises(TooLarge):
            async with store.buffers.lease(PIECE_SIZE_MAX):
                pass
        async with store.buffers.lease(6 << 20), trio.open_nursery() as nursery:
            nursery.start_soon(_lease, store, 4 << 20)
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            assert store.buffers.leased_bytes == 6 << 20
            nursery.cancel_scope.cancel()
        async with store.buffers.lease(8 << 20) as buffer:
            assert len(buffer.payload) >= 8 << 20

    async def test_a_held_volume_is_refused(self, disk: Disk, root: str, store: Volumes) -> None:
        with pytest.raises(Busy, match="pid"):
            async with running(disk, settings_for(f"{root}/v1")):
                pass

    async def test_a_volume_of_another_node_or_cluster_is_refused(self, disk: Disk, root: str) -> None:
        async with running(disk, settings_for(f"{root}/v1")) as store:
            store.set_cluster("one")
            store.set_cluster("one")
            with pytest.raises(ConfigError, match="cluster one"):
                store.set_cluster("other")
        async with running(disk, settings_for(f"{root}/v1")) as store:
            assert store.cluster == "one"


async def _lease(store: Volumes, size: int) -> None:
    async with store.buffers.lease(size):
        pass


def _spoilt(payload: memoryview) -> object:
    class Spoilt:
        def __init__(self) -> None:
            payload[:] = b"\1" * len(payload)
            self.payload = payload

    return Spoilt()
