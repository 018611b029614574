from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flared.http.turns import open_turns
from flared.meta.kv import KV
from flared.meta.open import open_kv
from tests.contract.kv import KVContract
from tests.support.shared_kv import open_shared
from tests.support.threads import InlineThreads


class TestMemory(KVContract):
    @pytest.fixture
    async def kv(self) -> AsyncIterator[KV]:
        async with open_kv("memory:") as kv:
            yield kv


class TestSqlite(KVContract):
    @pytest.fixture
    async def kv(self, tmp_path: Path) -> AsyncIterator[KV]:
        async with open_kv(f"sqlite:{tmp_path / 'meta.db'}") as kv:
            yield kv


class TestSqliteWithoutThreads(KVContract):
    @pytest.fixture
    async def kv(self, tmp_path: Path) -> AsyncIterator[KV]:
        async with open_kv(str(tmp_path / "meta.db"), threads=InlineThreads()) as kv:
            yield kv


class TestSqliteInTurns(KVContract):
    @pytest.fixture
    async def kv(self, tmp_path: Path) -> AsyncIterator[KV]:
        async with open_turns() as turns, open_kv(str(tmp_path / "meta.db"), turns=turns) as kv:
            yield kv


class TestFollower(KVContract):
    """Another process's end, here in the same one: it reads the file itself and commits through a socket."""

    @pytest.fixture
    async def kv(self, tmp_path: Path) -> AsyncIterator[KV]:
        async with open_shared(tmp_path / "meta.db") as (_, follower):
            yield follower
