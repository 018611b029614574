"""The checker of the crash tests would notice: what it must accept, and what it must not."""

from __future__ import annotations

from tests.support.ledger import Ledger

KEY = "key"


def ledger_after(*events: tuple[str, str | None]) -> Ledger:
    """Events are ``("done", version)`` and ``("lost", version)``: with and without an answer."""
    ledger = Ledger()
    for kind, version in events:
        ledger.begin(KEY, version)
        if kind == "done":
            ledger.acknowledge(KEY, version)
        else:
            ledger.unknown(KEY)
    return ledger


def accepts(events: list[tuple[str, str | None]], found: str | None) -> bool:
    return ledger_after(*events).settle(KEY, found) is None


def test_an_acknowledged_write_must_be_found_exactly() -> None:
    assert accepts([("done", "a")], "a")
    assert not accepts([("done", "a")], None)
    assert not accepts([("done", "a")], "b")
    assert not accepts([("done", "a"), ("done", "b")], "a")


def test_an_acknowledged_delete_must_hold() -> None:
    assert accepts([("done", "a"), ("done", None)], None)
    assert not accepts([("done", "a"), ("done", None)], "a")


def test_an_unanswered_write_is_whole_or_absent() -> None:
    assert accepts([("done", "a"), ("lost", "b")], "a")
    assert accepts([("done", "a"), ("lost", "b")], "b")
    assert accepts([("lost", "b")], None)
    assert not accepts([("done", "a"), ("lost", "b")], None)
    assert not accepts([("done", "a"), ("lost", "b")], "half of b")


def test_what_was_found_once_must_stay() -> None:
    ledger = ledger_after(("done", "a"), ("lost", "b"))
    assert ledger.settle(KEY, "b") is None
    assert ledger.settle(KEY, "a") is not None


def test_an_untouched_key_holds_nothing() -> None:
    assert Ledger().settle(KEY, None) is None
    assert Ledger().settle(KEY, "a") is not None
