from __future__ import annotations

import pytest

from flared.catalog.totals import Counted, CountedPacked
from flared.workers.owner import _make_counted

ALIAS = bytes.fromhex("018bcfe56800") + b"x" * 8


@pytest.mark.parametrize(
    "note", [Counted(b"object/b/k", -1, 5), Counted(b"chunk/t0", 5, -1), CountedPacked(ALIAS, 1, 2)]
)
def test_a_note_of_a_worker_is_heard_as_what_it_was(note: Counted | CountedPacked) -> None:
    """Else a packed chunk would be counted among the others, and once more by the count at the start."""
    made = _make_counted(*note)
    assert type(made) is type(note)
    assert made == note
