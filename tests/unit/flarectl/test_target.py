from __future__ import annotations

import pytest

from flarectl.errors import Refusal, Usage
from flarectl.target import Exclusion, Target, object_path, parse_size, parse_target
from flared.names import BucketName


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("a/b", "default", "a/b"),
        ("", "default", ""),
        (":", "default", ""),
        (":a", "default", "a"),
        ("backup:", "backup", ""),
        ("backup:a:b", "backup", "a:b"),
        ("default:a:b", "default", "a:b"),
        ("backup:/abs", "backup", "/abs"),
    ],
)
def test_an_address_is_a_bucket_and_a_key(text: str, bucket: str, key: str) -> None:
    target = parse_target(text)
    assert (target.bucket, target.key) == (bucket, key)
    assert parse_target(str(target)) == target


def test_a_wrong_bucket_is_refused_with_the_way_out() -> None:
    with pytest.raises(Usage, match="write default:Bad:key"):
        parse_target("Bad:key")


@pytest.mark.parametrize("key", ["x" * 1025, "nul\0", "\udcff"])
def test_what_no_object_can_be_called_is_refused(key: str) -> None:
    with pytest.raises(Refusal):
        Target(BucketName("default"), key).object_key()


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a/b c", "a/b%20c"),
        ("1+1%", "1%2B1%25"),
        ("../x/./y", "%2E%2E/x/%2E/y"),
        ("//a", "//a"),
        ("...", "..."),
        ("ä?#", "%C3%A4%3F%23"),
    ],
)
def test_a_key_is_encoded_so_that_it_arrives_as_it_is(key: str, path: str) -> None:
    assert object_path("b-b", key) == f"/bucket/b-b/object/{path}"


@pytest.mark.parametrize(
    ("pattern", "relative", "excluded"),
    [
        ("*.log", "a.log", True),
        ("*.log", "sub/deep/a.log", True),
        ("*.log", "a.txt", False),
        ("sub", "sub/a", True),
        ("sub", "other/sub/a", True),
        ("sub/", "sub/a", True),
        ("sub/*.txt", "sub/a.txt", True),
        ("sub/*.txt", "other/sub/a.txt", False),
        ("/a.txt", "a.txt", True),
        ("/a.txt", "sub/a.txt", False),
    ],
)
def test_exclude_matches_names_and_paths(pattern: str, relative: str, excluded: bool) -> None:
    assert (relative in Exclusion((pattern,))) is excluded


@pytest.mark.parametrize(("text", "size"), [("8MiB", 8 << 20), ("512 KiB", 512 << 10), ("7", 7), ("1GiB", 1 << 30)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_size_without_sense_is_refused() -> None:
    with pytest.raises(Usage, match="is not a valid size"):
        parse_size("8 MB")
