"""What a request says of an upload in parts: parsed, or refused in S3's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.api.s3.errors import S3Error, code_of, status_of
from flared.api.s3.multipart import (
    BODY_BYTES_MAX,
    chosen_checksum,
    parse_copy_range,
    parse_parts,
    parse_promise,
    parse_upload,
)
from flared.api.s3.objects import parse_part_number
from flared.api.s3.xml import MalformedXml
from flared.catalog.uploads import PART_NUMBER_MAX
from flared.errors import BadPart, BadPartOrder, FlareError, NoSuchUpload, PartTooSmall
from flared.objects.complete_upload import NamedPart, Promise

DIGEST = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="


def completion(parts: list[NamedPart]) -> bytes:
    listed = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{part.etag}&quot;</ETag>"
        + (f"<ChecksumSHA256>{part.checksum}</ChecksumSHA256>" if part.checksum else "")
        + "</Part>"
        for part in parts
    )
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()


etags = st.text("0123456789abcdef", max_size=32)
named_parts = st.lists(
    st.builds(NamedPart, st.integers(0, 99999), etags, st.sampled_from(["", DIGEST])), min_size=1, max_size=9
)


@given(named_parts)
def test_parts_are_parsed_as_they_are_named(parts: list[NamedPart]) -> None:
    assert parse_parts(completion(parts)) == parts


def test_ten_thousand_parts_are_parsed() -> None:
    parts = [NamedPart(number, "0" * 32, DIGEST) for number in range(1, PART_NUMBER_MAX + 1)]
    body = completion(parts)
    assert len(body) < BODY_BYTES_MAX
    assert parse_parts(body) == parts
    with pytest.raises(MalformedXml):
        parse_parts(completion([*parts, parts[0]]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<CompleteMultipartUpload/>",
        b"<Other><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></Other>",
        b"<CompleteMultipartUpload><Part><ETag>x</ETag></Part></CompleteMultipartUpload>",
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>",
        b"<CompleteMultipartUpload><Part><PartNumber>-1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>",
        "<CompleteMultipartUpload><Part><PartNumber>²</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>".encode(),
        b"<CompleteMultipartUpload><Part><PartNumber>1234567890</PartNumber><ETag/></Part></CompleteMultipartUpload>",
    ],
)
def test_what_names_no_parts_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedXml):
        parse_parts(body)


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_malformed(body: bytes) -> None:
    with pytest.raises(MalformedXml):
        parse_parts(body)


def refused(error: type[FlareError], parse: object, *arguments: object) -> str:
    with pytest.raises(error) as caught:
        parse(*arguments)  # type: ignore[operator]
    return code_of(caught.value)


def test_ids_and_numbers_have_one_form() -> None:
    assert parse_upload({"uploadId": "0" * 32}) == "0" * 32
    for wrong in ("", "x" * 32, "0" * 31, "A" * 32, "0" * 33, "../" + "0" * 29):
        assert refused(NoSuchUpload, parse_upload, {"uploadId": wrong}) == "NoSuchUpload"
    assert [parse_part_number(text) for text in ("1", "007", "10000")] == [1, 7, 10_000]
    for wrong in ("", "0", "10001", "-1", "1.0", "²", "000001", "x"):
        assert refused(S3Error, parse_part_number, wrong) == "InvalidArgument"


def test_a_range_to_copy_has_both_ends() -> None:
    assert parse_copy_range({}) is None
    assert parse_copy_range({"x-amz-copy-source-range": "bytes=0-5"}) == (0, 5)
    for wrong in ("0-5", "bytes=-5", "bytes=5-", "bytes=5-4", "bytes=0-1,3-4", "", "bytes=0-" + "9" * 40):
        assert refused(S3Error, parse_copy_range, {"x-amz-copy-source-range": wrong}) == "InvalidArgument"


@pytest.mark.parametrize(
    ("algorithm", "kind", "chosen"),
    [
        (None, None, ("", False)),
        ("CRC32", None, ("crc32", False)),
        ("CRC32C", "FULL_OBJECT", ("crc32c", True)),
        ("CRC64NVME", None, ("crc64nvme", True)),
        ("CRC64NVME", "FULL_OBJECT", ("crc64nvme", True)),
        ("SHA1", "COMPOSITE", ("sha1", False)),
        ("SHA256", None, ("sha256", False)),
        ("SHA256", "FULL_OBJECT", None),
        ("CRC64NVME", "COMPOSITE", None),
        ("CRC32", "OTHER", None),
        ("MD5", None, None),
        (None, "FULL_OBJECT", None),
    ],
)
def test_checksums_are_chosen_as_s3_has_them(
    algorithm: str | None, kind: str | None, chosen: tuple[str, bool] | None
) -> None:
    said = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
    fields = {name: value for name, value in said.items() if value is not None}
    if chosen is None:
        assert refused(S3Error, chosen_checksum, fields) == "InvalidRequest"
    else:
        assert chosen_checksum(fields) == chosen


def test_what_is_promised_of_the_object() -> None:
    assert parse_promise({}) == Promise()
    fields = {"x-amz-checksum-crc32": "AAAA", "x-amz-checksum-type": "FULL_OBJECT", "x-amz-mp-object-size": "5"}
    assert parse_promise(fields) == Promise("crc32", "AAAA", True, 5)
    for wrong in ({"x-amz-mp-object-size": "-5"}, {"x-amz-checksum-crc32": "A", "x-amz-checksum-sha1": "A"}):
        assert refused(S3Error, parse_promise, wrong) == "InvalidRequest"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NoSuchUpload("x"), 404, "NoSuchUpload"),
        (BadPart("x"), 400, "InvalidPart"),
        (BadPartOrder("x"), 400, "InvalidPartOrder"),
        (PartTooSmall("x"), 400, "EntityTooSmall"),
    ],
)
def test_errors_are_in_the_words_of_s3(error: FlareError, status: int, code: str) -> None:
    assert (status_of(error), code_of(error)) == (status, code)
