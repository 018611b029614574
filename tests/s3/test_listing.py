"""Listings, in both versions of the call."""

from __future__ import annotations

from typing import Any

import pytest

from tests.s3.conftest import Place, S3Client
from tests.s3.support import check_error, keys_of, prefixes_of, put_all

KEYS = ["asdf", "boo/bar", "boo/baz/xyzzy", "cquux/thud", "cquux/bla"]


@pytest.fixture
def full(s3: S3Client, bucket: str) -> str:
    put_all(s3, bucket, KEYS)
    return bucket


def check_pages(
    s3: S3Client, bucket: str, options: dict[str, Any], size: int, pages: list[tuple[list[str], list[str]]]
) -> None:
    """Both calls give these keys and prefixes, page by page."""
    marker: dict[str, str] = {}
    token: dict[str, str] = {}
    for number, (keys, prefixes) in enumerate(pages, 1):
        last = number == len(pages)
        page = s3.list_objects(Bucket=bucket, MaxKeys=size, **options, **marker)
        assert (keys_of(page), prefixes_of(page), page["IsTruncated"]) == (keys, prefixes, not last)
        marker = {"Marker": page.get("NextMarker") or (keys[-1] if keys else "")}
        page = s3.list_objects_v2(Bucket=bucket, MaxKeys=size, **options, **token)
        assert (keys_of(page), prefixes_of(page), page["IsTruncated"]) == (keys, prefixes, not last)
        assert page["KeyCount"] == len(keys) + len(prefixes)
        token = {} if last else {"ContinuationToken": page["NextContinuationToken"]}


def test_delimiters(s3: S3Client, full: str) -> None:
    check_pages(s3, full, {"Delimiter": "/"}, 1000, [(["asdf"], ["boo/", "cquux/"])])
    check_pages(s3, full, {"Delimiter": "/"}, 1, [(["asdf"], []), ([], ["boo/"]), ([], ["cquux/"])])
    check_pages(s3, full, {"Delimiter": "/"}, 2, [(["asdf"], ["boo/"]), ([], ["cquux/"])])
    check_pages(s3, full, {"Delimiter": "/", "Prefix": "boo/"}, 1, [(["boo/bar"], []), ([], ["boo/baz/"])])
    check_pages(
        s3,
        full,
        {"Delimiter": "z"},
        1000,
        [(["asdf", "boo/bar", "cquux/bla", "cquux/thud"], ["boo/baz"])][:0]
        or [(["asdf", "boo/bar", "cquux/bla", "cquux/thud"], ["boo/baz"])],
    )
    check_pages(s3, full, {"Delimiter": "%"}, 1000, [(sorted(KEYS), [])])
    check_pages(
        s3, full, {"Delimiter": "cquux/b"}, 1000, [(["asdf", "boo/bar", "boo/baz/xyzzy", "cquux/thud"], ["cquux/b"])]
    )
    check_pages(s3, full, {"Delimiter": ""}, 1000, [(sorted(KEYS), [])])


def test_prefixes(s3: S3Client, full: str) -> None:
    check_pages(s3, full, {"Prefix": "boo/"}, 1000, [(["boo/bar", "boo/baz/xyzzy"], [])])
    check_pages(s3, full, {"Prefix": ""}, 1000, [(sorted(KEYS), [])])
    check_pages(s3, full, {"Prefix": "d"}, 1000, [([], [])])
    check_pages(s3, full, {"Prefix": "boo/ba", "Delimiter": "/"}, 1000, [(["boo/bar"], ["boo/baz/"])])
    check_pages(s3, full, {"Prefix": "\n"}, 1000, [([], [])])
    check_pages(s3, full, {"Prefix": "y", "Delimiter": "d"}, 1000, [([], [])])


def test_what_is_echoed(s3: S3Client, full: str) -> None:
    page = s3.list_objects_v2(Bucket=full, Prefix="boo/", Delimiter="/", StartAfter="boo/a", MaxKeys=1)
    assert (page["Name"], page["Prefix"], page["Delimiter"]) == (full, "boo/", "/")
    assert (page["StartAfter"], page["MaxKeys"]) == ("boo/a", 1)
    assert "Delimiter" not in s3.list_objects(Bucket=full, Delimiter="")
    page = s3.list_objects(Bucket=full, Marker="boo/")
    assert (page["Marker"], page["MaxKeys"]) == ("boo/", 1000)


def test_pages_of_one(s3: S3Client, full: str) -> None:
    check_pages(s3, full, {}, 1, [([key], []) for key in sorted(KEYS)])


def test_markers(s3: S3Client, full: str) -> None:
    for marker, keys in (("blah", 4), ("", 5), ("zzz", 0), ("cquux/bla", 1), ("\n", 5)):
        assert len(keys_of(s3.list_objects(Bucket=full, Marker=marker))) == keys
        assert len(keys_of(s3.list_objects_v2(Bucket=full, StartAfter=marker))) == keys
    both = s3.list_objects_v2(Bucket=full, MaxKeys=1)
    page = s3.list_objects_v2(Bucket=full, StartAfter="cquux", ContinuationToken=both["NextContinuationToken"])
    assert len(keys_of(page)) == 4, "the token counts"


def test_no_keys(s3: S3Client, full: str) -> None:
    for call in (s3.list_objects, s3.list_objects_v2):
        page = call(Bucket=full, MaxKeys=0)
        assert (keys_of(page), page["IsTruncated"]) == ([], False)


def test_what_cannot_be_asked(place: Place, s3: S3Client, full: str) -> None:
    from tests.s3.test_buckets import signed

    for query in ("max-keys=blah", "max-keys=-1", "encoding-type=base64", "list-type=2&continuation-token=abc"):
        status, _, body = signed(place, "GET", f"/{full}?{query}")
        assert (status, b"<Code>InvalidArgument</Code>" in body) == (400, True), query


def test_owners_and_times(s3: S3Client, full: str) -> None:
    owner = s3.list_buckets()["Owner"]["ID"]
    for entry in s3.list_objects(Bucket=full)["Contents"]:
        head = s3.head_object(Bucket=full, Key=entry["Key"])
        assert (entry["ETag"], entry["Size"]) == (head["ETag"], head["ContentLength"])
        assert entry["LastModified"].replace(microsecond=0) == head["LastModified"]
        assert (entry["Owner"]["ID"], entry["StorageClass"]) == (owner, "STANDARD")
    assert "Owner" not in s3.list_objects_v2(Bucket=full)["Contents"][0]
    assert s3.list_objects_v2(Bucket=full, FetchOwner=True)["Contents"][0]["Owner"]["ID"] == owner


def test_names_are_encoded_if_asked(place: Place, s3: S3Client, bucket: str) -> None:
    from tests.s3.test_buckets import signed

    put_all(s3, bucket, ["foo+1/bar", "foo/bar/xyzzy", "quux ab/thud", "asdf+b", "a\x01b"])
    _, _, body = signed(place, "GET", f"/{bucket}?delimiter=%2F&encoding-type=url")
    for part in (
        b"<Key>asdf%2Bb</Key>",
        b"<Prefix>foo%2B1/</Prefix>",
        b"<Prefix>quux%20ab/</Prefix>",
        b"<Key>a%01b</Key>",
    ):
        assert part in body
    assert keys_of(s3.list_objects_v2(Bucket=bucket, Delimiter="/")) == ["a\x01b", "asdf+b"]


def test_many_keys_in_pages_of_any_size(s3: S3Client, bucket: str) -> None:
    keys = [f"{number:04}" for number in range(120)]
    put_all(s3, bucket, keys)
    for size in (7, 50, 1000):
        found = [
            entry["Key"]
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
            for entry in page["Contents"]
        ]
        assert found == keys
    check_error(404, "NoSuchBucket", s3.list_objects_v2, Bucket="none-such-bucket")
