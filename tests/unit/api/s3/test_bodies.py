"""Bodies that a signature speaks of end only when they are right, however they are read."""

from __future__ import annotations

from hashlib import sha256

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from flared.access.aws_chunks import ChunkDecoder, ChunkSeal
from flared.api.s3.bodies import ChunkedPayload, HashedBody, WrongPayload
from flared.errors import FlareError, TooLarge
from flared.http.messages import Body
from tests.support.s3 import pack_chunks

SEAL = ChunkSeal(b"key", "20260101T000000Z", "scope", "seed")


class Sent(Body):
    """A body that arrives in pieces of these sizes, over and over."""

    def __init__(self, content: bytes, steps: tuple[int, ...] = (1 << 20,), *, stall_at: int = -1) -> None:
        self.length = len(content)
        self._content = content
        self._at = 0
        self._steps = steps
        self._count = 0
        self.stall_at = stall_at
        """Where it waits for good, unless that is changed."""

    async def receive_into(self, buffer: memoryview) -> int:
        if self._at == self.stall_at:
            await trio.sleep_forever()
        step = self._steps[self._count % len(self._steps)]
        self._count += 1
        end = self._at + step if self.stall_at <= self._at else min(self._at + step, self.stall_at)
        part = self._content[self._at : min(end, self._at + len(buffer))]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    @property
    def left(self) -> int:
        return self.length - self._at  # type: ignore[operator]  # it is known


async def read(body: Body, step: int) -> bytes:
    """As a chunker reads: until it has all that was announced."""
    content = bytearray()
    buffer = memoryview(bytearray(step))
    while len(content) < (body.length or 0):
        count = await body.receive_into(buffer)
        if not count:
            break
        content += buffer[:count]
    return bytes(content)


def chunked(
    parts: list[bytes], steps: tuple[int, ...] = (1 << 20,), *, tail: bytes = b"", **options: int
) -> ChunkedPayload:
    packed = pack_chunks(parts, {"x-amz-checksum-crc32": "AAAAAA=="}, SEAL)
    sent = Sent(packed + tail, steps, **options)
    return ChunkedPayload(sent, ChunkDecoder(SEAL, trailers=True), sum(map(len, parts)))


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 60),
)
def test_chunks_come_whole_whatever_the_pieces(parts: list[bytes], steps: list[int], step: int) -> None:
    body = chunked(parts, tuple(steps))
    assert trio.run(read, body, step) == b"".join(parts)
    if parts:
        assert body.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}
        assert body.finished


async def test_the_last_byte_waits_for_what_follows_it() -> None:
    packed = pack_chunks([b"abc"], {"x-amz-checksum-crc32": "AAAAAA=="}, SEAL)
    broken = packed.replace(b"AAAAAA==", b"AAAAAA=A")
    body = ChunkedPayload(Sent(broken), ChunkDecoder(SEAL, trailers=True), 3)
    with pytest.raises(FlareError):
        await read(body, 100)


async def test_an_empty_body_is_read_to_its_end() -> None:
    assert await chunked([]).read_all(0) == b""
    with pytest.raises(FlareError):
        await ChunkedPayload(Sent(b"0\r\n\r\n"), ChunkDecoder(SEAL, trailers=True), 0).read_all(0)


async def test_a_body_longer_or_shorter_than_it_says_is_refused() -> None:
    packed = pack_chunks([b"abc"], {}, None)
    for length in (0, 1, 2, 4):
        with pytest.raises(FlareError):
            await read_to_the_end(ChunkedPayload(Sent(packed), ChunkDecoder(None, trailers=True), length))
    with pytest.raises(FlareError):
        await read(chunked([b"abc"], tail=b"x"), 100)
    with pytest.raises(FlareError):
        await read(ChunkedPayload(Sent(packed[:-2]), ChunkDecoder(None, trailers=True), 3), 100)
    with pytest.raises(TooLarge):
        await chunked([b"abc"]).read_all(2)
    with pytest.raises(FlareError):
        await read(ChunkedPayload(Sent(b"1" * 5000), ChunkDecoder(None, trailers=True), 3), 100)


async def read_to_the_end(body: Body) -> None:
    buffer = memoryview(bytearray(100))
    while await body.receive_into(buffer):
        pass


async def test_no_byte_is_lost_by_a_cancel(autojump_clock: trio.testing.MockClock) -> None:
    """A slow upload is set aside by cancelling its read."""
    parts = [b"abc", b"defgh"]
    whole = len(pack_chunks(parts, {"x-amz-checksum-crc32": "AAAAAA=="}, SEAL))
    for stall in range(whole):
        body = chunked(parts, (7,), stall_at=stall)
        source = body._source
        assert isinstance(source, Sent)
        content = b""
        buffer = memoryview(bytearray(2))
        while len(content) < 8:
            count = 0
            with trio.move_on_after(1):
                count = await body.receive_into(buffer)
            if not count:
                source.stall_at = -1
            content += buffer[:count]
        assert content == b"abcdefgh", stall


async def test_a_digest_that_was_promised() -> None:
    content = b"x" * 1000
    right, wrong = sha256(content).digest(), sha256(b"").digest()
    assert await read(HashedBody(Sent(content, (7, 300)), right), 100) == content
    assert await HashedBody(Sent(content), right).read_all(1000) == content
    with pytest.raises(WrongPayload):
        await read(HashedBody(Sent(content, (7, 300)), wrong), 100)
    with pytest.raises(WrongPayload):
        await HashedBody(Sent(content), wrong).read_all(1000)
