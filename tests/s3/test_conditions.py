"""Ranges and conditions of reads and writes."""

from __future__ import annotations

import datetime

import pytest

from tests.s3.conftest import S3Client
from tests.s3.support import body_of, check_error, status_of

CONTENT = b"testcontent" * 10
PAST = datetime.datetime(1994, 10, 29, 19, 43, 31, tzinfo=datetime.UTC)
FUTURE = datetime.datetime(2100, 10, 29, 19, 43, 31, tzinfo=datetime.UTC)


@pytest.fixture
def etag(s3: S3Client, bucket: str) -> str:
    tag: str = s3.put_object(Bucket=bucket, Key="a", Body=CONTENT)["ETag"]
    return tag


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("4-7", 4, 7), ("4-", 4, 109), ("-7", 103, 109), ("0-0", 0, 0), ("100-1000", 100, 109), ("-1000", 0, 109)],
)
def test_ranges(s3: S3Client, bucket: str, etag: str, asked: str, first: int, last: int) -> None:
    got = s3.get_object(Bucket=bucket, Key="a", Range=f"bytes={asked}")
    assert (status_of(got), got["ContentRange"]) == (206, f"bytes {first}-{last}/110")
    assert body_of(got) == CONTENT[first : last + 1]
    head = s3.head_object(Bucket=bucket, Key="a", Range=f"bytes={asked}")
    assert (status_of(head), head["ContentLength"]) == (206, last + 1 - first)


def test_ranges_that_do_not_touch_the_object(s3: S3Client, bucket: str, etag: str) -> None:
    for asked in ("110-", "40000-50000", "-0"):
        answer = check_error(416, "InvalidRange", s3.get_object, Bucket=bucket, Key="a", Range=f"bytes={asked}")
        assert answer["ResponseMetadata"]["HTTPHeaders"]["content-range"] == "bytes */110"
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    check_error(416, "InvalidRange", s3.get_object, Bucket=bucket, Key="empty", Range="bytes=0-")


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "bytes=7-4", "lines=1-2", "bytes=x"])
def test_what_is_not_one_range_means_the_whole(s3: S3Client, bucket: str, etag: str, asked: str) -> None:
    got = s3.get_object(Bucket=bucket, Key="a", Range=asked)
    assert (status_of(got), body_of(got)) == (200, CONTENT)


def test_conditions_of_reads(s3: S3Client, bucket: str, etag: str) -> None:
    read = {"Bucket": bucket, "Key": "a"}
    for right in (
        {"IfMatch": etag},
        {"IfMatch": etag.strip('"')},
        {"IfNoneMatch": '"other"'},
        {"IfModifiedSince": PAST},
        {"IfUnmodifiedSince": FUTURE},
        {"IfMatch": etag, "IfUnmodifiedSince": PAST},
        {"IfModifiedSince": FUTURE, "IfNoneMatch": '"other"'},
    ):
        assert body_of(s3.get_object(**read, **right)) == CONTENT
        assert status_of(s3.head_object(**read, **right)) == 200
    for wrong in ({"IfMatch": '"other"'}, {"IfUnmodifiedSince": PAST}):
        check_error(412, "PreconditionFailed", s3.get_object, **read, **wrong)
        check_error(412, "412", s3.head_object, **read, **wrong)
    modified = s3.head_object(**read)["LastModified"]
    for known in ({"IfNoneMatch": etag}, {"IfModifiedSince": modified}, {"IfNoneMatch": "*"}):
        answer = check_error(304, "304", s3.get_object, **read, **known)
        assert answer["ResponseMetadata"]["HTTPHeaders"]["etag"] == etag
        check_error(304, "304", s3.head_object, **read, **known)


def test_conditions_of_writes(s3: S3Client, bucket: str, etag: str) -> None:
    put = {"Bucket": bucket, "Key": "a", "Body": b"new"}
    answer = check_error(412, "PreconditionFailed", s3.put_object, **put, IfNoneMatch="*")
    assert answer["Error"]["Condition"] == "If-None-Match"
    answer = check_error(412, "PreconditionFailed", s3.put_object, **put, IfMatch='"other"')
    assert answer["Error"]["Condition"] == "If-Match"
    assert body_of(s3.get_object(Bucket=bucket, Key="a")) == CONTENT
    for tag in (etag, etag.strip('"'), etag[1:], etag[:-1], f'"other", {etag}'):
        s3.put_object(**put, IfMatch=tag)
        s3.put_object(Bucket=bucket, Key="a", Body=CONTENT)
    s3.put_object(**put, IfMatch=etag)
    assert body_of(s3.get_object(Bucket=bucket, Key="a")) == b"new"
    fresh = {"Bucket": bucket, "Key": "fresh", "Body": b"new"}
    check_error(404, "NoSuchKey", s3.put_object, **fresh, IfMatch=etag)
    s3.put_object(**fresh, IfNoneMatch="*")


def test_conditions_of_deletes(s3: S3Client, bucket: str, etag: str) -> None:
    check_error(412, "PreconditionFailed", s3.delete_object, Bucket=bucket, Key="a", IfMatch='"other"')
    assert status_of(s3.delete_object(Bucket=bucket, Key="a", IfMatch=etag)) == 204
    check_error(404, "404", s3.head_object, Bucket=bucket, Key="a")
