"""What is wrong with the metadata file, and what to type: plain functions over what its engine says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flared.meta.kv import Health

PROBLEMS_SHOWN = 3


def obstacle_of(health: Health) -> str:
    """Why nothing can be put, as far as the metadata is the reason; empty if it is none."""
    if health.failure:
        return f"{health.failure}; nothing is written until the api node is restarted"
    if health.full:
        return "the disk of the metadata is full: make room on it, or delete objects; it goes on by itself"
    return ""


def explain_metadata(health: Health) -> list[str]:
    """A sentence for each thing that is wrong with it."""
    reasons = []
    if health.failure:
        reasons.append(f"writes are refused: {health.failure}; nothing is written until the api node is restarted")
    elif health.full:
        reasons.append("writes are refused: the disk of the metadata is full; reads and deletes go on")
    return [*reasons, *explain_damage(health)]


def explain_damage(health: Health) -> list[str]:
    """A sentence for each kind of damage in the file."""
    reasons = []
    if count := health.damaged_rows:
        rows = "1 row of the metadata is" if count == 1 else f"{count} rows of the metadata are"
        reasons.append(f"{rows} damaged, of the key {health.damaged_key!r}" + (" and others" if count > 1 else ""))
    if health.problems:
        shown = "; ".join(health.problems[:PROBLEMS_SHOWN])
        reasons.append(f"the metadata file is damaged: {shown}; no piece is deleted as an orphan until it is sound")
    return reasons


def advise_metadata(health: Health) -> list[str]:
    """What to type next, the most urgent first."""
    lines = []
    if health.failure:
        lines.append("on the api host: flared doctor; journalctl -u 'flared@*' -n 50; systemctl restart flared@api")
    elif health.full:
        lines.append("on the api host: df -h; flared doctor; for room: delete files there, or flarectl rm")
    if health.problems or health.damaged_rows:
        lines.append(
            "on the api host: journalctl -u 'flared@*' -g metadata_; then put a backup back with flared restore, or "
            "delete or put again what is damaged (docs/operations.md)"
        )
    return lines
