from __future__ import annotations

from collections.abc import Iterator

import pytest

from flared.data.disk.disk import Disk
from flared.data.disk.real_disk import RealDisk
from tests.contract.piece_store import PieceStoreContract
from tests.support.memory_disk import MemoryDisk
from tests.support.scratch import scratch_directory


class TestOnTheRealDisk(PieceStoreContract):
    @pytest.fixture
    def root(self) -> Iterator[str]:
        with scratch_directory() as directory:
            yield str(directory)

    @pytest.fixture
    def disk(self) -> Disk:
        return RealDisk()


class TestInMemory(PieceStoreContract):
    @pytest.fixture
    def root(self) -> str:
        return "/srv"

    @pytest.fixture
    def disk(self) -> Disk:
        return MemoryDisk(1)
