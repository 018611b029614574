"""Versions by boto3, after what ceph/s3-tests asks of them."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3.conftest import S3Client


@pytest.fixture
def versioned(s3: S3Client, bucket: str) -> str:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def suspend(s3: S3Client, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


def put(s3: S3Client, bucket: str, body: str, key: str = "k") -> str:
    return str(s3.put_object(Bucket=bucket, Key=key, Body=body)["VersionId"])


def get(s3: S3Client, bucket: str, key: str = "k", version: str | None = None) -> str:
    chosen = {} if version is None else {"VersionId": version}
    return str(s3.get_object(Bucket=bucket, Key=key, **chosen)["Body"].read().decode())


def refused(call: Any, **arguments: Any) -> ClientError:
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    return raised.value


def status_of(error: ClientError) -> tuple[int, str]:
    return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]


def ids(s3: S3Client, bucket: str, **asked: Any) -> list[tuple[str, str, bool]]:
    """Key, id, and whether it is the newest, of versions and delete markers, as they are listed."""
    answer = s3.list_object_versions(Bucket=bucket, **asked)
    found = answer.get("Versions", []) + answer.get("DeleteMarkers", [])
    return [(each["Key"], each["VersionId"], each["IsLatest"]) for each in found]


def test_the_state_of_a_bucket(s3: S3Client, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    for state in ("Enabled", "Suspended", "Enabled"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": state})
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == state
    error = refused(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "Off"})
    assert status_of(error) == (400, "MalformedXML")
    error = refused(s3.put_bucket_versioning, Bucket="not-there", VersioningConfiguration={"Status": "Enabled"})
    assert status_of(error)[0] in (403, 404)


def test_without_versioning_nothing_has_an_id(s3: S3Client, bucket: str) -> None:
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body="x")
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert "VersionId" not in answer
    assert "VersionId" not in s3.head_object(Bucket=bucket, Key="k")
    assert ids(s3, bucket) == [("k", "null", True)]
    assert get(s3, bucket, version="null") == "x"
    answer = s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert "DeleteMarker" not in answer
    assert ids(s3, bucket) == []


def test_versions_are_kept_read_and_removed(s3: S3Client, versioned: str) -> None:
    made = [put(s3, versioned, f"content-{number}") for number in range(5)]
    assert len(set(made)) == 5
    assert get(s3, versioned) == "content-4"
    assert [get(s3, versioned, version=each) for each in made] == [f"content-{number}" for number in range(5)]
    assert ids(s3, versioned) == [("k", each, number == 0) for number, each in enumerate(reversed(made))]
    head = s3.head_object(Bucket=versioned, Key="k", VersionId=made[2])
    assert (head["VersionId"], head["ContentLength"]) == (made[2], 9)
    assert s3.get_object(Bucket=versioned, Key="k")["VersionId"] == made[4]
    # A version goes for good, and the one before the newest takes its place.
    answer = s3.delete_object(Bucket=versioned, Key="k", VersionId=made[4])
    assert answer["VersionId"] == made[4]
    assert get(s3, versioned) == "content-3"
    s3.delete_object(Bucket=versioned, Key="k", VersionId=made[1])
    assert [each for _, each, _ in ids(s3, versioned)] == [made[3], made[2], made[0]]
    error = refused(s3.get_object, Bucket=versioned, Key="k", VersionId=made[1])
    assert status_of(error) == (404, "NoSuchVersion")
    error = refused(s3.get_object, Bucket=versioned, Key="k", VersionId="not an id")
    assert status_of(error) == (400, "InvalidArgument")
    for each in (made[0], made[2], made[3]):
        s3.delete_object(Bucket=versioned, Key="k", VersionId=each)
    assert ids(s3, versioned) == []
    assert status_of(refused(s3.get_object, Bucket=versioned, Key="k")) == (404, "NoSuchKey")


def test_delete_markers(s3: S3Client, versioned: str) -> None:
    first = put(s3, versioned, "first")
    answer = s3.delete_object(Bucket=versioned, Key="k")
    assert answer["DeleteMarker"] is True
    marker = answer["VersionId"]
    error = refused(s3.get_object, Bucket=versioned, Key="k")
    assert status_of(error) == (404, "NoSuchKey")
    fields = error.response["ResponseMetadata"]["HTTPHeaders"]
    assert (fields["x-amz-delete-marker"], fields["x-amz-version-id"]) == ("true", marker)
    error = refused(s3.get_object, Bucket=versioned, Key="k", VersionId=marker)
    assert status_of(error) == (405, "MethodNotAllowed")
    assert error.response["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
    assert status_of(refused(s3.head_object, Bucket=versioned, Key="k", VersionId=marker))[0] == 405
    assert "Contents" not in s3.list_objects_v2(Bucket=versioned)
    listed = s3.list_object_versions(Bucket=versioned)
    assert [(each["VersionId"], each["IsLatest"]) for each in listed["DeleteMarkers"]] == [(marker, True)]
    assert [(each["VersionId"], each["IsLatest"]) for each in listed["Versions"]] == [(first, False)]
    # A second delete makes a second marker; taking both away brings the object back.
    second = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    for each in (second, marker):
        answer = s3.delete_object(Bucket=versioned, Key="k", VersionId=each)
        assert (answer["DeleteMarker"], answer["VersionId"]) == (True, each)
    assert get(s3, versioned) == "first"
    # A key that never was gets a marker, too.
    assert s3.delete_object(Bucket=versioned, Key="never")["DeleteMarker"] is True


def test_what_was_there_before_is_the_null_version(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body="before")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    version = put(s3, bucket, "after")
    assert get(s3, bucket, version="null") == "before"
    s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
    assert get(s3, bucket) == "before"
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert ids(s3, bucket) == []


def test_suspended_the_null_version_is_replaced(s3: S3Client, versioned: str) -> None:
    kept = [put(s3, versioned, f"content-{number}") for number in range(2)]
    suspend(s3, versioned)
    for body in ("null one", "null two"):
        assert put(s3, versioned, body) == "null"
    assert get(s3, versioned) == "null two"
    assert ids(s3, versioned) == [("k", "null", True), ("k", kept[1], False), ("k", kept[0], False)]
    answer = s3.delete_object(Bucket=versioned, Key="k")
    assert (answer["DeleteMarker"], answer["VersionId"]) == (True, "null")
    assert [each for _, each, _ in ids(s3, versioned)] == [kept[1], kept[0], "null"]
    s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Enabled"})
    newest = put(s3, versioned, "again")
    assert get(s3, versioned) == "again"
    suspend(s3, versioned)
    put(s3, versioned, "null three")
    assert [each for _, each, _ in ids(s3, versioned)] == ["null", newest, kept[1], kept[0]]
    s3.delete_object(Bucket=versioned, Key="k", VersionId="null")
    assert get(s3, versioned) == "again"


def test_pages_of_versions(s3: S3Client, versioned: str) -> None:
    made = {key: [put(s3, versioned, "x", key) for _ in range(3)][::-1] for key in ("a", "b/1", "b/2", "c")}
    expected = [(key, each, not number) for key, found in made.items() for number, each in enumerate(found)]
    assert ids(s3, versioned) == expected
    for size in (1, 2, 5):
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=versioned, PaginationConfig={"PageSize": size})
        assert [
            (each["Key"], each["VersionId"], each["IsLatest"]) for page in pages for each in page.get("Versions", [])
        ] == expected
    answer = s3.list_object_versions(Bucket=versioned, Delimiter="/")
    assert [each["Prefix"] for each in answer["CommonPrefixes"]] == ["b/"]
    assert {each["Key"] for each in answer["Versions"]} == {"a", "c"}
    assert [key for key, _, _ in ids(s3, versioned, Prefix="b/")] == ["b/1"] * 3 + ["b/2"] * 3
    assert ids(s3, versioned, KeyMarker="b/2", VersionIdMarker=made["b/2"][0])[0][1] == made["b/2"][1]
    assert ids(s3, versioned, KeyMarker="b/2")[0][0] == "c"
    answer = s3.list_object_versions(Bucket=versioned, MaxKeys=1)
    assert (answer["IsTruncated"], answer["NextKeyMarker"]) == (True, "a")
    error = refused(s3.list_object_versions, Bucket=versioned, VersionIdMarker=made["a"][0])
    assert status_of(error) == (400, "InvalidArgument")


def test_copies_of_versions(s3: S3Client, versioned: str) -> None:
    made = [put(s3, versioned, f"content-{number}") for number in range(3)]
    for number, version in enumerate(made):
        answer = s3.copy_object(
            Bucket=versioned, Key=f"copy{number}", CopySource={"Bucket": versioned, "Key": "k", "VersionId": version}
        )
        assert answer["CopySourceVersionId"] == version
        assert get(s3, versioned, f"copy{number}", answer["VersionId"]) == f"content-{number}"
    # An older version, copied over its own object, is how one goes back to it.
    s3.copy_object(Bucket=versioned, Key="k", CopySource={"Bucket": versioned, "Key": "k", "VersionId": made[0]})
    assert get(s3, versioned) == "content-0"
    assert len(ids(s3, versioned, Prefix="k")) == 4
    source = {"Bucket": versioned, "Key": "k", "VersionId": "0" * 16}
    error = refused(s3.copy_object, Bucket=versioned, Key="no", CopySource=source)
    assert status_of(error) == (404, "NoSuchVersion")


def test_many_versions_are_deleted_at_once(s3: S3Client, versioned: str) -> None:
    made = [put(s3, versioned, "x") for _ in range(3)]
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "k"}]})
    marker = answer["Deleted"][0]["DeleteMarkerVersionId"]
    assert answer["Deleted"][0]["DeleteMarker"] is True
    objects = [{"Key": "k", "VersionId": each} for each in [*made, marker]]
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": objects})
    assert {each["VersionId"] for each in answer["Deleted"]} == {*made, marker}
    (markers,) = [each for each in answer["Deleted"] if each.get("DeleteMarker")]
    assert (markers["VersionId"], markers["DeleteMarkerVersionId"]) == (marker, marker)
    assert "Errors" not in answer
    assert ids(s3, versioned) == []
    answer = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "k", "VersionId": "wrong"}]})
    assert answer["Errors"][0]["Code"] == "InvalidArgument"


def test_a_bucket_with_old_versions_is_not_empty(s3: S3Client, versioned: str) -> None:
    version = put(s3, versioned, "x")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    assert status_of(refused(s3.delete_bucket, Bucket=versioned)) == (409, "BucketNotEmpty")
    for each in (version, marker):
        s3.delete_object(Bucket=versioned, Key="k", VersionId=each)
    s3.delete_bucket(Bucket=versioned)


def test_conditions_are_about_the_newest_version(s3: S3Client, versioned: str) -> None:
    etag = s3.put_object(Bucket=versioned, Key="k", Body="x")["ETag"]
    error = refused(s3.put_object, Bucket=versioned, Key="k", Body="y", IfNoneMatch="*")
    assert status_of(error) == (412, "PreconditionFailed")
    s3.put_object(Bucket=versioned, Key="k", Body="y", IfMatch=etag)
    s3.delete_object(Bucket=versioned, Key="k")
    s3.put_object(Bucket=versioned, Key="k", Body="z", IfNoneMatch="*")
    assert get(s3, versioned) == "z"
