"""What the lifecycle rules of a bucket let go: objects and unfinished uploads, when their time has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from flared.catalog.bucket_documents import Kind
from flared.catalog.buckets import Versioning
from flared.catalog.details import EMPTY
from flared.catalog.objects import change_details, find_current
from flared.catalog.uploads import Upload, UploadId, create_upload, list_uploads
from flared.meta.keys import object_ as object_key
from flared.names import BucketName, ObjectKey, ObjectName
from flared.objects.bucket_documents import put_document
from flared.objects.buckets import create_bucket, set_versioning
from flared.objects.delete import delete_object
from flared.objects.lifecycle import Rule, encode_rules
from flared.objects.listing import list_versions
from flared.objects.store import now_ms
from flared.objects.tags import set_tags
from flared.upkeep.deletion import expire as expire_module
from flared.upkeep.deletion.expire import Expire
from tests.support.checkers import recount
from tests.support.cluster import GRACE, Cluster, name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from flared.meta.kv import KV, Transaction

Clock = trio.testing.MockClock

DAYS = 86_400.0


async def set_rules(cluster: Cluster, rules: Sequence[Rule]) -> None:
    await put_document(cluster.store, name("a").bucket, Kind.LIFECYCLE, encode_rules(rules))


async def pass_ends() -> None:
    """The first pass begins when the first grace is over."""
    await trio.sleep(GRACE + 60)


def keys(cluster: Cluster, *among: str) -> list[str]:
    return [key for key in among if find_current(cluster.kv, name(key)) is not None]


async def test_objects_go_when_their_days_are_over(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.clock_ahead = -10 * DAYS
        await cluster.put("logs/old", b"1")
        await cluster.put("keep/old", b"2")
        cluster.clock_ahead = 0.0
        await cluster.put("logs/new", b"3")
        await set_rules(cluster, [Rule("logs", prefix="logs/", days=7), Rule("off", enabled=False, days=1)])
        await pass_ends()
        assert keys(cluster, "logs/old", "keep/old", "logs/new") == ["keep/old", "logs/new"]
        await trio.sleep(10 * GRACE)
        assert cluster.piece_count() == 6


async def test_an_object_that_is_written_again_stays(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        cluster.clock_ahead = -10 * DAYS
        await cluster.put("a", b"1")
        cluster.clock_ahead = 0.0
        await set_rules(cluster, [Rule("all", days=7)])
        await cluster.put("a", b"1")
        await pass_ends()
        assert await cluster.get("a") == b"1"


async def test_a_clock_that_jumps_makes_nothing_due(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await cluster.put("a", b"1")
        await set_rules(cluster, [Rule("all", days=7)])
        cluster.clock_ahead = 100 * DAYS
        await pass_ends()
        assert await cluster.get("a") == b"1"


async def test_unfinished_uploads_go(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        for number, days in enumerate((10, 0)):
            cluster.clock_ahead = -days * DAYS
            moment = now_ms(cluster.store)
            upload = Upload(name("big"), UploadId(f"{number:032x}"), moment, 0, "text/plain", {})
            await cluster.kv.transact(lambda tx, upload=upload, moment=moment: create_upload(tx, upload, moment))
        await set_rules(cluster, [Rule("uploads", upload_days=3)])
        await pass_ends()
        page = await list_uploads(cluster.kv, name("big").bucket)
        assert [upload.id for upload in page.uploads] == [UploadId(f"{1:032x}")]


async def test_more_than_a_page_goes(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        moment = now_ms(cluster.store) + 1000
        for number in range(450):
            await cluster.put(f"a/{number:03d}", b"")
        await set_rules(cluster, [Rule("date", at_ms=moment)])
        await pass_ends()
        assert not keys(cluster, *(f"a/{number:03d}" for number in range(450)))


async def listed(cluster: Cluster) -> list[tuple[str, int, bool]]:
    page = await list_versions(cluster.store, name("a").bucket)
    return [(found.name.key, found.version, found.deletes) for found, _ in page.versions]


async def test_versions_go_when_they_were_replaced_long_ago(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await set_versioning(cluster.store, name("a").bucket, Versioning.ENABLED)
        made = []
        for days in (30, 20, 3, 0):
            cluster.clock_ahead = -days * DAYS
            made.append((await cluster.put("a", b"%d" % days)).manifest.version)
        await set_rules(cluster, [Rule("old", noncurrent_days=10)])
        await pass_ends()
        # The one of 30 days was replaced 20 days ago; that of 20 only three days ago.
        assert [version for _, version, _ in await listed(cluster)] == made[:0:-1]
        assert await cluster.get("a", made[1]) == b"20"


async def test_so_many_noncurrent_versions_stay(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await set_versioning(cluster.store, name("a").bucket, Versioning.ENABLED)
        cluster.clock_ahead = -30 * DAYS
        made = [(await cluster.put("a", b"%d" % number)).manifest.version for number in range(7)]
        cluster.clock_ahead = 0.0
        await set_rules(cluster, [Rule("old", noncurrent_days=10, newer_kept=2)])
        await pass_ends()
        assert [version for _, version, _ in await listed(cluster)] == made[:3:-1]


async def test_expiry_leaves_a_marker_and_lone_markers_go(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await set_versioning(cluster.store, name("a").bucket, Versioning.ENABLED)
        cluster.clock_ahead = -30 * DAYS
        await cluster.put("a", b"1")
        await delete_object(cluster.store, name("b"))
        await cluster.put("c", b"2")
        await delete_object(cluster.store, name("c"))
        cluster.clock_ahead = 0.0
        await set_rules(cluster, [Rule("now", days=7, prefix="a"), Rule("lone", lone_markers=True)])
        await pass_ends()
        assert [(key, deletes) for key, _, deletes in await listed(cluster)] == [
            ("a", True),
            ("a", False),
            ("c", True),
            ("c", False),
        ]
        assert await recount(cluster.kv, cluster.store.totals) == []


async def test_locked_versions_stay(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await set_versioning(cluster.store, name("a").bucket, Versioning.ENABLED)
        cluster.clock_ahead = -30 * DAYS
        held = (await cluster.put("a", b"1")).manifest.version
        await cluster.put("a", b"2")
        newest = (await cluster.put("a", b"3")).manifest.version
        change = lambda manifest: (manifest.details or EMPTY)._replace(legal_hold=True)  # noqa: E731
        await cluster.kv.transact(lambda tx: change_details(tx, name("a"), held, change))
        cluster.clock_ahead = 0.0
        await set_rules(cluster, [Rule("old", noncurrent_days=1)])
        await pass_ends()
        assert [version for _, version, _ in await listed(cluster)] == [newest, held]


async def test_more_than_a_page_of_versions_goes(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await set_versioning(cluster.store, name("a").bucket, Versioning.ENABLED)
        cluster.clock_ahead = -30 * DAYS
        for number in range(410):
            await cluster.put("a" if number % 2 else f"b{number}", b"")
        cluster.clock_ahead = 0.0
        await set_rules(cluster, [Rule("old", noncurrent_days=1, newer_kept=1)])
        await pass_ends()
        assert len(await listed(cluster)) == 2 + 205


async def test_rules_that_are_taken_back_delete_nothing_more(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await pass_ends()  # so that the node's own worker rests
        names = [f"a/{number:03d}" for number in range(450)]
        for one in names:
            await cluster.put(one, b"")
        await set_rules(cluster, [Rule("date", at_ms=now_ms(cluster.store))])
        expire = Expire(cluster.store)
        await expire.step()
        await trio.sleep(GRACE + 1)
        while not expire.expired:
            await expire.step()
        await put_document(cluster.store, name("a").bucket, Kind.LIFECYCLE, None)
        while await expire.step():
            pass
        assert len(keys(cluster, *names)) == len(names) - expire.expired > 0


async def test_an_object_that_gets_other_tags_stays(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    async with cluster.running():
        await pass_ends()
        await cluster.put("a", b"1")
        await set_tags(cluster.store, name("a"), {"class": "old"})
        await set_rules(cluster, [Rule("old", tags={"class": "old"}, at_ms=now_ms(cluster.store))])
        transact_each = expire_module.transact_each

        async def keep_first(
            kv: KV, items: Sequence[object], change: Callable[[Transaction, object], bool]
        ) -> list[bool]:
            """The owner changes the tags when the object was found due and is not deleted yet."""
            if items:
                await set_tags(cluster.store, name("a"), {"class": "kept"})
            return await transact_each(kv, items, change)

        monkeypatch.setattr(expire_module, "transact_each", keep_first)
        expire = Expire(cluster.store)
        await expire.step()
        await trio.sleep(GRACE + 1)
        while await expire.step():
            pass
        assert await cluster.get("a") == b"1"
        assert not expire.expired


async def test_a_bucket_that_cannot_be_read_keeps_no_other_waiting(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        await pass_ends()
        bucket = BucketName("another")
        await create_bucket(cluster.store, bucket)
        broken = ObjectName(bucket, ObjectKey("broken"))
        await cluster.kv.transact(lambda tx: tx.put(object_key(*broken), b"9 of a later format"))
        await cluster.put("a", b"1")
        for one in (bucket, name("a").bucket):
            rules = encode_rules([Rule("date", at_ms=now_ms(cluster.store))])
            await put_document(cluster.store, one, Kind.LIFECYCLE, rules)
        expire = Expire(cluster.store)
        await expire.step()
        await trio.sleep(GRACE + 1)
        while await expire.step():
            pass
        assert not keys(cluster, "a")
        await cluster.kv.transact(lambda tx: tx.delete(object_key(*broken)))
