"""Tags of objects and buckets by boto3, after what ceph/s3-tests asks of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.exceptions import ClientError

from tests.s3.conftest import S3Client
from tests.s3.test_versioning import refused, status_of


def tag_set(count: int, key: str = "key", value: str = "val") -> dict[str, list[dict[str, str]]]:
    return {"TagSet": [{"Key": f"{key}{number}", "Value": f"{value}{number}"} for number in range(count)]}


def tags(s3: S3Client, bucket: str, **more: Any) -> Any:
    return s3.get_object_tagging(Bucket=bucket, Key="k", **more)["TagSet"]


def test_tags_of_an_object(s3: S3Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body="x")["ETag"]
    assert tags(s3, bucket) == []
    assert "TagCount" not in s3.head_object(Bucket=bucket, Key="k")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tag_set(2))
    assert tags(s3, bucket) == tag_set(2)["TagSet"]
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert (answer["TagCount"], answer["ETag"], answer["Body"].read()) == (2, etag, b"x")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tag_set(1, "other"))
    assert tags(s3, bucket) == tag_set(1, "other")["TagSet"]
    assert s3.delete_object_tagging(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert tags(s3, bucket) == []
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tag_set(2))
    s3.put_object(Bucket=bucket, Key="k", Body="y")
    assert tags(s3, bucket) == [], "a put replaces all"


@pytest.mark.parametrize(
    ("tagging", "code"),
    [
        (tag_set(10), ""),
        (tag_set(1, "k" * 127, "v" * 255), ""),
        (tag_set(11), "InvalidTag"),
        (tag_set(1, "k" * 128), "InvalidTag"),
        (tag_set(1, "k", "v" * 256), "InvalidTag"),
        ({"TagSet": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, "InvalidTag"),
    ],
)
def test_limits(s3: S3Client, bucket: str, tagging: dict[str, list[dict[str, str]]], code: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body="x")
    if not code:
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tagging)
        assert tags(s3, bucket) == tagging["TagSet"]
        return
    assert status_of(refused(s3.put_object_tagging, Bucket=bucket, Key="k", Tagging=tagging)) == (400, code)
    assert tags(s3, bucket) == []


def test_tags_in_the_head_of_a_put(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body="x", Tagging=urlencode({"foo": "bar", "a b": "c+d/=", "empty": ""}))
    assert {each["Key"]: each["Value"] for each in tags(s3, bucket)} == {"foo": "bar", "a b": "c+d/=", "empty": ""}
    assert s3.head_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "3"
    many = urlencode({f"k{number}": "" for number in range(11)})
    assert status_of(refused(s3.put_object, Bucket=bucket, Key="no", Body="x", Tagging=many)) == (400, "InvalidTag")
    assert status_of(refused(s3.get_object, Bucket=bucket, Key="no")) == (404, "NoSuchKey")


def test_copies_keep_tags_or_replace_them(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body="x", Tagging="a=1")
    source = {"Bucket": bucket, "Key": "k"}
    s3.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="new", CopySource=source, TaggingDirective="REPLACE", Tagging="b=2")
    s3.copy_object(Bucket=bucket, Key="none", CopySource=source, TaggingDirective="REPLACE")
    for key, expected in (("kept", [("a", "1")]), ("new", [("b", "2")]), ("none", [])):
        found = s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        assert [(each["Key"], each["Value"]) for each in found] == expected


def test_tags_of_versions(s3: S3Client, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body="1", Tagging="of=first")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body="2")["VersionId"]
    answer = s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tag_set(1), VersionId=second)
    assert answer["VersionId"] == second
    assert tags(s3, bucket) == tag_set(1)["TagSet"]
    assert tags(s3, bucket, VersionId=first) == [{"Key": "of", "Value": "first"}]
    s3.delete_object_tagging(Bucket=bucket, Key="k", VersionId=first)
    assert tags(s3, bucket, VersionId=first) == []
    assert [each["VersionId"] for each in s3.list_object_versions(Bucket=bucket)["Versions"]] == [second, first]


def test_tags_of_a_bucket(s3: S3Client, bucket: str) -> None:
    with pytest.raises(ClientError) as raised:
        s3.get_bucket_tagging(Bucket=bucket)
    assert status_of(raised.value) == (404, "NoSuchTagSet")
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set(30))
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tag_set(30)["TagSet"]
    s3.delete_bucket_tagging(Bucket=bucket)
    assert status_of(refused(s3.get_bucket_tagging, Bucket=bucket)) == (404, "NoSuchTagSet")
    assert status_of(refused(s3.put_bucket_tagging, Bucket=bucket, Tagging=tag_set(51))) == (400, "InvalidTag")
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set(1))
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    assert status_of(refused(s3.get_bucket_tagging, Bucket=bucket)) == (404, "NoSuchTagSet")
