"""Tags of objects: they change, the bytes and the version do not."""

from __future__ import annotations

import pytest
import trio.testing

from flared.catalog.buckets import Versioning
from flared.catalog.details import Details
from flared.catalog.versions import NULL
from flared.errors import IsDeleteMarker, NoSuchObject, NoSuchVersion, PreconditionFailed
from flared.names import DEFAULT_BUCKET
from flared.objects.buckets import set_versioning
from flared.objects.commit import ObjectHeaders
from flared.objects.conditions import Conditions
from flared.objects.copy import copy_object
from flared.objects.delete import delete_object
from flared.objects.get import find_object
from flared.objects.put import put_object
from flared.objects.tags import set_tags, tags_of
from tests.cluster.test_digests import noise
from tests.support.checkers import recount
from tests.support.cluster import CHUNK, Cluster, name
from tests.support.piece_nodes import MemorySource

Clock = trio.testing.MockClock


@pytest.mark.parametrize("size", [0, 100, CHUNK, 3 * CHUNK])
async def test_tags_are_replaced_and_deleted(autojump_clock: Clock, size: int) -> None:
    cluster = Cluster()
    async with cluster.running():
        headers = ObjectHeaders("a/b", {"u": "v"}, Details({"expires": "x"}, tags={"a": "1"}))
        written = (await put_object(cluster.store, name("a"), MemorySource(noise(size)), headers=headers)).manifest
        assert tags_of(written) == {"a": "1"}
        changed = await set_tags(cluster.store, name("a"), {"b": "2"})
        found = await find_object(cluster.store, name("a"))
        assert found == changed == written._replace(details=Details({"expires": "x"}, tags={"b": "2"}))
        with pytest.raises(PreconditionFailed):
            await set_tags(cluster.store, name("a"), {}, when=Conditions(if_match=("other",)))
        await set_tags(cluster.store, name("a"), {}, when=Conditions(if_match=(written.etag,)))
        assert tags_of(await find_object(cluster.store, name("a"))) == {}
        await copy_object(cluster.store, name("a"), name("b"), tags={"c": "3"})
        assert tags_of(await find_object(cluster.store, name("b"))) == {"c": "3"}
        await set_tags(cluster.store, name("a"), {"d": "4"})  # a row whose chunk a copy shares
        assert await cluster.get("a") == noise(size)
        assert await recount(cluster.kv, cluster.store.totals) == []


async def test_tags_of_versions(autojump_clock: Clock) -> None:
    cluster = Cluster()
    async with cluster.running():
        with pytest.raises(NoSuchObject):
            await set_tags(cluster.store, name("a"), {"a": "1"})
        first = (await cluster.put("a", b"first")).manifest
        await set_versioning(cluster.store, DEFAULT_BUCKET, Versioning.ENABLED)
        second = (await cluster.put("a", b"second")).manifest
        await set_tags(cluster.store, name("a"), {"of": "first"}, version=NULL)
        await set_tags(cluster.store, name("a"), {"of": "second"}, version=second.version)
        marker = (await delete_object(cluster.store, name("a"))).marker
        assert marker is not None
        for version, tags in ((first.version, {"of": "first"}), (second.version, {"of": "second"})):
            assert tags_of(await find_object(cluster.store, name("a"), version=version)) == tags
        with pytest.raises(IsDeleteMarker):
            await set_tags(cluster.store, name("a"), {}, version=marker.version)
        with pytest.raises(NoSuchVersion):
            await set_tags(cluster.store, name("a"), {}, version=7)
        with pytest.raises(NoSuchObject):
            await set_tags(cluster.store, name("a"), {})
        assert await recount(cluster.kv, cluster.store.totals) == []
