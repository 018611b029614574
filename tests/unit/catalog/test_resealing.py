from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.grants import parse_grants
from flared.access.sealing import IV_BYTES, Opened, seal, unseal
from flared.catalog.access_keys import StoredKey, create_key, list_keys
from flared.catalog.resealing import reseal_keys
from flared.meta.memory import MemoryKV

if TYPE_CHECKING:
    import pytest

OLD, NEW = b"the secret of the cluster", b"the next secret of it"


def zeros(count: int) -> bytes:
    return bytes(count)


async def kv_with_keys() -> MemoryKV:
    kv = MemoryKV()
    for number, secret in enumerate((OLD, NEW, OLD)):
        name, identity = f"key{number}", f"FL{number:018d}"
        sealed = seal(secret, f"secret {number}", identity, name, bytes(IV_BYTES))
        key = StoredKey(identity, name, sealed, parse_grants(["read:photos"]), number)
        await kv.transact(lambda tx, key=key: create_key(tx, key))
    return kv


async def opened(kv: MemoryKV, *secrets: bytes) -> list[Opened | None]:
    return [unseal(secrets, key.sealed, key.id, key.name) for key in await list_keys(kv)]


async def test_all_secrets_follow_a_replacement() -> None:
    kv = await kv_with_keys()
    await reseal_keys(kv, [NEW, OLD], zeros)
    assert await opened(kv, NEW) == [Opened(f"secret {number}", newest=True) for number in range(3)]
    before = await list_keys(kv)
    await reseal_keys(kv, [NEW], zeros)
    assert await list_keys(kv) == before


async def test_what_no_secret_opens_stays_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    kv = await kv_with_keys()
    await reseal_keys(kv, [NEW], zeros)
    assert await opened(kv, OLD, NEW) == [
        Opened("secret 0", newest=True), Opened("secret 1", newest=False), Opened("secret 2", newest=True),
    ]  # fmt: skip
    assert "event=keys_unreadable keys='key0,key2'" in caplog.text
    await reseal_keys(kv, [], zeros)
