from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flared.catalog.locks import DefaultRetention, decode_lock, encode_lock
from flared.errors import ManifestCorrupt


def ms(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    "default", [None, DefaultRetention(False, days=1), DefaultRetention(True, days=9), DefaultRetention(True, years=3)]
)
def test_a_document_says_what_it_was_made_of(default: DefaultRetention | None) -> None:
    assert decode_lock(encode_lock(default)) == default


def test_a_document_that_cannot_be_read_is_an_error() -> None:
    for broken in (b"", b"[]x", b'{"d": 1}'):
        with pytest.raises(ManifestCorrupt):
            decode_lock(broken)


def test_years_are_those_of_the_calendar() -> None:
    assert DefaultRetention(True, days=3).ends_ms(ms(2027, 2, 27)) == ms(2027, 3, 2)
    assert DefaultRetention(True, years=1).ends_ms(ms(2027, 5, 6)) == ms(2028, 5, 6)
    assert DefaultRetention(True, years=1).ends_ms(ms(2028, 2, 29)) == ms(2029, 3, 1)
    assert DefaultRetention(True, years=4).ends_ms(ms(2028, 2, 29)) >= ms(2032, 2, 29)
