"""Rules: why orphans must not be deleted now. Every reason against it is a rule that is added here.

A rule is a plain function that answers from memory. Reconcile asks all of them for each orphan at its second sighting
and again right before it deletes; status shows what they say.
"""

from __future__ import annotations

from collections.abc import Callable

Rule = Callable[[float], str]
"""Returns why an orphan first seen at this moment (trio's clock) must not be deleted now; empty if it may."""


class DeletionRules:
    """All reasons why orphans are kept. Deleting needs every rule to be silent."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        """Ask this rule too, from now on."""
        self._rules.append(rule)

    def obstacles(self, first_look: float) -> list[str]:
        """Return every reason why an orphan first seen then is kept; none if it may be deleted."""
        return [sentence for rule in self._rules if (sentence := rule(first_look))]
