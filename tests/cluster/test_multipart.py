"""Uploads in parts, from the verbs down to the pieces: what they become, who wins, and that nothing is left over."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest
import trio

from flared.catalog.details import Details
from flared.catalog.restored import ORPHANS_KEPT_MS, accept_metadata
from flared.catalog.uploads import list_all_uploads
from flared.errors import (
    BadDigest,
    BadPart,
    BadPartOrder,
    BadRange,
    BadRequest,
    FlareError,
    NoSuchBucket,
    NoSuchUpload,
    PartTooSmall,
    PreconditionFailed,
    TooLarge,
)
from flared.names import BucketName, ObjectKey, ObjectName
from flared.objects.buckets import create_bucket, remove_bucket
from flared.objects.commit import ObjectHeaders, PutResult
from flared.objects.complete_upload import NO_PROMISE, NamedPart, Promise, complete_upload
from flared.objects.conditions import UNCONDITIONAL, Conditions, ReadConditions
from flared.objects.copy import copy_object
from flared.objects.delete import delete_object
from flared.objects.digests import NO_DIGESTS, Digests, begin, to_text
from flared.objects.get import find_object, open_object
from flared.objects.listing import list_chunks
from flared.objects.parts import list_object_parts, part_count
from flared.objects.ranges import PartRequest, RangeRequest
from flared.objects.store import now_ms
from flared.objects.upload_part import copy_part, upload_part
from flared.objects.uploads import abort_upload, create_upload, list_parts, list_uploads
from tests.support.checkers import recount
from tests.support.cluster import CHUNK, GRACE, MULTIPART_TTL, PART_SIZE_MIN, Cluster, name
from tests.support.piece_nodes import MemorySource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from flared.catalog.uploads import Part, UploadId

PLAIN = ObjectHeaders()
NAME = name("a")
SIZES = (PART_SIZE_MIN, CHUNK, 2 * CHUNK + 5, 1)
"""Parts of one chunk, of a whole one, of several, and a short last one."""


def body(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def bodies(sizes: Sequence[int] = SIZES) -> list[bytes]:
    return [body(number, size) for number, size in enumerate(sizes, 1)]


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def etag_of(parts: Sequence[bytes]) -> str:
    return f"{md5(b''.join(bytes.fromhex(md5(part)) for part in parts))}-{len(parts)}"


class Uploading:
    """One upload of one object."""

    def __init__(self, cluster: Cluster, upload: UploadId, target: ObjectName = NAME) -> None:
        self.cluster = cluster
        self.id = upload
        self.name = target

    async def put(self, number: int, data: bytes, *, known: bool = True, digests: Digests = NO_DIGESTS) -> Part:
        source = MemorySource(data, known=known)
        result = await upload_part(self.cluster.store, self.name, self.id, number, source, digests=digests)
        return result.part

    async def complete(
        self,
        parts: Sequence[Part],
        when: Conditions = UNCONDITIONAL,
        promise: Promise = NO_PROMISE,
    ) -> PutResult:
        named = [NamedPart(part.number, part.etag) for part in parts]
        return await complete_upload(self.cluster.store, self.name, self.id, named, when=when, promise=promise)

    async def abort(self) -> None:
        await abort_upload(self.cluster.store, self.name, self.id)


async def begun(cluster: Cluster, target: ObjectName = NAME, **options: object) -> Uploading:
    upload = await create_upload(cluster.store, target, **{"headers": PLAIN, **options})  # type: ignore[arg-type]
    return Uploading(cluster, upload.id, target)


async def read(cluster: Cluster, wanted: RangeRequest | PartRequest | None = None, target: ObjectName = NAME) -> bytes:
    async with open_object(cluster.store, target, range=wanted) as reading:
        parts = []
        while (view := await reading.next()) is not None:
            parts.append(bytes(view))
        return b"".join(parts)


async def check_clean(cluster: Cluster) -> None:
    """Everything counts, and the nodes hold what the records say, once the sweep had its time."""
    await trio.sleep(10 * GRACE)
    assert await recount(cluster.kv, cluster.store.totals) == []
    assert await cluster.find_held() == await cluster.recorded_pieces()


async def test_parts_become_an_object_and_no_byte_is_written_again(autojump_clock: MockClock) -> None:
    cluster, data = Cluster(), bodies()
    details = Details({"expires": "never"}, tags={"a": "b"})
    async with cluster.running():
        uploading = await begun(cluster, headers=ObjectHeaders("text/x", {"who": "me"}, details))
        parts = [await uploading.put(number, part, known=number % 2 == 0) for number, part in enumerate(data, 1)]
        assert [part.etag for part in parts] == [md5(part) for part in data]
        assert await recount(cluster.kv) == []
        before = cluster.held_pieces()
        result = await uploading.complete(parts)
        assert cluster.held_pieces() == before
        manifest = result.manifest
        assert result.created
        assert (manifest.size, manifest.etag) == (sum(SIZES), etag_of(data))
        assert (manifest.content_type, manifest.user, manifest.details) == ("text/x", {"who": "me"}, details)
        assert part_count(manifest) == len(data)
        assert await recount(cluster.kv) == []
        await check_clean(cluster)
        whole = b"".join(data)
        assert await read(cluster) == whole
        for number, part in enumerate(data, 1):
            assert await read(cluster, PartRequest(number)) == part
        rng = random.Random(1)
        for _ in range(30):
            first = rng.randrange(len(whole))
            last = rng.randrange(first, len(whole))
            assert await read(cluster, RangeRequest(first, last)) == whole[first : last + 1]
        page = await list_chunks(cluster.store, NAME, first=1, limit=3)
        assert [record.size for record in page.chunks] == [CHUNK, CHUNK, CHUNK]
        assert page.next == 4
        rest = await list_chunks(cluster.store, NAME, first=4)
        assert ([record.size for record in rest.chunks], rest.next) == ([5, 1], None)


async def test_an_object_in_parts_is_copied_overwritten_and_deleted_without_a_trace(autojump_clock: MockClock) -> None:
    cluster, data = Cluster(), bodies()
    async with cluster.running():
        uploading = await begun(cluster)
        first = await uploading.complete([await uploading.put(number, part) for number, part in enumerate(data, 1)])
        copied = await copy_object(cluster.store, NAME, name("copy"))
        assert copied.manifest.etag == first.manifest.etag
        again = await begun(cluster)
        await again.complete([await again.put(1, body(9, 10))])
        await check_clean(cluster)
        assert await read(cluster, target=name("copy")) == b"".join(data)
        assert await read(cluster, PartRequest(3), name("copy")) == data[2]
        assert await read(cluster) == body(9, 10)
        await delete_object(cluster.store, name("copy"))
        await delete_object(cluster.store, NAME)
        await check_clean(cluster)
        assert cluster.piece_count() == 0


async def test_only_named_parts_are_in_the_object_and_the_others_go(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with cluster.running():
        uploading = await begun(cluster)
        parts = [await uploading.put(number, body(number, CHUNK)) for number in (2, 5, 9)]
        parts[1] = await uploading.put(5, body(50, PART_SIZE_MIN))
        result = await uploading.complete([parts[1], parts[2]])
        assert await read(cluster) == body(50, PART_SIZE_MIN) + body(9, CHUNK)
        await check_clean(cluster)
        assert cluster.piece_count() == 2 * 3
        assert await read(cluster, PartRequest(9)) == body(9, CHUNK)
        for number in (1, 2, 8, 10):
            with pytest.raises(BadPart):
                await read(cluster, PartRequest(number))
        listed = await list_object_parts(cluster.kv, result.manifest, 0, 1)
        assert ([child.number for child in listed.parts], listed.total, listed.more) == ([5], 2, True)
        listed = await list_object_parts(cluster.kv, result.manifest, 5, 1)
        assert ([child.number for child in listed.parts], listed.more) == ([9], False)


async def test_an_object_that_was_put_whole_is_its_own_only_part(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with cluster.running():
        for size in (0, 10, CHUNK, 3 * CHUNK):
            result = await cluster.put("a", body(1, size))
            assert part_count(result.manifest) == 0
            assert await read(cluster, PartRequest(1)) == body(1, size)
            with pytest.raises(BadPart):
                await read(cluster, PartRequest(2))


async def test_an_empty_part_may_be_all_there_is_or_the_last(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with cluster.running():
        uploading = await begun(cluster)
        result = await uploading.complete([await uploading.put(1, b"")])
        assert (result.manifest.size, await read(cluster)) == (0, b"")
        uploading = await begun(cluster)
        parts = [await uploading.put(1, body(1, CHUNK)), await uploading.put(2, b"", known=False)]
        await uploading.complete(parts)
        assert await read(cluster) == body(1, CHUNK)
        assert await read(cluster, PartRequest(2)) == b""
        await check_clean(cluster)


async def test_what_is_named_wrongly_is_refused_and_the_upload_stays(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with cluster.running():
        uploading = await begun(cluster)
        good = [await uploading.put(number, body(number, PART_SIZE_MIN)) for number in (1, 2)]
        small = await uploading.put(3, b"x")

        async def check(error: type[FlareError], parts: Sequence[Part], **options: object) -> None:
            with pytest.raises(error):
                await uploading.complete(parts, **options)  # type: ignore[arg-type]

        await check(BadRequest, [])
        await check(BadPartOrder, good[::-1])
        await check(BadPartOrder, [good[0], good[0]])
        await check(BadPart, [good[0]._replace(number=4)])
        await check(BadPart, [good[0]._replace(number=10_001)])
        await check(BadPart, [good[0]._replace(etag=good[1].etag)])
        await check(BadPart, [good[0]._replace(etag="not hex")])
        await check(PartTooSmall, [good[0], small, good[1]._replace(number=4)])
        await check(BadRequest, good, promise=Promise(size=5))
        await check(PreconditionFailed, good, when=Conditions(if_match=("x",)))
        cluster.store.limits.object_size_max = 2 * PART_SIZE_MIN - 1
        await check(TooLarge, good)
        cluster.store.limits.object_size_max = 1 << 40
        assert await recount(cluster.kv) == []
        await check_clean(cluster)
        await uploading.complete([*good, small], promise=Promise(size=2 * PART_SIZE_MIN + 1))
        assert len(await read(cluster)) == 2 * PART_SIZE_MIN + 1


async def test_a_part_that_is_not_as_promised_leaves_the_upload_as_it_was(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with cluster.running():
        uploading = await begun(cluster)
        before = await uploading.put(1, body(1, 10))
        for size in (10, CHUNK, 3 * CHUNK):
            with pytest.raises(BadDigest):
                await uploading.put(1, body(2, size), digests=Digests(md5=b"0" * 16))
        for number in (0, 10_001):
            with pytest.raises(BadPart):
                await uploading.put(number, b"x")
        _, parts, _ = await list_parts(cluster.store, NAME, uploading.id)
        assert parts == [before]
        await check_clean(cluster)


@pytest.mark.parametrize("algorithm", ["crc32", "crc64nvme", "sha256"])
@pytest.mark.parametrize("size", [CHUNK, 2 * CHUNK + 3])
async def test_checksums_of_parts_are_kept_and_become_one(autojump_clock: MockClock, algorithm: str, size: int) -> None:
    cluster, data = Cluster(), bodies((size, CHUNK, 5))

    def checksum(content: bytes) -> bytes:
        running = begin(algorithm)
        running.update(content)
        return running.digest()

    async with cluster.running():
        whole = algorithm.startswith("crc")
        uploading = await begun(cluster, algorithm=algorithm, full_object=whole)
        parts = [await uploading.put(number, part) for number, part in enumerate(data, 1)]
        assert [part.checksum for part in parts] == [to_text(checksum(part)) for part in data]
        expected = to_text(checksum(b"".join(data if whole else [checksum(part) for part in data])))
        for wrong in (to_text(checksum(b"x")), "not base64"):
            with pytest.raises(BadDigest):
                await uploading.complete(parts, promise=Promise(algorithm, wrong))
        for other in (Promise("sha1", expected), Promise(full_object=not whole)):
            with pytest.raises(BadRequest):
                await uploading.complete(parts, promise=other)
        with pytest.raises(BadRequest):
            await uploading.put(4, b"x", digests=Digests(checksums={"sha1": b"x" * 20}))
        named = [NamedPart(part.number, part.etag, to_text(b"wrong")) for part in parts]
        with pytest.raises(BadPart):
            await complete_upload(cluster.store, NAME, uploading.id, named)
        result = await uploading.complete(parts, promise=Promise(algorithm, expected, whole))
        details = result.manifest.details
        assert details is not None
        assert (details.checksums[algorithm], details.composite) == (expected + ("" if whole else "-3"), not whole)
        listed = await list_object_parts(cluster.kv, result.manifest, 0, 10)
        assert [child.checksum for child in listed.parts] == [part.checksum for part in parts]


async def test_a_completion_that_was_answered_is_answered_again(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with cluster.running():
        uploading = await begun(cluster)
        parts = [await uploading.put(1, body(1, CHUNK))]
        only_new = Conditions(if_none_match=("*",))
        first = await uploading.complete(parts, when=only_new)
        again = await uploading.complete(parts, when=only_new)
        assert again == PutResult(first.manifest, created=False)
        other = [parts[0]._replace(etag=md5(b"other"))]
        for wrong in (other, [parts[0]._replace(etag="not hex")]):
            with pytest.raises(NoSuchUpload):
                await uploading.complete(wrong)
        with pytest.raises(NoSuchUpload):
            await uploading.abort()
        await cluster.put("a", b"something else")
        with pytest.raises(NoSuchUpload):
            await uploading.complete(parts)
        await check_clean(cluster)


async def test_two_completions_at_once_make_one_object(autojump_clock: MockClock) -> None:
    cluster, data = Cluster(), bodies((CHUNK, CHUNK, 7))
    async with cluster.running():
        uploading = await begun(cluster)
        parts = [await uploading.put(number, part) for number, part in enumerate(data, 1)]
        results: list[PutResult] = []

        async def complete() -> None:
            results.append(await uploading.complete(parts))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(complete)
        assert sum(result.created for result in results) == 1
        assert len({result.manifest.version for result in results}) == 1
        assert await read(cluster) == b"".join(data)
        await check_clean(cluster)


@pytest.mark.parametrize("turn", range(12))
async def test_of_a_completion_and_an_abort_at_once_one_wins(autojump_clock: MockClock, turn: int) -> None:
    cluster, data = Cluster(), bodies((CHUNK, 7))
    won: list[str] = []
    async with cluster.running():
        uploading = await begun(cluster)
        parts = [await uploading.put(number, part) for number, part in enumerate(data, 1)]

        async def complete() -> None:
            try:
                await uploading.complete(parts)
                won.append("completion")
            except NoSuchUpload:
                pass

        async def abort() -> None:
            for _ in range(turn):
                await trio.lowlevel.checkpoint()
            try:
                await uploading.abort()
                won.append("abort")
            except NoSuchUpload:
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(complete)
            nursery.start_soon(abort)
        assert len(won) == 1
        if won == ["completion"]:
            assert await read(cluster) == b"".join(data)
        await check_clean(cluster)
        assert cluster.piece_count() == (6 if won == ["completion"] else 0)


@pytest.mark.parametrize("turn", range(0, 24, 2))
async def test_a_part_put_while_the_upload_is_completed_is_in_it_or_refused(
    autojump_clock: MockClock, turn: int
) -> None:
    """Or it is named by an etag that it does not have any more."""
    cluster = Cluster()
    outcome: dict[str, bool] = {}
    async with cluster.running():
        uploading = await begun(cluster)
        parts = [await uploading.put(1, body(1, CHUNK)), await uploading.put(2, body(2, 5))]

        async def complete() -> None:
            for _ in range(turn):
                await trio.lowlevel.checkpoint()
            try:
                await uploading.complete(parts)
                outcome["completed"] = True
            except BadPart:
                outcome["completed"] = False

        async def put() -> None:
            try:
                await uploading.put(2, body(3, 9))
                outcome["put"] = True
            except NoSuchUpload:
                outcome["put"] = False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(complete)
            nursery.start_soon(put)
        assert outcome["completed"] != outcome["put"]
        if outcome["completed"]:
            assert await read(cluster) == body(1, CHUNK) + body(2, 5)
        else:
            _, now, _ = await list_parts(cluster.store, NAME, uploading.id)
            assert [part.etag for part in now] == [md5(body(1, CHUNK)), md5(body(3, 9))]
            await uploading.complete(now)
            assert await read(cluster) == body(1, CHUNK) + body(3, 9)
        await check_clean(cluster)


async def test_an_aborted_upload_leaves_nothing_and_refuses_what_comes_late(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with cluster.running():
        uploading = await begun(cluster)
        for number, part in enumerate(bodies(), 1):
            await uploading.put(number, part)
        await uploading.abort()
        for late in (uploading.abort, lambda: uploading.put(1, body(1, 3 * CHUNK)), lambda: uploading.complete([])):
            with pytest.raises((NoSuchUpload, BadRequest)):
                await late()
        with pytest.raises(NoSuchUpload):
            await list_parts(cluster.store, NAME, uploading.id)
        await check_clean(cluster)
        assert cluster.piece_count() == 0


async def test_a_crash_at_any_moment_of_a_completion_loses_nothing(autojump_clock: MockClock) -> None:
    cluster, data = Cluster(), bodies((CHUNK, CHUNK, 7))
    async with cluster.running():
        uploading = await begun(cluster)
        parts = [await uploading.put(number, part) for number, part in enumerate(data, 1)]
    done = False
    for turn in range(60):
        async with cluster.running():
            uploading.cluster = cluster
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def crash(turn: int = turn, scope: trio.CancelScope = scope) -> None:
                        for _ in range(turn):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(crash)
                    await uploading.complete(parts)
                    done = True
                    nursery.cancel_scope.cancel()
            assert await recount(cluster.kv) == []
        if done:
            break
    assert done
    async with cluster.running():
        assert await read(cluster) == b"".join(data)
        await check_clean(cluster)


async def test_a_part_is_copied_from_a_range_and_whole_chunks_are_not_written_again(autojump_clock: MockClock) -> None:
    cluster, whole = Cluster(), body(1, 4 * CHUNK + 100)
    async with cluster.running():
        await cluster.put("source", whole)
        uploading = await begun(cluster)

        async def copy(number: int, within: tuple[int, int] | None) -> Part:
            result = await copy_part(cluster.store, name("source"), NAME, uploading.id, number, within=within)
            return result.part

        before = cluster.held_pieces()
        aligned = await copy(1, (0, 2 * CHUNK - 1))
        rest = await copy(3, (2 * CHUNK, len(whole) - 1))
        assert len(cluster.held_pieces() - before) <= 3, "only the short chunk at the end is too small to be shared"
        assert aligned.etag == md5(whole[: 2 * CHUNK])
        crooked = await copy(2, (7, PART_SIZE_MIN + 10))
        everything = await copy(4, None)
        for outside in ((0, len(whole)), (len(whole), len(whole))):
            with pytest.raises(BadRange):
                await copy(5, outside)
        only = ReadConditions(if_match=("other",))
        with pytest.raises(PreconditionFailed):
            await copy_part(cluster.store, name("source"), NAME, uploading.id, 5, only=only)
        await uploading.complete([aligned, crooked, rest, everything])
        await delete_object(cluster.store, name("source"))
        await check_clean(cluster)
        expected = whole[: 2 * CHUNK] + whole[7 : PART_SIZE_MIN + 11] + whole[2 * CHUNK :] + whole
        assert await read(cluster) == expected


async def test_uploads_are_listed_until_they_end(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with cluster.running():
        first, second = await begun(cluster), await begun(cluster, name("b"))
        listed = await list_uploads(cluster.store, NAME.bucket)
        assert [upload.id for upload in listed.uploads] == [first.id, second.id]
        parts = [await first.put(number, b"x") for number in (1, 2, 3)]
        upload, found, more = await list_parts(cluster.store, NAME, first.id, after=1, limit=1)
        assert (upload.id, found, more) == (first.id, [parts[1]], True)
        await first.complete(parts[:1])
        await second.abort()
        assert (await list_uploads(cluster.store, NAME.bucket)).uploads == ()
        with pytest.raises(NoSuchBucket):
            await list_uploads(cluster.store, BucketName("none"))
        with pytest.raises(NoSuchBucket):
            await begun(cluster, ObjectName(BucketName("none"), ObjectKey("a")))


async def test_parts_follow_the_settings_of_their_bucket(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    other = ObjectName(BucketName("other"), ObjectKey("a"))
    async with cluster.running():
        await create_bucket(cluster.store, other.bucket, scheme="replica:1", chunk_size=64 * 1024)
        uploading = await begun(cluster, other)
        await uploading.complete([await uploading.put(1, body(1, CHUNK))])
        manifest = await find_object(cluster.store, other)
        assert manifest.extents[0].chunks == 4
        assert await read(cluster, target=other) == body(1, CHUNK)
        result = await copy_object(cluster.store, other, NAME)
        assert result.manifest.etag == manifest.etag
        assert await read(cluster) == body(1, CHUNK)
        await check_clean(cluster)


async def test_lost_pieces_of_parts_are_rebuilt(autojump_clock: MockClock) -> None:
    cluster, data = Cluster(), bodies()
    async with cluster.running():
        uploading = await begun(cluster)
        await uploading.complete([await uploading.put(number, part) for number, part in enumerate(data, 1)])
        await uploading.cluster.put("other", b"x")
        held = await cluster.find_held()
        cluster.members["data1"].pieces.clear()
        cluster.members["data1"].instance += 1
        await trio.sleep(20 * GRACE)
        assert await read(cluster) == b"".join(data)
        assert await cluster.find_held() == held


async def test_an_upload_that_rests_for_long_is_aborted(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await create_bucket(cluster.store, BucketName("other"))
        left, goes_on = await begun(cluster), await begun(cluster)
        orphan = await begun(cluster, ObjectName(BucketName("other"), ObjectKey("a")))
        for uploading in (left, goes_on, orphan):
            await uploading.put(1, body(1, 3 * CHUNK))
        assert await remove_bucket(cluster.store, BucketName("other"))
        await trio.sleep(MULTIPART_TTL - 10 * GRACE)
        assert await upload_ids(cluster) == {left.id, goes_on.id}
        await goes_on.put(7, body(2, 5))
        await trio.sleep(MULTIPART_TTL - 5 * GRACE)
        assert await upload_ids(cluster) == {goes_on.id}
        await goes_on.put(8, body(2, 5))
        statistics = cluster.upkeep.old_uploads.statistics()
        assert (statistics.open, statistics.aborted) == (1, 2)
        await trio.sleep(2 * MULTIPART_TTL)
        await check_clean(cluster)
        assert cluster.piece_count() == 0


async def test_after_a_restore_no_upload_is_aborted_for_some_days(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with cluster.running():
        uploading = await begun(cluster)
        kept_ms = int(3000 * MULTIPART_TTL)
        await accept_metadata(cluster.kv, now_ms(cluster.store) - ORPHANS_KEPT_MS + kept_ms)
        await trio.sleep(kept_ms / 1000 - 10)
        assert await upload_ids(cluster) == {uploading.id}
        await trio.sleep(MULTIPART_TTL)
        assert await upload_ids(cluster) == set()


async def upload_ids(cluster: Cluster) -> set[str]:
    return {upload.id for _, upload in await list_all_uploads(cluster.kv, b"", 100)}
