"""Objects: bytes, names and metadata as they were put."""

from __future__ import annotations

import base64
import datetime
import hashlib
from typing import Any

import pytest

from tests.s3.conftest import Place, S3Client
from tests.s3.support import body_of, check_error, keys_of, raw, status_of

AWKWARD = [
    "plain", "with space", " begins", "ends ", "plus+sign", "100%", "%2F", "%252F", "a/b/c", "/begins", "ends/", "a//b",
    ".", "..", "a/../b", "./a", "ümlaut", "文字", "\U0001f600", "a&b=c?d#e", "quote'\"", "<tag>", "back\\slash",
    "tab\tkey", "new\nline", "colon:semi;comma,", "tilde~", "star*(paren)!", "e\u0301", "\u00e9", "x" * 1024, "ä" * 512,
    "a=b", "@$^`{|}[]",
]  # fmt: skip


@pytest.mark.parametrize("key", AWKWARD)
def test_names_that_are_awkward(s3: S3Client, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert body_of(s3.get_object(Bucket=bucket, Key=key)) == key.encode()
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(key.encode())
    assert keys_of(s3.list_objects_v2(Bucket=bucket)) == [key]
    assert keys_of(s3.list_objects(Bucket=bucket, Prefix=key)) == [key]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert body_of(s3.get_object(Bucket=bucket, Key="copy")) == key.encode()
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}, {"Key": "copy"}]})["Deleted"]
    assert {entry["Key"] for entry in deleted} == {key, "copy"}
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_name_that_is_too_long(s3: S3Client, bucket: str) -> None:
    check_error(400, "KeyTooLongError", s3.put_object, Bucket=bucket, Key="x" * 1025, Body=b"")


@pytest.mark.parametrize("size", [0, 1, 4096, 65_536, 65_537, 300_000, 9_000_000])
def test_bytes_of_any_number(s3: S3Client, bucket: str, size: int) -> None:
    content = hashlib.shake_128(b"%d" % size).digest(size)
    put = s3.put_object(Bucket=bucket, Key="a", Body=content)
    assert put["ETag"] == f'"{hashlib.md5(content).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="a")
    assert (got["ETag"], got["ContentLength"]) == (put["ETag"], size)
    assert body_of(got) == content


def test_the_last_put_counts(s3: S3Client, bucket: str) -> None:
    for content in (b"first", b"second", b""):
        s3.put_object(Bucket=bucket, Key="a", Body=content)
        assert body_of(s3.get_object(Bucket=bucket, Key="a")) == content


def test_what_does_not_exist(s3: S3Client, bucket: str) -> None:
    answer = check_error(404, "NoSuchKey", s3.get_object, Bucket=bucket, Key="none")
    assert answer["Error"]["Message"] == "The specified key does not exist."
    assert answer["ResponseMetadata"]["RequestId"]
    check_error(404, "404", s3.head_object, Bucket=bucket, Key="none")
    assert status_of(s3.delete_object(Bucket=bucket, Key="none")) == 204


def test_metadata_and_standard_fields(s3: S3Client, bucket: str) -> None:
    said = {
        "ContentType": "text/plain; charset=utf-8",
        "CacheControl": "max-age=1",
        "ContentDisposition": 'attachment; filename="a b"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "Metadata": {"meta1": "mymeta", "empty": "", "spaces": "a  b", "percent": "%20"},
    }
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", **said, Expires="Wed, 21 Oct 2037 07:28:00 GMT")
    for answer in (s3.get_object(Bucket=bucket, Key="a"), s3.head_object(Bucket=bucket, Key="a")):
        assert {name: answer[name] for name in said} == said
        assert answer["ResponseMetadata"]["HTTPHeaders"]["expires"] == "Wed, 21 Oct 2037 07:28:00 GMT"
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    answer = s3.head_object(Bucket=bucket, Key="a")
    assert answer["Metadata"] == {}
    assert "CacheControl" not in answer
    assert answer["ContentType"] == "binary/octet-stream"


def test_how_a_body_travels_is_not_kept(s3: S3Client, bucket: str) -> None:
    for said, kept in (
        ("gzip", "gzip"),
        ("deflate, gzip", "deflate, gzip"),
        ("gzip, aws-chunked", "gzip"),
        ("aws-chunked, gzip", "gzip"),
        ("aws-chunked", None),
        ("aws-chunked, aws-chunked", None),
    ):
        s3.put_object(Bucket=bucket, Key="a", Body=b"", ContentEncoding=said)
        assert s3.head_object(Bucket=bucket, Key="a").get("ContentEncoding") == kept


def test_metadata_has_a_limit(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"", Metadata={"k": "x" * 2047})
    check_error(400, "MetadataTooLarge", s3.put_object, Bucket=bucket, Key="b", Body=b"", Metadata={"k": "x" * 2048})


def test_digests_that_are_promised(s3: S3Client, bucket: str) -> None:
    right = base64.b64encode(hashlib.md5(b"bar").digest()).decode()
    s3.put_object(Bucket=bucket, Key="a", Body=b"bar", ContentMD5=right)
    wrong = base64.b64encode(hashlib.md5(b"foo").digest()).decode()
    check_error(400, "BadDigest", s3.put_object, Bucket=bucket, Key="b", Body=b"bar", ContentMD5=wrong)
    for invalid in ("", "short", "AWS HAHAHA"):
        check_error(400, "InvalidDigest", s3.put_object, Bucket=bucket, Key="b", Body=b"bar", ContentMD5=invalid)
    check_error(404, "NoSuchKey", s3.get_object, Bucket=bucket, Key="b")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_are_compared_kept_and_returned(place: Place, bucket: str, algorithm: str) -> None:
    client = place.client(place.main, request_checksum_calculation="when_required")
    value = checksum(algorithm, b"body")
    client.put_object(Bucket=bucket, Key="a", Body=b"body", **{f"Checksum{algorithm}": value})
    for call in (client.get_object, client.head_object):
        answer = call(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
        assert answer[f"Checksum{algorithm}"] == value
        assert answer["ChecksumType"] == "FULL_OBJECT"
    wrong: dict[str, Any] = {f"Checksum{algorithm}": checksum(algorithm, b"other")}
    check_error(400, "BadDigest", client.put_object, Bucket=bucket, Key="b", Body=b"body", **wrong)
    check_error(
        400, "InvalidRequest", client.put_object, Bucket=bucket, Key="b", Body=b"x", **{f"Checksum{algorithm}": "x"}
    )
    check_error(404, "404", client.head_object, Bucket=bucket, Key="b")


def checksum(algorithm: str, body: bytes) -> str:
    from flared.objects.digests import begin

    running = begin(algorithm.lower())
    running.update(body)
    return base64.b64encode(running.digest()).decode()


def test_uploads_without_a_length_and_in_transfer_chunks(place: Place, s3: S3Client, bucket: str) -> None:
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a"})
    target = url.removeprefix(place.url)
    status, _, body = raw(place.port, "PUT", target)
    assert (status, b"MissingContentLength" in body) == (411, True)
    chunked = {"transfer-encoding": "chunked"}
    assert raw(place.port, "PUT", target, b"3\r\nabc\r\n0\r\n\r\n", chunked)[0] == 200
    assert body_of(s3.get_object(Bucket=bucket, Key="a")) == b"abc"


def test_overrides_of_the_answer(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", ContentType="a/b")
    got = s3.get_object(
        Bucket=bucket,
        Key="a",
        ResponseCacheControl="no-cache",
        ResponseContentDisposition="bla",
        ResponseContentEncoding="aaa",
        ResponseContentLanguage="esperanto",
        ResponseContentType="foo/bar",
        ResponseExpires=datetime.datetime(2037, 10, 21, 7, 28, tzinfo=datetime.UTC),
    )
    fields = got["ResponseMetadata"]["HTTPHeaders"]
    assert (fields["content-type"], fields["cache-control"], fields["expires"]) == (
        "foo/bar",
        "no-cache",
        "Wed, 21 Oct 2037 07:28:00 GMT",
    )
    assert (fields["content-disposition"], fields["content-encoding"], fields["content-language"]) == (
        "bla",
        "aaa",
        "esperanto",
    )


def test_what_is_asked_for_and_not_here_is_refused(s3: S3Client, bucket: str) -> None:
    put = {"Bucket": bucket, "Key": "a", "Body": b"x"}
    check_error(501, "NotImplemented", s3.put_object, **put, ServerSideEncryption="AES256")
    check_error(501, "NotImplemented", s3.put_object, **put, WebsiteRedirectLocation="/x")
    check_error(400, "InvalidStorageClass", s3.put_object, **put, StorageClass="GLACIER")
    s3.put_object(**put, StorageClass="STANDARD", ACL="private")


def test_both_faces_have_the_same_objects(place: Place, s3: S3Client, bucket: str) -> None:
    client = place.cluster.client()
    s3.put_object(Bucket=bucket, Key="from s3", Body=b"from s3", Metadata={"a": "b"})
    native = client.call("GET", f"/bucket/{bucket}/object/from%20s3")
    assert (native.body, native.fields["x-flare-meta-a"]) == (b"from s3", "b")
    assert client.call("PUT", f"/bucket/{bucket}/object/native", b"native", {"x-flare-meta-c": "d"}).status == 201
    got = s3.get_object(Bucket=bucket, Key="native")
    assert (body_of(got), got["Metadata"]) == (b"native", {"c": "d"})
