"""What status says of the metadata file."""

from __future__ import annotations

import pytest

from flared.meta.kv import Health
from flared.upkeep.metadata import advise_metadata, explain_metadata, obstacle_of


def test_nothing_is_said_of_what_is_sound() -> None:
    health = Health(check_passes=3, check_rows=7, check_age_seconds=1.0)
    assert (obstacle_of(health), explain_metadata(health), advise_metadata(health)) == ("", [], [])


@pytest.mark.parametrize(
    ("health", "sentence", "stops_writes"),
    [
        (Health(full=True), "writes are refused: the disk of the metadata is full; reads and deletes go on", True),
        (Health(failure="the disk failed"), "writes are refused: the disk failed; nothing is written until", True),
        (Health(damaged_rows=1, damaged_key="a"), "1 row of the metadata is damaged, of the key 'a'", False),
        (
            Health(damaged_rows=2, damaged_key="a"),
            "2 rows of the metadata are damaged, of the key 'a' and others",
            False,
        ),
        (Health(problems=("x", "y")), "the metadata file is damaged: x; y; no piece is deleted", False),
    ],
)
def test_each_trouble_has_a_sentence_and_a_command(health: Health, sentence: str, stops_writes: bool) -> None:
    (reason,) = explain_metadata(health)
    assert reason.startswith(sentence)
    assert len(advise_metadata(health)) == 1
    assert bool(obstacle_of(health)) == stops_writes
