"""Globs: patterns with ``*`` (any characters, none too) and ``?`` (one character). Pure.

Anyone who may write a policy chooses the pattern, and anyone at all the text, so a match takes no more steps than the
lengths of both multiplied: regular expressions would go back and forth between the stars.
"""

from __future__ import annotations


def matches(pattern: str, text: str) -> bool:
    """Return whether the whole text is of the form of the pattern."""
    first, *rest = pattern.split("*")
    if not rest:
        return len(first) == len(text) and _fits(first, text, 0)
    last = rest.pop()
    end = len(text) - len(last)
    if len(first) > end or not _fits(first, text, 0) or not _fits(last, text, end):
        return False
    at = len(first)
    for part in rest:  # the leftmost place of each part leaves most room for those that follow
        at = _find(part, text, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _find(part: str, text: str, start: int, end: int) -> int:
    """Return where the part fits the text first, between start and end; -1 if nowhere."""
    if "?" not in part:
        return text.find(part, start, end)
    return next((at for at in range(start, end - len(part) + 1) if _fits(part, text, at)), -1)


def _fits(part: str, text: str, at: int) -> bool:
    if "?" not in part:
        return text.startswith(part, at)
    return all(letter in ("?", text[at + place]) for place, letter in enumerate(part))
