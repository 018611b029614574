from __future__ import annotations

from collections.abc import Iterator

import pytest

from flared.data.disk.disk import Disk
from flared.data.disk.real_disk import RealDisk
from tests.contract.disk import DiskContract
from tests.support.memory_disk import MemoryDisk
from tests.support.scratch import scratch_directory


class TestRealDisk(DiskContract):
    @pytest.fixture
    def root(self) -> Iterator[str]:
        with scratch_directory() as directory:
            yield str(directory)

    @pytest.fixture
    def disk(self) -> Disk:
        return RealDisk()


class TestMemoryDisk(DiskContract):
    @pytest.fixture
    def root(self) -> str:
        return "/volume"

    @pytest.fixture(params=range(4))
    def disk(self, request: pytest.FixtureRequest) -> Disk:
        seed: int = request.param
        return MemoryDisk(seed)
