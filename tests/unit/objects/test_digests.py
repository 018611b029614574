"""Digests of a body: what was promised, what is stored, whichever way the body comes."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.errors import BadDigest
from flared.objects.crc import CRC32C, CRC64NVME, by_table
from flared.objects.digests import (
    CHECKSUMS,
    CRCS,
    SHA256,
    BodyDigests,
    Digests,
    Tag,
    composite,
    full_object,
    to_text,
)
from tests.support.threads import InlineThreads

BODIES = st.binary(max_size=200)


def expected(data: bytes) -> dict[str, bytes]:
    """Every digest of the body, by others than what is tested."""
    return {
        "md5": hashlib.md5(data).digest(),
        "sha1": hashlib.sha1(data).digest(),
        "sha256": hashlib.sha256(data).digest(),
        "crc32": zlib.crc32(data).to_bytes(4, "big"),
        "crc32c": by_table(CRC32C, data, 0).to_bytes(4, "big"),
        "crc64nvme": by_table(CRC64NVME, data, 0).to_bytes(8, "big"),
    }


def passed(asked: Digests, data: bytes, at: int = 0) -> BodyDigests:
    passing = BodyDigests(asked)
    passing.update(data[:at])
    passing.update(memoryview(data)[at:])
    return passing


@given(BODIES, st.integers(0, 200), st.sampled_from(["before", "wanted", "late"]))
def test_digests_do_not_depend_on_how_a_body_is_cut(data: bytes, at: int, when: str) -> None:
    digests = expected(data)
    checksums = {name: digests[name] for name in CHECKSUMS}
    before = Digests(digests["md5"], digests["sha256"], checksums, etag=Tag.MD5)
    wanted = Digests(wanted=CHECKSUMS, etag=Tag.MD5)
    late = Digests(wanted=CHECKSUMS, late=lambda: checksums, etag=Tag.MD5)
    sums = passed({"before": before, "wanted": wanted, "late": late}[when], data, at).finish()
    assert sums.etag == hashlib.md5(data).hexdigest()
    assert sums.checksums == {name: base64.b64encode(digest).decode() for name, digest in checksums.items()}


@pytest.mark.parametrize("name", ["md5", *CHECKSUMS])
@pytest.mark.parametrize("late", [False, True])
def test_a_digest_that_does_not_match_is_refused(name: str, late: bool) -> None:
    wrong = {name: bytes(len(expected(b"")[name]))}
    asked = Digests(checksums=wrong) if name != "md5" else Digests(md5=wrong[name])
    if late and name != "md5":
        asked = Digests(wanted=(name,), late=lambda: wrong)
    passing = passed(asked, b"body")
    with pytest.raises(BadDigest, match=to_text(expected(b"body")[name]).replace("+", "[+]")) as raised:
        passing.finish()
    assert raised.value.algorithm == name


def test_a_late_digest_that_was_not_announced_is_refused() -> None:
    with pytest.raises(BadDigest):
        passed(Digests(wanted=("crc32",), late=lambda: {"crc32c": bytes(4)}), b"body").finish()


def test_the_sha256_of_a_whole_body_is_not_computed_again() -> None:
    passing = BodyDigests(Digests(wanted=(SHA256,)))
    passing.update(b"body", sha256=b"known from elsewhere")
    assert passing.finish().checksums == {SHA256: to_text(b"known from elsewhere")}


def test_nothing_is_computed_that_was_not_asked_for() -> None:
    assert not BodyDigests(Digests()).wanted
    assert BodyDigests(Digests()).finish().etag == ""
    assert not BodyDigests(Digests(etag="copied")).wanted
    assert BodyDigests(Digests(etag="copied")).finish().etag == "copied"


@pytest.mark.parametrize("size", [0, 5, 200_000])
async def test_threads_come_to_the_same(size: int) -> None:
    data = bytes(size)
    passing = BodyDigests(Digests(wanted=("sha1", "sha256", "crc32"), etag=Tag.MD5))
    await passing.update_in(InlineThreads(), memoryview(data))
    assert passing.finish() == passed(Digests(wanted=("sha1", "sha256", "crc32"), etag=Tag.MD5), data).finish()


@given(st.lists(BODIES, min_size=1, max_size=5))
def test_a_body_in_parts(parts: list[bytes]) -> None:
    whole = expected(b"".join(parts))
    for name in CRCS:
        digests = [expected(part)[name] for part in parts]
        assert full_object(name, zip(digests, map(len, parts), strict=True)) == to_text(whole[name])
    sha = [hashlib.sha256(part).digest() for part in parts]
    assert composite("sha256", sha) == f"{to_text(hashlib.sha256(b''.join(sha)).digest())}-{len(parts)}"
