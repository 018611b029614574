"""Copies, and deletes of many."""

from __future__ import annotations

import pytest

from tests.s3.conftest import S3Client
from tests.s3.support import body_of, check_error, put_all, status_of


def source(bucket: str, key: str = "a") -> dict[str, str]:
    return {"Bucket": bucket, "Key": key}


@pytest.mark.parametrize("size", [0, 3, 100_000, 9_000_000])
def test_a_copy_is_the_same(s3: S3Client, bucket: str, size: int) -> None:
    put = s3.put_object(Bucket=bucket, Key="a", Body=b"x" * size, ContentType="a/b", Metadata={"foo": "bar"})
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    for target in (bucket, other):
        copied = s3.copy_object(Bucket=target, Key="copy", CopySource=source(bucket))
        assert copied["CopyObjectResult"]["ETag"] == put["ETag"]
        got = s3.get_object(Bucket=target, Key="copy")
        assert (got["ETag"], got["ContentType"], got["Metadata"]) == (put["ETag"], "a/b", {"foo": "bar"})
        assert body_of(got) == b"x" * size


def test_metadata_is_replaced_if_asked(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x", ContentType="a/b", Metadata={"foo": "bar"}, CacheControl="c")
    said = {"Metadata": {"key1": "value1"}, "ContentType": "audio/ogg"}
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source(bucket), **said)
    assert s3.head_object(Bucket=bucket, Key="copy")["Metadata"] == {"foo": "bar"}, "without the directive: as it was"
    for target in ("copy", "a"):
        s3.copy_object(Bucket=bucket, Key=target, CopySource=source(bucket), MetadataDirective="REPLACE", **said)
        head = s3.head_object(Bucket=bucket, Key=target)
        assert (head["Metadata"], head["ContentType"]) == ({"key1": "value1"}, "audio/ogg")
        assert "CacheControl" not in head


def test_copies_that_are_refused(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    copy = {"Bucket": bucket, "Key": "a"}
    check_error(400, "InvalidRequest", s3.copy_object, **copy, CopySource=source(bucket))
    check_error(404, "NoSuchKey", s3.copy_object, **copy, CopySource=source(bucket, "none"))
    check_error(404, "NoSuchBucket", s3.copy_object, **copy, CopySource=source("none-such-bucket"))
    check_error(404, "NoSuchBucket", s3.copy_object, Bucket="none-such-bucket", Key="a", CopySource=source(bucket))
    check_error(400, "InvalidArgument", s3.copy_object, **copy, CopySource=bucket)
    check_error(400, "InvalidArgument", s3.copy_object, **copy, CopySource=source(bucket), MetadataDirective="HAHA")


def test_the_source_needs_a_grant_too(s3: S3Client, alt: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    other = f"{bucket}-alt"
    alt.create_bucket(Bucket=other)
    check_error(403, "AccessDenied", alt.copy_object, Bucket=other, Key="a", CopySource=source(bucket))
    check_error(403, "AccessDenied", s3.copy_object, Bucket=other, Key="a", CopySource=source(bucket))


def test_conditions_of_the_source_and_of_the_target(s3: S3Client, bucket: str) -> None:
    tag = s3.put_object(Bucket=bucket, Key="a", Body=b"x")["ETag"]
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": source(bucket)}
    for right in ({"CopySourceIfMatch": tag}, {"CopySourceIfNoneMatch": '"other"'}, {"IfNoneMatch": "*"}):
        s3.copy_object(**copy, **right)
        s3.delete_object(Bucket=bucket, Key="copy")
    for wrong in ({"CopySourceIfMatch": '"other"'}, {"CopySourceIfNoneMatch": tag}, {"IfMatch": '"other"'}):
        s3.put_object(Bucket=bucket, Key="copy", Body=b"old")
        check_error(412, "PreconditionFailed", s3.copy_object, **copy, **wrong)
        assert body_of(s3.get_object(Bucket=bucket, Key="copy")) == b"old"


def test_many_are_deleted_at_once(s3: S3Client, bucket: str) -> None:
    keys = [f"key{number}" for number in range(20)]
    put_all(s3, bucket, [*keys, "kept"])
    asked = {"Objects": [{"Key": key} for key in [*keys, "none"]]}
    answer = s3.delete_objects(Bucket=bucket, Delete=asked)
    assert {entry["Key"] for entry in answer["Deleted"]} == {*keys, "none"}
    assert "Errors" not in answer
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["kept"]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "kept"}], "Quiet": True})
    assert (status_of(answer), "Deleted" in answer) == (200, False)


def test_limits_of_a_delete_of_many(s3: S3Client, bucket: str) -> None:
    put_all(s3, bucket, ["a"])
    most = {"Objects": [{"Key": f"k{number}"} for number in range(1000)]}
    assert len(s3.delete_objects(Bucket=bucket, Delete=most)["Deleted"]) == 1000
    most["Objects"].append({"Key": "a"})
    check_error(400, "MalformedXML", s3.delete_objects, Bucket=bucket, Delete=most)
    check_error(400, "MalformedXML", s3.delete_objects, Bucket=bucket, Delete={"Objects": []})
    check_error(404, "NoSuchBucket", s3.delete_objects, Bucket="none-such-bucket", Delete={"Objects": [{"Key": "a"}]})
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_each_key_is_answered_for_itself(s3: S3Client, alt: S3Client, bucket: str) -> None:
    put_all(s3, bucket, ["a"])
    asked = {"Objects": [{"Key": "a"}, {"Key": "x" * 1025}, {"Key": "b", "ETag": '"other"'}]}
    answer = s3.delete_objects(Bucket=bucket, Delete=asked)
    assert [entry["Key"] for entry in answer["Deleted"]] == ["a"]
    assert [entry["Code"] for entry in answer["Errors"]] == ["KeyTooLongError", "NoSuchKey"]
    check_error(403, "AccessDenied", alt.delete_objects, Bucket=bucket, Delete={"Objects": [{"Key": "a"}]})
