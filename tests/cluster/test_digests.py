"""Digests that a put is asked for, for every way that a body takes."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from flared.catalog.details import Details
from flared.errors import BadDigest, NoSuchObject
from flared.names import BucketName, ObjectName
from flared.objects.buckets import create_bucket
from flared.objects.commit import ObjectHeaders, PutResult
from flared.objects.copy import copy_object
from flared.objects.digests import CHECKSUMS, Digests, Tag, to_text
from flared.objects.get import find_object
from flared.objects.put import put_object
from tests.support.cluster import CHUNK, GRACE, Cluster, name
from tests.support.piece_nodes import MemorySource
from tests.unit.objects.test_digests import expected

Clock = trio.testing.MockClock
SIZES = pytest.mark.parametrize("size", [0, 100, 40_000, CHUNK, 9 * CHUNK + 1])
KNOWN = pytest.mark.parametrize("known", [True, False])


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def put(cluster: Cluster, size: int, known: bool, digests: Digests) -> PutResult:
    source = MemorySource(noise(size), known=known)
    headers = ObjectHeaders(details=Details({"expires": "x"}, tags={"a": "b"}))
    return await put_object(cluster.store, name("a"), source, headers=headers, digests=digests)


@SIZES
@KNOWN
async def test_what_was_asked_for_is_stored(autojump_clock: Clock, size: int, known: bool) -> None:
    cluster = Cluster()
    digests = expected(noise(size))
    async with cluster.running():
        late = {"crc32": digests["crc32"]}
        asked = Digests(sha256=digests["sha256"], wanted=CHECKSUMS, late=lambda: late, etag=Tag.MD5)
        written = (await put(cluster, size, known, asked)).manifest
        found = await find_object(cluster.store, name("a"))
        assert found == written
        assert found.etag == digests["md5"].hex()
        sums = {checksum: to_text(digests[checksum]) for checksum in CHECKSUMS}
        assert found.details == Details({"expires": "x"}, sums, tags={"a": "b"})
        assert await cluster.get("a") == noise(size)


@SIZES
@KNOWN
async def test_a_wrong_late_digest_leaves_nothing(autojump_clock: Clock, size: int, known: bool) -> None:
    cluster = Cluster()
    async with cluster.running():
        with pytest.raises(BadDigest):
            await put(cluster, size, known, Digests(wanted=("crc32c",), late=lambda: {"crc32c": b"none"}))
        with pytest.raises(NoSuchObject):
            await cluster.get("a")
        await trio.sleep(20 * GRACE)
        assert cluster.piece_count() == 0


@SIZES
@pytest.mark.parametrize("rewritten", [False, True])
async def test_a_copy_keeps_etag_and_details(autojump_clock: Clock, size: int, rewritten: bool) -> None:
    cluster = Cluster()
    async with cluster.running():
        written = (await put(cluster, size, True, Digests(wanted=("crc32c",), etag=Tag.MD5))).manifest
        target = name("copy")
        if rewritten:
            target = ObjectName(BucketName("other"), target.key)
            await create_bucket(cluster.store, target.bucket, chunk_size=2 * CHUNK)
        await copy_object(cluster.store, name("a"), target)
        copied = await find_object(cluster.store, target)
        assert (copied.etag, copied.details) == (written.etag, written.details)
        said = ObjectHeaders("a/b", {"u": "v"}, Details({"expires": "y"}))
        await copy_object(cluster.store, name("a"), target, headers=said)
        copied = await find_object(cluster.store, target)
        assert written.details is not None
        assert (copied.content_type, copied.details) == ("a/b", written.details._replace(fields={"expires": "y"}))
