"""An orphan goes only if every rule is silent."""

from __future__ import annotations

from flared.upkeep.deletion.rules import DeletionRules


def test_each_rule_that_speaks_is_an_obstacle() -> None:
    rules = DeletionRules()
    assert rules.obstacles(0.0) == []
    rules.add(lambda _: "")
    rules.add(lambda first: "too young" if first > 10 else "")
    rules.add(lambda _: "kept")
    assert rules.obstacles(5.0) == ["kept"]
    assert rules.obstacles(11.0) == ["too young", "kept"]
