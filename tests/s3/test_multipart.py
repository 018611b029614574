"""Uploads in parts, as boto3 makes them: what ceph/s3-tests asks of them, and AWS's documents."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import threading
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.s3.conftest import Place, S3Client
from tests.support.daemons import API
from tests.support.flarectl import flarectl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MIB = 1024 * 1024
PART = 5 * MIB
KEY = "multipart"


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def refused(call: Callable[..., object], **arguments: object) -> tuple[int, str]:
    """Status and code of a call that fails."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def etag_of(parts: Sequence[bytes]) -> str:
    return f'"{md5(b"".join(map(md5, parts))).hex()}-{len(parts)}"'


class Upload:
    """An upload of one object."""

    def __init__(self, s3: S3Client, bucket: str, key: str = KEY, **options: object) -> None:
        self.s3 = s3
        self.where = {"Bucket": bucket, "Key": key}
        self.begun = s3.create_multipart_upload(**self.where, **options)
        self.id = self.begun["UploadId"]
        self.parts: list[dict[str, Any]] = []

    def put(self, number: int, body: bytes, **options: object) -> dict[str, Any]:
        answer = self.s3.upload_part(**self.where, UploadId=self.id, PartNumber=number, Body=body, **options)
        self.parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        return answer

    def copy(self, number: int, source: str | dict[str, str], **options: object) -> dict[str, Any]:
        answer = self.s3.upload_part_copy(
            **self.where, UploadId=self.id, PartNumber=number, CopySource=source, **options
        )
        self.parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
        return answer

    def complete(self, parts: Sequence[dict[str, Any]] | None = None, **options: object) -> dict[str, Any]:
        named = {"Parts": self.parts if parts is None else list(parts)}
        return self.s3.complete_multipart_upload(**self.where, UploadId=self.id, MultipartUpload=named, **options)

    def abort(self) -> None:
        self.s3.abort_multipart_upload(**self.where, UploadId=self.id)

    def get(self, **options: object) -> bytes:
        return self.s3.get_object(**self.where, **options)["Body"].read()


def uploaded(s3: S3Client, bucket: str, sizes: Sequence[int], **options: object) -> tuple[Upload, list[bytes]]:
    """An upload that was not completed yet, and its parts."""
    upload = Upload(s3, bucket, **options)
    parts = [content(number, size) for number, size in enumerate(sizes, 1)]
    for number, part in enumerate(parts, 1):
        upload.put(number, part)
    return upload, parts


@pytest.mark.parametrize("sizes", [(1,), (PART,), (PART, 1), (PART, PART, 2 * MIB), (9 * MIB, 5 * MIB + 1, PART)])
def test_parts_become_an_object(s3: S3Client, bucket: str, sizes: Sequence[int]) -> None:
    upload, parts = uploaded(
        s3, bucket, sizes, ContentType="text/bla", Metadata={"foo": "bar"}, CacheControl="no-store", Tagging="a=b"
    )
    assert upload.begun["Bucket"] == bucket
    answer = upload.complete()
    assert (answer["Bucket"], answer["Key"], answer["ETag"]) == (bucket, KEY, etag_of(parts))
    assert answer["Location"].endswith(f"/{bucket}/{KEY}")
    found = s3.get_object(Bucket=bucket, Key=KEY)
    assert found["Body"].read() == b"".join(parts)
    assert (found["ContentType"], found["Metadata"], found["CacheControl"]) == ("text/bla", {"foo": "bar"}, "no-store")
    assert found["ETag"] == etag_of(parts)
    assert found["TagCount"] == 1
    (listed,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (listed["ETag"], listed["Size"]) == (etag_of(parts), sum(sizes))
    # What was answered is answered again; the upload is over.
    assert upload.complete()["ETag"] == etag_of(parts)
    assert refused(upload.abort) == (404, "NoSuchUpload")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_ranges_are_read_across_parts(s3: S3Client, bucket: str) -> None:
    upload, parts = uploaded(s3, bucket, (PART, PART, 100))
    upload.complete()
    whole = b"".join(parts)
    for first, last in ((0, 0), (PART - 10, PART + 9), (PART, PART), (2 * PART - 1, 2 * PART), (10, len(whole) - 1)):
        found = s3.get_object(Bucket=bucket, Key=KEY, Range=f"bytes={first}-{last}")
        assert found["Body"].read() == whole[first : last + 1]
        assert found["ContentRange"] == f"bytes {first}-{last}/{len(whole)}"
    assert upload.get(Range="bytes=-150") == whole[-150:]


def test_an_upload_without_parts_is_not_completed(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    assert refused(upload.complete, parts=[]) == (400, "MalformedXML")
    assert refused(s3.complete_multipart_upload, **upload.where, UploadId=upload.id) == (400, "MalformedXML")
    upload.abort()


def test_parts_are_named_as_they_were_uploaded(s3: S3Client, bucket: str) -> None:
    upload, parts = uploaded(s3, bucket, (PART, PART))
    first, second = upload.parts
    assert refused(upload.complete, parts=[first, {**second, "PartNumber": 9999}]) == (400, "InvalidPart")
    assert refused(upload.complete, parts=[first, {**second, "ETag": "ffffffffffffffffffffffffffffffff"}]) == (
        400, "InvalidPart"
    )  # fmt: skip
    assert refused(upload.complete, parts=[second, first]) == (400, "InvalidPartOrder")
    assert refused(upload.complete, parts=[first, first]) == (400, "InvalidPartOrder")
    assert refused(upload.complete, parts=[{**first, "PartNumber": 0}]) == (400, "InvalidPartOrder")
    bare = [{**part, "ETag": part["ETag"].strip('"')} for part in upload.parts]
    assert upload.complete(bare)["ETag"] == etag_of(parts)


def test_only_the_last_part_may_be_small(s3: S3Client, bucket: str) -> None:
    upload, _ = uploaded(s3, bucket, (100 * 1024, 10 * 1024))
    assert refused(upload.complete) == (400, "EntityTooSmall")
    upload.put(1, content(1, PART))
    upload.complete([upload.parts[2], upload.parts[1]])
    assert len(upload.get()) == PART + 10 * 1024


def test_numbers_of_parts_are_one_to_ten_thousand(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    for number in (0, 10_001):
        assert refused(upload.put, number=number, body=b"x") == (400, "InvalidArgument")
    upload.put(10_000, b"x")
    upload.complete()
    assert upload.get() == b"x"


def test_a_part_that_is_sent_again_replaces_the_first(s3: S3Client, bucket: str) -> None:
    upload, parts = uploaded(s3, bucket, (PART, PART, 10))
    for number in (1, 3):
        upload.put(number, content(10 + number, len(parts[number - 1])))
    upload.complete([upload.parts[3], upload.parts[1], upload.parts[4]])
    assert upload.get() == content(11, PART) + parts[1] + content(13, 10)


def test_an_object_that_is_there_is_replaced_only_at_the_end(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key=KEY, Body=b"before")
    upload, parts = uploaded(s3, bucket, (PART, 1))
    assert upload.get() == b"before"
    upload.complete()
    assert upload.get() == b"".join(parts)
    s3.put_object(Bucket=bucket, Key=KEY, Body=b"after")
    assert upload.get() == b"after"
    assert refused(upload.complete) == (404, "NoSuchUpload")


def test_an_upload_that_is_not_there(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    part = upload.put(1, b"x")
    upload.abort()
    for identity in (upload.id, "56788", "f" * 32):
        where = {**upload.where, "UploadId": identity}
        assert refused(s3.abort_multipart_upload, **where) == (404, "NoSuchUpload")
        assert refused(s3.list_parts, **where) == (404, "NoSuchUpload")
        assert refused(s3.upload_part, **where, PartNumber=1, Body=b"x") == (404, "NoSuchUpload")
        named = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        assert refused(s3.complete_multipart_upload, **where, MultipartUpload=named) == (404, "NoSuchUpload")
    other = {"Bucket": bucket, "Key": "other", "UploadId": Upload(s3, bucket).id}
    assert refused(s3.list_parts, **other) == (404, "NoSuchUpload")


def test_parts_are_listed_in_pages(s3: S3Client, bucket: str) -> None:
    upload, parts = uploaded(s3, bucket, (10, 20, 30))
    upload.put(7, b"seven")
    where = {**upload.where, "UploadId": upload.id}
    found = s3.list_parts(**where)
    assert [part["PartNumber"] for part in found["Parts"]] == [1, 2, 3, 7]
    assert [part["Size"] for part in found["Parts"]] == [10, 20, 30, 5]
    assert [part["ETag"] for part in found["Parts"][:3]] == [f'"{md5(part).hex()}"' for part in parts]
    assert (found["IsTruncated"], found["MaxParts"], found["StorageClass"]) == (False, 1000, "STANDARD")
    assert found["Owner"]["ID"] == found["Initiator"]["ID"]
    page = s3.list_parts(**where, MaxParts=2)
    assert (page["IsTruncated"], page["NextPartNumberMarker"]) == (True, 2)
    rest = s3.list_parts(**where, MaxParts=2, PartNumberMarker=2)
    assert [part["PartNumber"] for part in rest["Parts"]] == [3, 7]
    assert rest["IsTruncated"] is False


def test_uploads_are_listed_with_prefixes_and_markers(s3: S3Client, bucket: str) -> None:
    begun = [(key, Upload(s3, bucket, key).id) for key in ("b/1", "a", "a", "b/2", "c", "d/x/y")]
    expected = sorted(begun, key=lambda one: one[0])
    found = s3.list_multipart_uploads(Bucket=bucket)
    assert [(one["Key"], one["UploadId"]) for one in found["Uploads"]] == expected
    assert (found["IsTruncated"], found["MaxUploads"]) == (False, 1000)
    folded = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [one["Key"] for one in folded["Uploads"]] == ["a", "a", "c"]
    assert [one["Prefix"] for one in folded["CommonPrefixes"]] == ["b/", "d/"]
    inside = s3.list_multipart_uploads(Bucket=bucket, Prefix="b/")
    assert [one["Key"] for one in inside["Uploads"]] == ["b/1", "b/2"]
    paged, markers = [], {}
    while True:
        page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=1, **markers)
        paged += [(one["Key"], one["UploadId"]) for one in page["Uploads"]]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert paged == expected
    for key, identity in begun:
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=identity)
    s3.delete_bucket(Bucket=bucket)


def test_uploads_do_not_keep_a_bucket(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.put(1, b"x")
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    assert refused(upload.put, number=1, body=b"x") == (404, "NoSuchUpload")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_an_upload_may_lock_its_object(s3: S3Client, new_name: str) -> None:
    s3.create_bucket(Bucket=new_name, ObjectLockEnabledForBucket=True)
    upload = Upload(s3, new_name, ObjectLockLegalHoldStatus="ON")
    upload.put(1, b"held")
    version = upload.complete()["VersionId"]
    assert s3.head_object(**upload.where)["ObjectLockLegalHoldStatus"] == "ON"
    assert refused(s3.delete_object, **upload.where, VersionId=version) == (403, "AccessDenied")
    s3.put_object_legal_hold(**upload.where, LegalHold={"Status": "OFF"})
    s3.delete_object(**upload.where, VersionId=version)


def test_the_place_of_an_object_is_an_address(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket, "a folder/ä&b")
    upload.put(1, b"x")
    assert upload.complete()["Location"].endswith(f"/{bucket}/a%20folder/%C3%A4%26b")
    assert upload.get() == b"x"


# Copies


def test_parts_are_copied_from_ranges(s3: S3Client, bucket: str) -> None:
    source = content(1, 3 * PART + 5)
    s3.put_object(Bucket=bucket, Key="source", Body=source)
    upload = Upload(s3, bucket)
    where = {"Bucket": bucket, "Key": "source"}
    upload.copy(1, where, CopySourceRange=f"bytes=0-{PART - 1}")
    upload.copy(2, where, CopySourceRange=f"bytes=7-{PART + 6}")
    upload.copy(3, f"{bucket}/source")
    upload.complete()
    assert upload.get() == source[:PART] + source[7 : PART + 7] + source
    assert upload.parts[0]["ETag"] == f'"{md5(source[:PART]).hex()}"'


def test_a_single_byte_is_copied(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="foo", Body=b"foo")
    upload = Upload(s3, bucket)
    upload.copy(1, {"Bucket": bucket, "Key": "foo"}, CopySourceRange="bytes=0-0")
    upload.complete()
    assert upload.get() == b"f"


@pytest.mark.parametrize("key", [" ", "_", "__", "?versionId"])
def test_sources_with_awkward_names_are_copied(s3: S3Client, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=b"awkward")
    upload = Upload(s3, bucket)
    upload.copy(1, {"Bucket": bucket, "Key": key}, CopySourceRange="bytes=0-6")
    upload.complete()
    assert upload.get() == b"awkward"


@pytest.mark.parametrize(
    "wanted", ["0-2", "bytes=0", "bytes=hello-world", "bytes=0-bar", "bytes=hello-", "bytes=0-2,3-5", "bytes=2-0"]
)
def test_a_range_to_copy_has_one_form(s3: S3Client, bucket: str, wanted: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"12345")
    upload = Upload(s3, bucket)
    copy = {"number": 1, "source": {"Bucket": bucket, "Key": "source"}, "CopySourceRange": wanted}
    assert refused(upload.copy, **copy) == (400, "InvalidArgument")


def test_a_copy_that_cannot_be(s3: S3Client, alt: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"12345")
    upload = Upload(s3, bucket)
    source = {"Bucket": bucket, "Key": "source"}
    assert refused(upload.copy, number=1, source=source, CopySourceRange="bytes=0-21") == (416, "InvalidRange")
    assert refused(upload.copy, number=1, source={"Bucket": bucket, "Key": "none"}) == (404, "NoSuchKey")
    failed = {"number": 1, "source": source, "CopySourceIfMatch": "0" * 32}
    assert refused(upload.copy, **failed) == (412, "PreconditionFailed")
    alt.create_bucket(Bucket=f"alt-{bucket}")
    theirs = Upload(alt, f"alt-{bucket}")
    assert refused(theirs.copy, number=1, source=source) == (403, "AccessDenied")


def test_a_version_is_copied(s3: S3Client, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = s3.put_object(Bucket=bucket, Key="source", Body=b"old")["VersionId"]
    s3.put_object(Bucket=bucket, Key="source", Body=b"new")
    upload = Upload(s3, bucket)
    answer = upload.copy(1, {"Bucket": bucket, "Key": "source", "VersionId": old})
    assert answer["CopySourceVersionId"] == old
    done = upload.complete()
    assert upload.get() == b"old"
    first = done["VersionId"]
    again = Upload(s3, bucket)
    again.put(1, b"second")
    assert again.complete()["VersionId"] != first
    assert upload.get(VersionId=first) == b"old"


def test_an_object_in_parts_is_copied(s3: S3Client, bucket: str) -> None:
    upload, parts = uploaded(s3, bucket, (PART, 10))
    upload.complete()
    answer = s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": KEY})
    assert answer["CopyObjectResult"]["ETag"] == etag_of(parts)
    s3.delete_object(Bucket=bucket, Key=KEY)
    found = s3.get_object(Bucket=bucket, Key="copy", PartNumber=1)
    assert (found["Body"].read(), found["PartsCount"]) == (parts[0], 2)


# Reads by part


def test_a_part_is_read_by_its_number(s3: S3Client, bucket: str) -> None:
    upload, parts = uploaded(s3, bucket, (PART, 6 * MIB, 3))
    assert refused(s3.get_object, **upload.where, PartNumber=1) == (404, "NoSuchKey")
    upload.complete()
    whole, start = b"".join(parts), 0
    for number, part in enumerate(parts, 1):
        for call in (s3.head_object, s3.get_object):
            found = call(**upload.where, PartNumber=number)
            assert (found["PartsCount"], found["ContentLength"]) == (3, len(part))
            assert found["ETag"] == etag_of(parts)
            assert found["ContentRange"] == f"bytes {start}-{start + len(part) - 1}/{len(whole)}"
            assert found["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert found["Body"].read() == part
        start += len(part)
    assert refused(s3.get_object, **upload.where, PartNumber=5) == (400, "InvalidPart")
    both = {"PartNumber": 1, "Range": "bytes=0-1"}
    assert refused(s3.get_object, **upload.where, **both) == (400, "InvalidRequest")


def test_an_object_put_whole_is_one_part(s3: S3Client, bucket: str) -> None:
    for body in (b"", b"whole", content(1, 9 * MIB)):
        s3.put_object(Bucket=bucket, Key=KEY, Body=body)
        found = s3.get_object(Bucket=bucket, Key=KEY, PartNumber=1)
        assert found["Body"].read() == body
        assert "PartsCount" not in found
        assert refused(s3.get_object, Bucket=bucket, Key=KEY, PartNumber=2) == (400, "InvalidPart")


def test_attributes_tell_of_the_parts(s3: S3Client, bucket: str) -> None:
    upload, parts = uploaded(s3, bucket, (PART, PART, 3))
    upload.complete()
    wanted = ["ETag", "ObjectParts", "ObjectSize"]
    found = s3.get_object_attributes(**upload.where, ObjectAttributes=wanted)
    assert (found["ETag"], found["ObjectSize"]) == (etag_of(parts).strip('"'), 2 * PART + 3)
    listed = found["ObjectParts"]
    assert (listed["TotalPartsCount"], listed["IsTruncated"], listed["NextPartNumberMarker"]) == (3, False, 3)
    assert [part["Size"] for part in listed["Parts"]] == [PART, PART, 3]
    page = s3.get_object_attributes(**upload.where, ObjectAttributes=wanted, MaxParts=1, PartNumberMarker=1)
    assert [part["PartNumber"] for part in page["ObjectParts"]["Parts"]] == [2]
    assert page["ObjectParts"]["IsTruncated"] is True


# Conditions


def test_a_completion_may_have_conditions(s3: S3Client, bucket: str) -> None:
    def begin() -> Upload:
        upload = Upload(s3, bucket)
        upload.put(1, b"new")
        return upload

    first = begin()
    assert refused(first.complete, IfMatch='"0"')[0] in {404, 412}
    first.complete(IfNoneMatch="*")
    second = begin()
    assert refused(second.complete, IfNoneMatch="*") == (412, "PreconditionFailed")
    assert refused(second.complete, IfMatch='"0"') == (412, "PreconditionFailed")
    second.complete(IfMatch=s3.head_object(Bucket=bucket, Key=KEY)["ETag"])


def test_a_size_that_was_promised_is_compared(s3: S3Client, bucket: str) -> None:
    upload, _ = uploaded(s3, bucket, (PART, 3))
    assert refused(upload.complete, MpuObjectSize=PART) == (400, "InvalidRequest")
    upload.complete(MpuObjectSize=PART + 3)


# Checksums


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def crc32(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


def text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@pytest.mark.parametrize(("algorithm", "digest"), [("SHA256", sha256), ("SHA1", sha1), ("CRC32", crc32)])
def test_a_composite_checksum_is_made_of_those_of_the_parts(
    s3: S3Client, bucket: str, algorithm: str, digest: Callable[[bytes], bytes]
) -> None:
    name = f"Checksum{algorithm}"
    upload = Upload(s3, bucket, ChecksumAlgorithm=algorithm)
    assert (upload.begun["ChecksumAlgorithm"], upload.begun["ChecksumType"]) == (algorithm, "COMPOSITE")
    parts = [content(1, PART), content(2, 10)]
    for number, part in enumerate(parts, 1):
        answer = upload.put(number, part, **{name: text(digest(part))})
        assert answer[name] == text(digest(part))
        upload.parts[-1][name] = answer[name]
    listed = s3.list_parts(**upload.where, UploadId=upload.id)
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (algorithm, "COMPOSITE")
    assert [part[name] for part in listed["Parts"]] == [text(digest(part)) for part in parts]
    wrong = [{**upload.parts[0], name: text(digest(b"wrong"))}, upload.parts[1]]
    assert refused(upload.complete, parts=wrong) == (400, "InvalidPart")
    expected = text(digest(b"".join(map(digest, parts)))) + "-2"
    assert refused(upload.complete, **{name: text(digest(b"wrong"))}) == (400, "BadDigest")
    done = upload.complete(**{name: expected})
    assert (done[name], done["ChecksumType"]) == (expected, "COMPOSITE")
    head = s3.head_object(**upload.where, ChecksumMode="ENABLED")
    assert (head[name], head["ChecksumType"]) == (expected, "COMPOSITE")
    found = s3.get_object_attributes(**upload.where, ObjectAttributes=["Checksum", "ObjectParts"])
    assert found["Checksum"][name].partition("-")[0] == expected.partition("-")[0]
    assert [part[name] for part in found["ObjectParts"]["Parts"]] == [text(digest(part)) for part in parts]


def test_a_full_checksum_is_that_of_the_whole(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    parts = [content(1, PART), content(2, PART + 1), content(3, 7)]
    for number, part in enumerate(parts, 1):
        upload.put(number, part, ChecksumAlgorithm="CRC32")
    whole = text(crc32(b"".join(parts)))
    assert refused(upload.complete, ChecksumCRC32=text(b"0000"), ChecksumType="FULL_OBJECT") == (400, "BadDigest")
    done = upload.complete(ChecksumCRC32=whole, ChecksumType="FULL_OBJECT")
    assert (done["ChecksumCRC32"], done["ChecksumType"]) == (whole, "FULL_OBJECT")
    found = s3.get_object(**upload.where, ChecksumMode="ENABLED")
    assert (found["ChecksumCRC32"], found["ChecksumType"]) == (whole, "FULL_OBJECT")
    assert found["Body"].read() == b"".join(parts)


def test_a_part_with_a_wrong_checksum_leaves_nothing(s3: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
    for size in (10, PART):
        wrong = {"number": 1, "body": content(1, size), "ChecksumSHA256": text(sha256(b"other"))}
        assert refused(upload.put, **wrong) == (400, "BadDigest")
    other = {"ContentMD5": text(md5(b"y")), "ChecksumAlgorithm": "SHA256"}
    assert refused(upload.put, number=1, body=b"x", **other) == (400, "BadDigest")
    assert "Parts" not in s3.list_parts(**upload.where, UploadId=upload.id)


@pytest.mark.parametrize(
    "options",
    [
        {"ChecksumAlgorithm": "SHA256", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "COMPOSITE"},
    ],
)
def test_checksums_that_s3_does_not_have(s3: S3Client, bucket: str, options: dict[str, str]) -> None:
    assert refused(s3.create_multipart_upload, Bucket=bucket, Key=KEY, **options) == (400, "InvalidRequest")


# At once


def test_the_slower_of_two_same_parts_counts_once_and_whole(s3: S3Client, place: Place, bucket: str) -> None:
    """Two clients send the same part at once; what is completed is one of them."""
    upload = Upload(s3, bucket)
    bodies = [content(number, PART) for number in range(4)]

    def send(body: bytes) -> None:
        place.client(place.main).upload_part(**upload.where, UploadId=upload.id, PartNumber=1, Body=body)

    threads = [threading.Thread(target=send, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (part,) = s3.list_parts(**upload.where, UploadId=upload.id)["Parts"]
    upload.complete([{"PartNumber": 1, "ETag": part["ETag"]}])
    whole = upload.get()
    assert whole in bodies
    assert part["ETag"] == f'"{md5(whole).hex()}"'


def test_clients_that_upload_large_files_by_themselves(s3: S3Client, bucket: str) -> None:
    """As ``aws s3 cp`` does: parts in parallel, up and down."""
    body = content(5, 33 * MIB + 7)
    settings = TransferConfig(multipart_threshold=PART, multipart_chunksize=8 * MIB, max_concurrency=8)
    s3.upload_fileobj(BytesIO(body), bucket, KEY, Config=settings)
    assert s3.head_object(Bucket=bucket, Key=KEY)["ETag"].endswith('-5"')
    back = BytesIO()
    s3.download_fileobj(bucket, KEY, back, Config=settings)
    assert back.getvalue() == body
    s3.copy({"Bucket": bucket, "Key": KEY}, bucket, "copy", Config=settings)
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == body


def test_flarectl_gets_and_verifies_what_came_in_parts(s3: S3Client, place: Place, bucket: str, tmp_path: Path) -> None:
    upload, parts = uploaded(s3, bucket, (PART, 17 * MIB, 3))
    upload.complete()
    port = place.cluster.daemons[API].port
    as_main = {"FLARE_ACCESS_KEY": place.main.id, "FLARE_SECRET_KEY": place.main.secret}
    flarectl(port, "get", f"{bucket}:{KEY}", str(tmp_path / "whole"), environment=as_main)
    assert (tmp_path / "whole").read_bytes() == b"".join(parts)
    shown = json.loads(flarectl(port, "stat", f"{bucket}:{KEY}", "--json", environment=as_main))
    assert shown["etag"] == etag_of(parts).strip('"')


def test_a_stranger_may_not_upload(s3: S3Client, stranger: S3Client, bucket: str) -> None:
    upload = Upload(s3, bucket)
    where = {**upload.where, "UploadId": upload.id}
    assert refused(stranger.create_multipart_upload, Bucket=bucket, Key="x") == (403, "AccessDenied")
    assert refused(stranger.upload_part, **where, PartNumber=1, Body=b"x") == (403, "AccessDenied")
    assert refused(stranger.list_parts, **where) == (403, "AccessDenied")
    assert refused(stranger.abort_multipart_upload, **where) == (403, "AccessDenied")
    assert refused(stranger.list_multipart_uploads, Bucket=bucket) == (403, "AccessDenied")
