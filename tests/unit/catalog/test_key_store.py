from __future__ import annotations

from dataclasses import replace

import pytest

from flared.access.grants import parse_grants
from flared.access.keys import Keyring
from flared.access.sealing import IV_BYTES, seal
from flared.catalog import key_store
from flared.catalog.access_keys import StoredKey, create_key, remove_key, replace_key
from flared.catalog.key_store import KeyStore
from flared.meta.memory import MemoryKV

CLUSTER_SECRET = b"the secret of the cluster"
SECRET = "s" * 40


def key_id(number: int = 1) -> str:
    return f"FL{number:018d}"


def stored(number: int = 1, name: str = "laptop", expires_ms: int = 0) -> StoredKey:
    sealed = seal(CLUSTER_SECRET, SECRET, key_id(number), name, bytes(IV_BYTES))
    return StoredKey(key_id(number), name, sealed, parse_grants(["read:photos"]), 1, expires_ms)


class Scene:
    def __init__(self) -> None:
        self.kv = MemoryKV()
        self.keyring = Keyring([CLUSTER_SECRET])
        self.seconds = 1.0
        self.keys = KeyStore(self.kv, self.keyring, lambda: self.seconds)

    async def create(self, key: StoredKey) -> None:
        await self.kv.transact(lambda tx: create_key(tx, key))

    def secret(self, number: int = 1) -> str | None:
        found = self.keys.find(key_id(number))
        return None if found is None else found.secret


async def test_a_key_is_found_with_its_secret_from_its_creation_to_its_removal() -> None:
    scene = Scene()
    assert scene.secret() is None
    await scene.create(stored())
    found = scene.keys.find(key_id())
    assert found is not None
    assert (found.id, found.name, found.secret, found.grants) == (key_id(), "laptop", SECRET, stored().grants)
    assert scene.keys.find(key_id()) is found, "what was opened is kept"
    await scene.kv.transact(lambda tx: remove_key(tx, "laptop"))
    assert scene.secret() is None


@pytest.mark.parametrize("text", ["", "laptop", "FL1", "FL" + "1" * 18 + "/x"])
async def test_what_is_not_an_id_is_not_looked_up(text: str) -> None:
    assert Scene().keys.find(text) is None


async def test_expiry_is_checked_at_each_call() -> None:
    scene = Scene()
    await scene.create(stored(expires_ms=5000))
    scene.seconds = 4.999
    assert scene.secret() == SECRET
    scene.seconds = 5.0
    assert scene.secret() is None


async def test_a_replaced_key_ends_with_its_grace() -> None:
    scene = Scene()
    await scene.create(stored())
    assert scene.secret() == SECRET
    await scene.kv.transact(lambda tx: replace_key(tx, stored(2), until_ms=9000, now_ms=1000))
    assert (scene.secret(1), scene.secret(2)) == (SECRET, SECRET)
    scene.seconds = 9.0
    assert (scene.secret(1), scene.secret(2)) == (None, SECRET)


async def test_a_change_of_the_clusters_secret_is_followed(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    await scene.create(stored())
    assert scene.secret() == SECRET
    scene.keyring.change([b"another secret of it"])
    assert scene.secret() is None
    assert "event=key_unreadable key=laptop" in caplog.text
    scene.keyring.change([b"another secret of it", CLUSTER_SECRET])
    assert scene.secret() == SECRET


async def test_a_row_moved_to_another_id_opens_nothing() -> None:
    scene = Scene()
    await scene.create(replace(stored(1), id=key_id(2)))
    assert scene.secret(2) is None


async def test_what_is_kept_in_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_store, "OPENED_MAX", 2)
    scene = Scene()
    for number in range(3):
        await scene.create(stored(number, f"key{number}"))
        assert scene.secret(number) == SECRET
    assert len(scene.keys._opened) == 2
    assert scene.secret(0) == SECRET
