"""CRCs: the published check values, and every library beside the table."""

from __future__ import annotations

import sys
import types
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.objects import crc as crcs
from flared.objects.crc import CRC32, CRC32C, CRC64NVME, Crc, by_table, combine, updating

CRCS = pytest.mark.parametrize("crc", [CRC32, CRC32C, CRC64NVME])


@pytest.mark.parametrize(("crc", "check"), [(CRC32, 0xCBF43926), (CRC32C, 0xE3069283), (CRC64NVME, 0xAE8B14860A799888)])
def test_check_values_of_the_catalogue(crc: Crc, check: int) -> None:
    assert by_table(crc, b"123456789", 0) == check
    assert updating(crc)(b"123456789", 0) == check
    assert updating(crc)(b"", 0) == 0


@CRCS
@given(data=st.binary(max_size=300), at=st.integers(0, 300))
def test_a_crc_goes_on_where_it_ended_and_joins(crc: Crc, data: bytes, at: int) -> None:
    first, second = data[:at], data[at:]
    whole = by_table(crc, data, 0)
    assert by_table(crc, memoryview(second), by_table(crc, first, 0)) == whole
    assert updating(crc)(memoryview(second), updating(crc)(first, 0)) == whole
    assert combine(crc, by_table(crc, first, 0), by_table(crc, second, 0), len(second)) == whole


@given(st.binary(max_size=100))
def test_the_table_is_zlibs(data: bytes) -> None:
    assert by_table(CRC32, data, 0) == zlib.crc32(data)


@CRCS
def test_slices_change_nothing(crc: Crc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crcs, "REST_SECONDS", 0)
    data = bytes(range(256)) * 40
    sliced = crcs._sliced(lambda part, value: by_table(crc, part, value), 999)
    assert sliced(memoryview(data), 5) == by_table(crc, data, 5)


def test_a_library_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = types.ModuleType("crc32c")
    wrong.crc32c = lambda data, value: 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "crc32c", wrong)
    updating.cache_clear()
    try:
        assert updating(CRC32C)(b"123456789", 0) == 0xE3069283
    finally:
        updating.cache_clear()


def test_a_library_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    module, calls = types.ModuleType("crc32c"), []

    def function(data: bytes, value: int) -> int:
        calls.append(len(data))
        return by_table(CRC32C, data, value)

    module.crc32c = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "crc32c", module)
    updating.cache_clear()
    try:
        assert updating(CRC32C)(b"123456789", 0) == 0xE3069283
        assert calls[-1] == 9
    finally:
        updating.cache_clear()
