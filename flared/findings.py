"""Findings: what a doctor looks at, as plain functions over facts, and what it says of them. For hosts and clusters."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

F = TypeVar("F")
NARROW_COLUMNS = 60
"""Below it a cause begins on a line of its own."""


class Severity(IntEnum):
    """The number is the exit code of a doctor that finds nothing worse."""

    OK = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Trouble:
    severity: Severity
    cause: str
    """One sentence."""
    command: str
    """The command to type next."""


@dataclass(frozen=True, slots=True)
class Check(Generic[F]):
    """One question. ``look`` answers with what is wrong, or None if there is nothing to look at."""

    code: str
    """Stable: alert rules and scripts name it."""
    well: str
    """The statement that holds if nothing is wrong."""
    find: Callable[[F], Sequence[Trouble] | None]


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    severity: Severity
    cause: str
    command: str

    def record(self) -> Mapping[str, object]:
        return {"code": self.code, "severity": self.severity.word, "cause": self.cause, "command": self.command}


def diagnose(checks: Iterable[Check[F]], facts: F) -> list[Finding]:
    """The findings, the worst first; a check that found nothing wrong is one of severity OK."""
    findings = []
    for check in checks:
        troubles = check.find(facts)
        if troubles is None:
            continue
        if not troubles:
            findings.append(Finding(check.code, Severity.OK, check.well, ""))
        findings += [Finding(check.code, trouble.severity, trouble.cause, trouble.command) for trouble in troubles]
    return sorted(findings, key=lambda finding: -finding.severity)


def worst(findings: Iterable[Finding]) -> Severity:
    return max((finding.severity for finding in findings), default=Severity.OK)


def summary(findings: Sequence[Finding]) -> str:
    """``1 critical, 2 warnings, 9 checks are well``."""
    counts = {severity: sum(finding.severity is severity for finding in findings) for severity in Severity}
    words = [f"{counts[Severity.CRITICAL]} critical"] if counts[Severity.CRITICAL] else []
    if warnings := counts[Severity.WARNING]:
        words.append(f"{warnings} warning{'s' if warnings > 1 else ''}")
    well = counts[Severity.OK]
    return ", ".join([*words, f"{well} check{' is' if well == 1 else 's are'} well"])


def screen(findings: Sequence[Finding], width: int) -> list[str]:
    """Return what is wrong and what to type; a command is never wrapped, so that it can be copied."""
    lines = []
    for finding in findings:
        if finding.severity is Severity.OK:
            continue
        head = f"{finding.severity.word:<8}  {finding.code}  "
        indent = " " * len(head)
        if width < NARROW_COLUMNS:
            lines.append(head.rstrip())
            head = indent = "  "
        lines += textwrap.wrap(
            finding.cause, width, initial_indent=head, subsequent_indent=indent, break_long_words=False
        )
        lines.append(f"{indent}> {finding.command}")
    return [*lines, summary(findings)]
