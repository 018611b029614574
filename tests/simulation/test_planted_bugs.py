"""The purpose of the simulation: bugs of the worst kinds, planted here, are found within a few seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flared.catalog import chunks, uploads, versions
from flared.cluster.quorum import Tally
from flared.objects import complete_upload
from tests.simulation.__main__ import run_seed
from tests.support.memory_disk import MemoryFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.catalog.chunks import ChunkRecord
    from flared.meta.transaction import Transaction

SEEDS_MAX = 40
"""Crashes catch an early acknowledgement in one seed of twelve, and which one changes with the order of things."""


def acknowledge_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """One piece counts as the quorum."""
    init = Tally.__init__
    monkeypatch.setattr(Tally, "__init__", lambda self, wanted, quorum: init(self, wanted, min(quorum, 1)))


def acknowledge_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No piece has to be durable."""
    init = Tally.__init__
    monkeypatch.setattr(Tally, "__init__", lambda self, wanted, quorum: init(self, wanted, 0))


def skip_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment is written and not synced before the put is answered."""
    sync = MemoryFile.sync

    def sync_others(self: MemoryFile) -> None:
        if "/segments/" not in self._path:
            sync(self)

    monkeypatch.setattr(MemoryFile, "sync", sync_others)


def lose_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that is shared is counted once."""

    def reference(tx: Transaction, record: ChunkRecord) -> ChunkRecord:
        if record.references:
            return record
        return count(tx, record)

    count = chunks._reference
    monkeypatch.setattr(chunks, "_reference", reference)


def lose_old_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A put of a new version drops the one before, without a trace."""
    monkeypatch.setattr(versions, "demote", lambda tx, newest: None)


def lose_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the newest version is deleted, the one before it does not take its place."""
    monkeypatch.setattr(versions, "promote", lambda tx, name, found: None)


def keep_owning_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a completed upload release what its object has now."""
    retire = uploads.retire
    monkeypatch.setattr(complete_upload, "retire", lambda tx, upload, _, due_ms: retire(tx, upload, (), due_ms))


@pytest.mark.parametrize(
    ("plant", "variant"),
    [
        (acknowledge_early, "crashing"),
        (acknowledge_at_once, "real-network"),
        (skip_syncs, "real"),
        (lose_references, "crashing"),
        (lose_references, "real"),
        (lose_old_versions, "versions"),
        (lose_the_way_back, "versions"),
        (keep_owning_parts, "parts"),
    ],
)
def test_a_planted_bug_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], variant: str
) -> None:
    with monkeypatch.context() as planted:
        plant(planted)
        found = next((seed for seed in range(SEEDS_MAX) if run_seed(variant, seed).failure), None)
    assert found is not None, f"{SEEDS_MAX} seeds did not find it"
    assert run_seed(variant, found).failure == "", "it is that bug which was found"
