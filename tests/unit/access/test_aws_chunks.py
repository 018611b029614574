"""Bodies in signed chunks, by the examples that AWS has published; altered, moved or left out they are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.access.aws_chunks import ChunkDecoder, ChunkSeal, Wants, decoded_length
from flared.access.sigv4_canonical import signing_key
from flared.errors import FlareError

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SCOPE = "20130524/us-east-1/s3/aws4_request"
KEY = signing_key(SECRET, "20130524", "us-east-1")


def seal(seed: str) -> ChunkSeal:
    return ChunkSeal(KEY, "20130524T000000Z", SCOPE, seed)


def chunk(data: bytes, signature: str) -> bytes:
    return b"%x;chunk-signature=%s\r\n%s\r\n" % (len(data), signature.encode(), data)


# S3 API reference, "Signature calculations for the authorization header: transferring payload in multiple chunks".
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
DATA = [b"a" * 65536, b"a" * 1024]
SIGNED = [
    chunk(DATA[0], "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    chunk(DATA[1], "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    b"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n",
]
# "… with trailing headers".
TRAILER_SEED = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
WITH_TRAILER = [
    chunk(DATA[0], "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
    chunk(DATA[1], "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
    b"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n",
    b"x-amz-checksum-crc32c:sOO8/Q==\r\n",
    b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
]


def decode(decoder: ChunkDecoder, body: bytes, *, step: int = 1 << 20) -> tuple[bytes, bool]:
    """Return the data, and whether the body came to its end."""
    data = bytearray()
    while decoder.wants is not Wants.NOTHING:
        if decoder.wants is Wants.LINE:
            line, found, rest = body.partition(b"\r\n")
            if not found:
                return bytes(data), False
            decoder.take_line(line)
            body = rest
        else:
            part = body[: min(step, decoder.left)]
            if not part:
                return bytes(data), False
            decoder.take_data(part)
            data += part
            body = body[len(part) :]
    assert not body
    return bytes(data), True


def check_refused(parts: list[bytes], seed: str, *, trailers: bool) -> None:
    decoder = ChunkDecoder(seal(seed), trailers=trailers)
    try:
        _, ended = decode(decoder, b"".join(parts))
    except (FlareError, AssertionError):
        return
    assert not ended


@pytest.mark.parametrize("step", [1 << 20, 1000, 65536])
def test_published_examples(step: int) -> None:
    assert decode(ChunkDecoder(seal(SEED), trailers=False), b"".join(SIGNED), step=step) == (b"".join(DATA), True)
    decoder = ChunkDecoder(seal(TRAILER_SEED), trailers=True)
    assert decode(decoder, b"".join(WITH_TRAILER), step=step) == (b"".join(DATA), True)
    assert decoder.trailers == {"x-amz-checksum-crc32c": "sOO8/Q=="}
    assert decoder.size == 66560


@pytest.mark.parametrize(("parts", "first", "trailers"), [(SIGNED, SEED, False), (WITH_TRAILER, TRAILER_SEED, True)])
def test_what_is_altered_moved_or_left_out_is_refused(parts: list[bytes], first: str, trailers: bool) -> None:
    for number in range(len(parts)):
        check_refused([*parts[:number], *parts[number + 1 :]], first, trailers=trailers)
        check_refused([*parts[:number], parts[number], *parts[number:]], first, trailers=trailers)
        for place in (3, 25, len(parts[number]) - 5):
            altered = bytearray(parts[number])
            altered[place] ^= 1
            check_refused([*parts[:number], bytes(altered), *parts[number + 1 :]], first, trailers=trailers)
    check_refused([parts[1], parts[0], *parts[2:]], first, trailers=trailers)
    check_refused(parts, "0" * 64, trailers=trailers)
    check_refused(parts, first, trailers=not trailers)


def test_unsigned_chunks_with_a_trailer() -> None:
    body = b"3\r\nabc\r\n2;\r\nde\r\n0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n".replace(b";", b"")
    decoder = ChunkDecoder(None, trailers=True)
    assert decode(decoder, body) == (b"abcde", True)
    assert decoder.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}
    assert decode(ChunkDecoder(None, trailers=True), b"0\r\n\r\n") == (b"", True)


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n", b"\r\n", b"-1\r\n", b"3 \r\nabcd\r\n", b"3\r\nabc\r\n0\r\nbad line\r\n\r\n", b"1" * 17 + b"\r\n",
        b"3;chunk-signature=" + b"0" * 64 + b"\r\nabc\r\n0\r\n\r\n", b"0\r\na:1\r\na:2\r\n\r\n", b"fffffffffffffff\r\n",
        b"0\r\n" + b"a:1\r\n" * 2000, b"0\r\nx-amz-trailer-signature:0\r\na:1\r\n\r\n",
        b"0\r\n" + b"".join(b"a%d:%s\r\n" % (number, b"x" * 900) for number in range(20)) + b"\r\n",
    ],
)  # fmt: skip
def test_what_is_not_aws_chunked_is_refused(body: bytes) -> None:
    with pytest.raises(FlareError):
        decode(ChunkDecoder(None, trailers=True), body)


@given(st.binary(max_size=100))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    for decoder in (ChunkDecoder(None, trailers=True), ChunkDecoder(seal(SEED), trailers=False)):
        try:
            decode(decoder, body)
        except (FlareError, AssertionError):
            continue
        assert decoder.size <= len(body)


def test_the_length_of_the_data() -> None:
    assert decoded_length({"x-amz-decoded-content-length": "12"}) == 12
    for text in ("", "-1", "1.5", "x", "9" * 19):
        assert decoded_length({"x-amz-decoded-content-length": text}) is None
    assert decoded_length({}) is None
