"""The screens for operators. Sentences are wrapped; commands are not, so that they can be copied.

The lines of each screen fit the terminal; into a pipe nothing is wrapped.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from flarectl.render import (
    age_text,
    count_text,
    flush,
    harmless,
    is_terminal,
    make_console,
    say,
    size_text,
    space_text,
    span_text,
    time_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.text import Text

    from flarectl.answers import FailureCost, Node, Status
    from flared.findings import Finding

_STYLES = {
    "ok": "bold",
    "online": "",
    "degraded": "bold magenta",
    "suspect": "bold magenta",
    "full": "bold magenta",
    "draining": "magenta",
    "removing": "magenta",
    "empty": "magenta",
    "down": "bold red",
    "warning": "bold magenta",
    "critical": "bold red",
    "offline": "bold red",
    "failed": "bold red",
    "readonly": "bold red",
    "replaying": "magenta",
}
"""Only states that need attention have a colour, one that is legible on black and on white (green and cyan are not).
The word always carries the same meaning."""

SENTENCE_COLUMNS_MAX = 100
"""Longer lines are hard to read, even on a wide terminal."""
UNBOUNDED = 100_000

_LAYOUTS = (
    ("node", "state", "for", "zone", "used", "seen", "volumes", "version", "pieces", "address"),
    ("node", "state", "for", "zone", "used", "seen", "volumes"),
    ("node", "state", "for", "zone", "full", "seen", "volumes"),
    ("node", "state", "for", "full", "volumes"),
    ("node", "state", "for", "full"),
)
"""The columns of the node table, from the widest layout to the narrowest."""


class Row(NamedTuple):
    """A label and its text. ``whole``: never wrapped, because it is a command to type."""

    label: str
    value: str | Text
    whole: bool = False


def show_status(status: Status) -> None:
    """Show the cluster on one screen."""
    console = make_console()
    _print(console, _status_lines(console, status))


def show_nodes(nodes: Sequence[Node]) -> None:
    """Show one line for each node."""
    console = make_console()
    _print(console, _node_lines(nodes, _columns(console)))


def show_node(node: Node, cost: FailureCost | None, obstacle: str) -> None:
    """Show everything about one node.

    ``cost`` is None if it could not be counted; ``obstacle`` says why the node must not go down, or is empty.
    """
    from rich.text import Text

    since = "" if node.state_since_seconds is None else f" for {span_text(node.state_since_seconds)}"
    role = f"   {node.role} node, flared {node.version or '?'}"
    rows = [
        Row("node", node.name),
        Row("state", Text.assemble(_state_text(node.state), harmless(since + role))),
        Row("zone", node.zone or "-"),
        Row("address", f"{node.address or '-'}, seen {age_text(node.last_seen_seconds)}"),
        Row("space", space_text(node.used, node.capacity)),
    ]
    if node.role == "data":  # only data nodes have pieces, and only their failure can be counted
        rows += [
            Row("pieces", _pieces_text(node)),
            *_damage_rows(node),
            *_volume_rows(node),
            *_block("failure", failure_lines(cost)),
        ]
        rows.append(Row("stop it", f"not now: {obstacle}" if obstacle else "it may go down now"))
    rows += _block("next", node.advice, whole=True)
    console = make_console()
    _print(console, _sheet(console, rows))


def show_findings(findings: Sequence[Finding]) -> None:
    """Show what is wrong and what to type."""
    from rich.text import Text

    from flared.findings import screen

    console = make_console()
    lines = []
    for line in screen(findings, min(_columns(console), SENTENCE_COLUMNS_MAX) if console.is_terminal else UNBOUNDED):
        word = line.partition(" ")[0]
        text = Text(harmless(line))
        text.stylize(_STYLES.get(word, ""), 0, len(word))
        lines.append(text)
    _print(console, lines)


class Waiting:
    """A line that says what the command waits for, on a terminal only."""

    def __init__(self, text: str) -> None:
        visible = is_terminal(sys.stderr)
        self._status = make_console(stderr=True).status(harmless(text)) if visible else None

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def show(self, text: str) -> None:
        if self._status:
            self._status.update(harmless(text))


class StatusWatch:
    """The status screen, kept up to date: in place on a terminal, else one after the other."""

    def __init__(self) -> None:
        from rich.live import Live

        self._console = make_console()
        live = Live(console=self._console, auto_refresh=False, screen=False)
        # Into a pipe, Live would print only the last screen, at the end.
        self._live = live if is_terminal(sys.stdout) else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, status: Status | None, trouble: str) -> None:
        """Show the newest status, or why there is none."""
        from rich.console import Group
        from rich.text import Text

        when = Text(f"{time_text(time.time())}, every few seconds; Ctrl-C ends it", "dim")
        screen = Group(*_status_lines(self._console, status)) if status else Text(harmless(trouble), _STYLES["down"])
        if self._live:
            return self._live.update(Group(screen, when), refresh=True)
        with self._console.capture() as capture:
            self._console.print(screen, when)
        say(capture.get())
        return flush()


def _print(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _columns(console: Console) -> int:
    return console.width if console.is_terminal or "COLUMNS" in os.environ else UNBOUNDED


def _status_lines(console: Console, status: Status) -> list[Text]:
    from rich.text import Text

    word = Text(harmless(status.health), _STYLES.get(status.health, "bold"))
    head = Text.assemble(word, harmless(f"   flared {status.version}") if status.version else "")
    counts = f"{count_text(status.objects, 'object')}, {size_text(status.bytes)}, {count_text(status.chunks, 'chunk')}"
    if status.old_versions:
        kept = count_text(status.old_versions, "old version")
        counts += f"; {kept}, {size_text(status.old_version_bytes)}"
    degraded = (
        f"{count_text(status.degraded_chunks, 'chunk')} degraded" if status.degraded_chunks else "nothing degraded"
    )
    if status.unavailable_pieces:
        degraded += f", {count_text(status.unavailable_pieces, 'piece')} on nodes that are away"
    rows = [Row("health", head), Row("stored", counts), Row("damage", degraded)]
    if status.workers:
        rows.append(Row("serving", f"{status.workers + 1} processes of the api node"))
    rows += _block("why", status.reasons) + _block("next", status.advice, whole=True)
    lines = _sheet(console, rows)
    if status.nodes:
        lines += [Text(), *_node_lines(status.nodes, _columns(console))]
    return lines


def _block(label: str, lines: Iterable[str], *, whole: bool = False) -> list[Row]:
    """Return rows of which only the first has a label."""
    return [Row("" if number else label, line, whole) for number, line in enumerate(lines)]


def _sheet(console: Console, rows: Sequence[Row]) -> list[Text]:
    """Return the rows as lines; long sentences continue below their own beginning."""
    from rich.text import Text

    margin = max(len(row.label) for row in rows) + 3
    columns = _columns(console)
    room = (min(columns, SENTENCE_COLUMNS_MAX) if columns < UNBOUNDED else columns) - margin
    lines = []
    for label, value, whole in rows:
        text = Text(harmless(value)) if isinstance(value, str) else value
        parts = [text] if whole else text.wrap(console, max(room, 20))
        for number, part in enumerate(parts):
            part.rstrip()
            lines.append(Text.assemble(f"{'' if number else label:<{margin}}", part))
    return lines


def _node_lines(nodes: Sequence[Node], columns: int) -> list[Text]:
    """Return the nodes as a table in the widest layout that fits, so that no cell is cut."""
    from rich.text import Text

    table = [_cells(node) for node in nodes]
    for layout in _LAYOUTS:
        widths = [max([len(title), *(len(cells[title]) for cells in table)]) for title in layout]
        if sum(widths) + 2 * len(widths) - 2 <= columns:
            break
    lines = [Text("  ".join(f"{title:<{width}}" for title, width in zip(layout, widths, strict=True)).rstrip(), "bold")]
    for cells in table:
        line = Text("  ").join(_padded(cells[title], width) for title, width in zip(layout, widths, strict=True))
        line.rstrip()
        lines.append(line)
    return lines


def _cells(node: Node) -> dict[str, Text]:
    from rich.text import Text

    full = f"{100 * node.used / node.capacity:.0f}%" if node.capacity else "-"
    cells = {
        "node": node.name,
        "for": span_text(node.state_since_seconds),
        "zone": node.zone,
        "used": space_text(node.used, node.capacity),
        "full": full,
        "seen": age_text(node.last_seen_seconds),
        "volumes": _volumes_text(node),
        "version": node.version,
        "pieces": f"{node.pieces:,}",
        "address": node.address,
    }
    return {title: Text(harmless(cell)) for title, cell in cells.items()} | {"state": _state_text(node.state)}


def _padded(cell: Text, width: int) -> Text:
    cell = cell.copy()
    cell.pad_right(width - len(cell))
    return cell


def _damage_rows(node: Node) -> list[Row]:
    """Return the checksum errors found on the node, including repaired ones."""
    if not node.checksum_errors:
        return []
    errors = count_text(node.checksum_errors, "piece")
    last = "" if node.damaged_last is None else f", the last one {time_text(node.damaged_last)}"
    text = f"{errors} failed their checksum{last}; {node.pieces_mended:,} were repaired: a disk may be failing"
    return [Row("damage", text)]


def _pieces_text(node: Node) -> str:
    """Return how many pieces the node has, and how many of them only wait to be deleted."""
    text = f"{node.pieces:,}"
    if hidden := sum(volume.quarantined_pieces for volume in node.volumes):
        size = size_text(sum(volume.quarantined_bytes for volume in node.volumes))
        text += f", of these in quarantine {hidden:,}, {size}: no record names them, and they are deleted after days"
    if node.orphans_held:
        text += f"; held back {node.orphans_held:,}: flarectl node orphans {node.name}"
    return text


def _volume_rows(node: Node) -> list[Row]:
    from rich.text import Text

    width = max((len(volume.path) for volume in node.volumes), default=0)
    rows: list[str | Text] = []
    for volume in node.volumes:
        rest = [space_text(volume.used, volume.capacity)] if volume.capacity else []
        if volume.state != "ok":
            rest.append(f"for {span_text(volume.state_seconds)}")
        path = f"{harmless(volume.path):<{width}}  "
        rows.append(Text.assemble(path, _state_text(volume.state), "  ", ", ".join(rest)))
        rows += [f"  {line}" for line in (volume.reason, volume.repair) if line]
    return [Row("" if number else "volumes", row) for number, row in enumerate(rows)]


def failure_lines(cost: FailureCost | None) -> list[str]:
    """Return what a failure would cost, as sentences."""
    if cost is None:
        return ["could not be counted now"]
    lines = [f"{count_text(cost.chunks, 'chunk')} {'has' if cost.chunks == 1 else 'have'} a copy here; without it"]
    if cost.unreadable:
        lines.append(f"{count_text(cost.unreadable, 'chunk')} would be unreadable")
    above = cost.below_quorum - cost.unreadable
    if above:
        lines.append(f"{count_text(above, 'chunk')} would have fewer copies than a write must reach")
    if not cost.chunks and cost.complete:
        return ["no chunk has a copy here"]
    if not cost.below_quorum:
        lines.append("all of them could be read and have the copies that a write must reach")
    if not cost.complete:
        lines.append("(not all chunks were checked: there are more)")
    return lines


def _state_text(state: str) -> Text:
    from rich.text import Text

    return Text(harmless(state), _STYLES.get(state, "bold"))


def _volumes_text(node: Node) -> str:
    good = sum(volume.state == "ok" for volume in node.volumes)
    if good == len(node.volumes):
        return str(good) if good else "-"
    return f"{good} of {len(node.volumes)} ok"
