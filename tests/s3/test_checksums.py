"""Checksums by boto3, and bytes that go in by one interface and come out by the other."""

from __future__ import annotations

import base64
import hashlib
import random
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from flared.objects.crc import CRC32C, CRC64NVME, updating
from tests.s3.test_versioning import refused, status_of
from tests.support.daemons import API
from tests.support.flarectl import flarectl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.s3.conftest import Place, S3Client

BODY = random.Random(5).randbytes(300_000)
ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]


def checksum(algorithm: str, data: bytes) -> str:
    digest = {
        "CRC32": lambda: zlib.crc32(data).to_bytes(4, "big"),
        "CRC32C": lambda: updating(CRC32C)(data, 0).to_bytes(4, "big"),
        "CRC64NVME": lambda: updating(CRC64NVME)(data, 0).to_bytes(8, "big"),
        "SHA1": lambda: hashlib.sha1(data).digest(),
        "SHA256": lambda: hashlib.sha256(data).digest(),
    }[algorithm]()
    return base64.b64encode(digest).decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [0, 5, len(BODY)])
def test_a_checksum_is_stored_and_returned(s3: S3Client, bucket: str, algorithm: str, size: int) -> None:
    data, field = BODY[:size], f"Checksum{algorithm}"
    right = checksum(algorithm, data)
    answer = s3.put_object(Bucket=bucket, Key="k", Body=data, **{field: right})
    assert (answer[field], answer["ChecksumType"]) == (right, "FULL_OBJECT")
    assert answer["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head[field], head["ChecksumType"]) == (right, "FULL_OBJECT")
    assert field not in s3.head_object(Bucket=bucket, Key="k")
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (got[field], got["Body"].read()) == (right, data)
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    assert s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")[field] == right
    attributes = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ETag", "Checksum", "StorageClass", "ObjectSize"]
    )
    assert attributes["Checksum"] == {field: right, "ChecksumType": "FULL_OBJECT"}
    assert (attributes["ETag"], attributes["ObjectSize"]) == (hashlib.md5(data).hexdigest(), size)
    assert attributes["StorageClass"] == "STANDARD"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [5, len(BODY)])
def test_a_wrong_checksum_leaves_nothing(s3: S3Client, bucket: str, algorithm: str, size: int) -> None:
    wrong: dict[str, Any] = {f"Checksum{algorithm}": checksum(algorithm, b"another body")}
    error = refused(s3.put_object, Bucket=bucket, Key="k", Body=BODY[:size], **wrong)
    assert status_of(error) == (400, "BadDigest")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_a_checksum_behind_the_body(s3: S3Client, bucket: str, algorithm: str) -> None:
    """boto3 puts what it computes itself into a trailer where it may, and into a field elsewhere."""
    s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumAlgorithm=algorithm)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == checksum(algorithm, BODY)


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_a_copy_gets_the_checksum_it_is_asked_for(s3: S3Client, bucket: str, algorithm: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=BODY, ChecksumAlgorithm="SHA1")["ETag"]
    source = {"Bucket": bucket, "Key": "k"}
    answer = s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, ChecksumAlgorithm=algorithm)
    assert answer["CopyObjectResult"][f"Checksum{algorithm}"] == checksum(algorithm, BODY)
    head = s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")
    assert (head[f"Checksum{algorithm}"], head["ETag"]) == (checksum(algorithm, BODY), etag)
    assert "ChecksumSHA1" not in head


def test_attributes_that_are_not_known_are_refused(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    error = refused(s3.get_object_attributes, Bucket=bucket, Key="k", ObjectAttributes=["Colour"])
    assert status_of(error) == (400, "InvalidArgument")
    error = refused(s3.get_object_attributes, Bucket=bucket, Key="no", ObjectAttributes=["ETag"])
    assert status_of(error) == (404, "NoSuchKey")


@pytest.mark.parametrize("size", [0, 5, len(BODY), 17 << 20])
def test_what_s3_stored_flarectl_verifies_and_the_other_way_round(
    place: Place, s3: S3Client, bucket: str, tmp_path: Path, size: int
) -> None:
    data = (BODY * (size // len(BODY) + 1))[:size]
    s3.put_object(Bucket=bucket, Key="by-s3", Body=data)
    port = place.cluster.daemons[API].port
    out, source = tmp_path / "out", tmp_path / "in"
    flarectl(port, "get", f"{bucket}:by-s3", str(out))
    assert out.read_bytes() == data
    source.write_bytes(data)
    flarectl(port, "put", str(source), f"{bucket}:by-flarectl")
    assert s3.get_object(Bucket=bucket, Key="by-flarectl")["Body"].read() == data
    # A copy keeps the ETag of the interface that wrote its source, and is verified by its chunks all the same.
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "by-s3"})
    assert s3.head_object(Bucket=bucket, Key="copy")["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    flarectl(port, "get", "-r", f"{bucket}:", str(tmp_path / "all"))
    for key in ("by-s3", "by-flarectl", "copy"):
        assert (tmp_path / "all" / key).read_bytes() == data
