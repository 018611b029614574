from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from flared.access.grants import parse_grants
from flared.catalog.access_keys import (
    IDS_MAX,
    StoredKey,
    create_key,
    list_keys,
    read_key,
    read_keys,
    remove_key,
    replace_key,
    reseal_key,
)
from flared.catalog.key_uses import WRITE_SECONDS, KeyUses, list_uses
from flared.errors import Conflict, ManifestCorrupt, MetadataFull, NoSuchKey
from flared.meta import keys
from flared.meta.memory import MemoryKV

GRANTS = parse_grants(["read:photos/ü", "create:*", "admin"])


def key_id(number: int) -> str:
    return f"FL{number:018d}"


def stored(number: int = 1, name: str = "laptop", expires_ms: int = 0) -> StoredKey:
    return StoredKey(key_id(number), name, b"sealed%d" % number, GRANTS, 1000 + number, expires_ms)


async def created(*made: StoredKey) -> MemoryKV:
    kv = MemoryKV()
    for key in made:
        await kv.transact(lambda tx, key=key: create_key(tx, key))
    return kv


async def rotate(kv: MemoryKV, number: int, until_ms: int, now_ms: int) -> StoredKey:
    fresh = replace(stored(number), grants=())
    return await kv.transact(lambda tx: replace_key(tx, fresh, until_ms, now_ms))


async def test_a_key_is_recorded_listed_and_removed() -> None:
    other = stored(2, "backup", 9000)
    kv = await created(stored(), other)
    assert await list_keys(kv) == [other, stored()]
    assert await kv.view(lambda look: read_keys(look, "backup")) == [other]
    await kv.transact(lambda tx: remove_key(tx, "backup"))
    assert await list_keys(kv) == [stored()]
    with pytest.raises(NoSuchKey, match="backup"):
        await kv.transact(lambda tx: remove_key(tx, "backup"))
    assert b"sealed" not in repr(stored()).encode()


async def test_a_name_is_given_once() -> None:
    kv = await created(stored())
    with pytest.raises(Conflict, match="laptop"):
        await kv.transact(lambda tx: create_key(tx, stored(2)))


async def test_a_replaced_key_works_for_its_grace() -> None:
    kv = await created(stored(expires_ms=90_000))
    fresh = await rotate(kv, 2, until_ms=5000, now_ms=2000)
    assert (fresh.grants, fresh.expires_ms) == (GRANTS, 90_000)
    new, old = await kv.view(lambda look: read_keys(look, "laptop"))
    assert new == fresh
    assert (old.id, old.ends_ms) == (key_id(1), 5000)
    assert (old.works_at(4999), old.works_at(5000), new.works_at(5000), new.works_at(90_000)) == (
        True, False, True, False,
    )  # fmt: skip
    await rotate(kv, 3, until_ms=9000, now_ms=6000)
    assert [key.id for key in await list_keys(kv)] == [key_id(3), key_id(2)], "the ended one is forgotten"


async def test_at_once_ends_all_that_came_before() -> None:
    kv = await created(stored())
    await rotate(kv, 2, until_ms=5000, now_ms=2000)
    await rotate(kv, 3, until_ms=2001, now_ms=2001)
    assert [key.id for key in await list_keys(kv)] == [key_id(3)]


async def test_few_ids_of_a_name_work_at_once() -> None:
    kv = await created(stored())
    for number in range(2, IDS_MAX + 1):
        await rotate(kv, number, until_ms=5000, now_ms=2000)
    with pytest.raises(Conflict, match="still work"):
        await rotate(kv, 9, until_ms=5000, now_ms=2000)
    assert len(await list_keys(kv)) == IDS_MAX
    await rotate(kv, 9, until_ms=5001, now_ms=5000)


async def test_an_expired_key_is_not_replaced() -> None:
    kv = await created(stored(expires_ms=3000))
    with pytest.raises(Conflict, match="has expired"):
        await rotate(kv, 2, until_ms=9000, now_ms=3000)


async def test_a_key_is_sealed_anew_only_as_it_was() -> None:
    kv = await created(stored())
    await kv.transact(lambda tx: reseal_key(tx, stored(), b"anew"))
    await kv.transact(lambda tx: reseal_key(tx, stored(), b"too late"))
    found = await kv.view(lambda look: read_key(look, key_id(1)))
    assert found is not None
    assert found.sealed == b"anew"


@pytest.mark.parametrize("value", [b"", b"2{}", b"1{}", b'1{"n":"x","s":"!","g":["own"],"c":1}', b'1{"n":"x","s":1}'])
async def test_a_record_that_cannot_be_read_is_named(value: bytes) -> None:
    kv = await created(stored())
    await kv.commit({}, {keys.access_key(key_id(1)): value})
    with pytest.raises(ManifestCorrupt, match=key_id(1)):
        await kv.view(lambda look: read_key(look, key_id(1)))
    assert await list_keys(kv) == []


async def test_uses_are_written_down_and_go_with_their_key() -> None:
    kv = await created(stored(), stored(2, "backup"))
    seconds = 5.0
    uses = KeyUses(kv, lambda: seconds)
    for number in (1, 2, 9):
        uses.note(key_id(number))
    assert await list_uses(kv) == {}
    await uses.write()
    assert await list_uses(kv) == {key_id(1): 5000, key_id(2): 5000}, "one that does not exist any more is left out"
    seconds = 65.0
    uses.note(key_id(2))
    await uses.write()
    assert await list_uses(kv) == {key_id(1): 5000, key_id(2): 65_000}
    await rotate(kv, 3, until_ms=70_000, now_ms=66_000)
    assert set(await list_uses(kv)) == {key_id(1), key_id(2)}
    await rotate(kv, 4, until_ms=1, now_ms=67_000)
    await kv.transact(lambda tx: remove_key(tx, "backup"))
    assert await list_uses(kv) == {}


async def test_a_full_disk_loses_only_what_was_noted(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kv = await created(stored())
    uses = KeyUses(kv, lambda: 5.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uses.run)
        with monkeypatch.context() as patch:
            patch.setattr(kv, "transact", full)
            uses.note(key_id(1))
            await trio.sleep(WRITE_SECONDS + 1)
        uses.note(key_id(1))
        await trio.sleep(WRITE_SECONDS)
        nursery.cancel_scope.cancel()
    assert await list_uses(kv) == {key_id(1): 5000}


async def full(_decide: object) -> None:
    await trio.lowlevel.checkpoint()
    raise MetadataFull("the disk is full")
