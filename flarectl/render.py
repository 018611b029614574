"""What a person or a script sees: plain lines, JSON lines, one screen of status. Only it and ``progress`` know rich.

Results go to standard output, everything about how it went to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self, TextIO

from flarectl.answers import bare_etag
from flarectl.errors import Failure, OutputClosed, from_os

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from flarectl.answers import Bucket, Chunk, Entry, FailureCost, Node, ObjectInfo, Status
    from flarectl.target import Target
    from flared.findings import Finding

_STYLES = {
    "ok": "green",
    "online": "green",
    "degraded": "bold magenta",
    "suspect": "bold magenta",
    "full": "bold magenta",
    "draining": "cyan",
    "empty": "cyan",
    "down": "bold red",
    "warning": "bold magenta",
    "critical": "bold red",
    "offline": "bold red",
    "failed": "bold red",
    "readonly": "bold red",
    "replaying": "bold magenta",
}
"""Only colours that can be read on black and on white; the word always says it too."""


def say(text: str) -> None:
    """One line of the result; raises Failure if it cannot be written."""
    with _writing():
        print(text)


def say_json(value: object) -> None:
    """One line of the result for a script."""
    # Names that are not UTF-8 are legal here; a script gets them escaped.
    text = json.dumps(value, ensure_ascii=False)
    say(text if text.isprintable() else json.dumps(value))


def complain(text: str) -> None:
    """One line about what went wrong."""
    print(f"flarectl: {harmless(text)}", file=sys.stderr)


def flush() -> None:
    """Whatever was said is out; raises Failure if it cannot be."""
    with _writing():
        sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise OutputClosed("the reader of the output went away") from None
    except OSError as error:
        raise from_os(error, "standard output") from None


def shown(text: str) -> str:
    """``text`` for standard output: as it is into a pipe, harmless on a terminal."""
    return harmless(text) if sys.stdout.isatty() else text


def harmless(text: str) -> str:
    """``text`` without anything a terminal would obey: a key may hold line ends and escape sequences."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogateescape").decode() for c in text)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person watches ``stream`` on something that can do more than print."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def size_text(count: float) -> str:
    """Bytes for a person: ``999 B``, ``1.5 MiB``, ``12 GiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    units = ["KiB", "MiB", "GiB", "TiB", "PiB"]
    count /= 1024
    while count >= 999.5 and len(units) > 1:
        count /= 1024
        units.pop(0)
    return f"{count:.0f} {units[0]}" if count >= 99.95 else f"{count:.1f} {units[0]}"


def duration_text(seconds: float) -> str:
    """``2.4 s``, ``3 min 20 s``, ``4 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def age_text(seconds: float | None) -> str:
    """How long ago a node was heard of."""
    if seconds is None:
        return "never"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    return f"{duration_text(seconds)} ago"


def time_text(seconds: float) -> str:
    """A moment in local time, for a person."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def json_time(seconds: float) -> str:
    """A moment in UTC, for a script."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"


def error_record(name: str, failure: Failure) -> dict[str, object]:
    """A failure as a script sees it, in the shape of the API's errors."""
    error = {"code": failure.code, "message": str(failure), "request_id": failure.request_id}
    return {"name": name, "error": error, "exit_code": int(failure.exit_code)}


def show_entries(entries: Iterable[Entry], prefixes: Iterable[str], *, long: bool, human: bool) -> None:
    """One page of a listing: the objects and the common prefixes, in the order of their keys."""
    rows: list[tuple[str, Entry | None]] = [(entry.key, entry) for entry in entries]
    rows += [(prefix, None) for prefix in prefixes]
    for key, entry in sorted(rows, key=lambda row: row[0].encode("utf-8", "surrogateescape")):
        say(_long_row(key, entry, human=human) if long else shown(key))


def entry_record(bucket: str, entry: Entry) -> dict[str, object]:
    return {
        "bucket": bucket,
        "key": entry.key,
        "size": entry.size,
        "etag": bare_etag(entry.etag),
        "modified": json_time(entry.modified),
    }


def _long_row(key: str, entry: Entry | None, *, human: bool) -> str:
    if entry is None:
        return f"{'-':>13}  {'-':<19}  {shown(key)}"
    size = size_text(entry.size) if human else str(entry.size)
    return f"{size:>13}  {time_text(entry.modified)}  {shown(key)}"


def show_object(target: Target, info: ObjectInfo) -> None:
    """Everything HEAD tells about an object."""
    say(shown(str(target)))
    rows = {
        "size": f"{info.size} ({size_text(info.size)})" if info.size >= 1024 else str(info.size),
        "etag": bare_etag(info.etag),
        "version": info.version,
        "modified": time_text(info.modified),
        "type": info.content_type,
    } | {f"meta {name}": value for name, value in sorted(info.user.items())}
    width = max(map(len, rows))
    for name, value in rows.items():
        say(f"  {name:<{width}}  {shown(value)}")


def object_record(target: Target, info: ObjectInfo) -> dict[str, object]:
    return {
        "bucket": target.bucket,
        "key": target.key,
        "size": info.size,
        "etag": bare_etag(info.etag),
        "version": info.version,
        "modified": json_time(info.modified),
        "content_type": info.content_type,
        "meta": info.user,
    }


def show_chunk(number: int, offset: int, chunk: Chunk) -> None:
    """Where one chunk lies."""
    nodes = ", ".join(f"{node} (missing)" if piece in chunk.missing else node for piece, node in enumerate(chunk.nodes))
    say(f"  chunk {number} at {offset}: {chunk.size} bytes, {chunk.codec}, {chunk.scheme}, on {nodes}")
    say(f"    {chunk.id or chunk.digest}")


def chunk_record(target: Target, number: int, offset: int, chunk: Chunk) -> dict[str, object]:
    fields: Mapping[str, object] = chunk._asdict()
    return {"bucket": target.bucket, "key": target.key, "chunk": number, "offset": offset, **fields}


def show_buckets(buckets: Iterable[Bucket]) -> None:
    rows = [(b.name, b.scheme, size_text(b.chunk_size), b.compression, time_text(b.created)) for b in buckets]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def bucket_record(bucket: Bucket) -> dict[str, object]:
    fields: dict[str, object] = bucket._asdict()
    return fields | {"created": json_time(bucket.created)}


def show_status(status: Status) -> None:
    """The cluster on one screen."""
    make_console().print(_status_screen(status))


def show_findings(findings: Sequence[Finding]) -> None:
    """What is wrong and what to type; commands stay whole, so that they can be copied."""
    from rich.text import Text

    from flared.findings import screen

    console = make_console()
    for line in screen(findings, console.width):
        word = line.partition(" ")[0]
        text = Text(harmless(line))
        text.stylize(_STYLES.get(word, ""), 0, len(word))
        console.print(text, soft_wrap=True)


class StatusWatch:
    """The same screen, kept up to date; on a terminal in place, else one after the other."""

    def __init__(self) -> None:
        from rich.live import Live

        self._console = make_console()
        live = Live(console=self._console, auto_refresh=False, screen=False)
        # Into a pipe Live would print the last screen only, at the end.
        self._live = live if is_terminal(sys.stdout) else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, status: Status | None, trouble: str) -> None:
        """The newest status, or why there is none."""
        from rich.console import Group
        from rich.text import Text

        when = Text(f"{time_text(time.time())}, every few seconds; Ctrl-C ends it", "dim")
        screen = _status_screen(status) if status else Text(harmless(trouble), _STYLES["down"])
        if self._live:
            return self._live.update(Group(screen, when), refresh=True)
        with self._console.capture() as capture:
            self._console.print(screen, when)
        say(capture.get())
        return flush()


def make_console(*, stderr: bool = False, spare_columns: int = 0) -> Console:
    """A rich console that never guesses at markup or numbers in what users have named.

    ``spare_columns`` stay free at the right, for what a terminal echoes there.
    """
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if spare_columns:
        console.width -= spare_columns
    return console


def _status_screen(status: Status) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    word = Text(status.health, _STYLES.get(status.health, "bold"))
    head = Text.assemble(word, f"   flared {status.version}" if status.version else "")
    counts = f"{_count(status.objects, 'object')}, {size_text(status.bytes)}, {_count(status.chunks, 'chunk')}"
    degraded = f"{_count(status.degraded_chunks, 'chunk')} degraded" if status.degraded_chunks else "nothing degraded"
    rows: list[tuple[str, str | Text]] = [("health", head), ("stored", counts), ("damage", degraded)]
    rows += _block("why", status.reasons) + _block("next", status.advice)
    lines: list[RenderableType] = [_sheet(rows)]
    if status.nodes:
        lines += [Text(), _node_table(status.nodes)]
    return Group(*lines)


def _block(label: str, lines: Iterable[str]) -> list[tuple[str, str | Text]]:
    """Rows of which only the first has a label."""
    return [("" if number else label, line) for number, line in enumerate(lines)]


def _sheet(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Labels and what they are about; long lines go on below their own beginning."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(label, Text(harmless(value)) if isinstance(value, str) else value)
    return table


def show_nodes(nodes: Sequence[Node]) -> None:
    """One line for each node."""
    make_console().print(_node_table(nodes))


def _node_table(nodes: Sequence[Node]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    wide = make_console().width >= 110
    table.add_column("node", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("for", no_wrap=True)
    table.add_column("zone", overflow="ellipsis")
    table.add_column("used", no_wrap=True)
    table.add_column("seen", no_wrap=True)
    table.add_column("volumes", no_wrap=True)
    if wide:
        table.add_column("version", overflow="ellipsis")
        table.add_column("pieces", justify="right", no_wrap=True)
        table.add_column("address", overflow="ellipsis")
    for node in nodes:
        cells: list[str | Text] = [Text(harmless(node.name)), _state_text(node.state)]
        cells += [span_text(node.state_since_seconds), Text(harmless(node.zone))]
        cells += [space_text(node.used, node.capacity), age_text(node.last_seen_seconds), _volumes_text(node)]
        if wide:
            cells += [Text(harmless(node.version)), f"{node.pieces:,}", Text(harmless(node.address))]
        table.add_row(*cells)
    return table


def show_node(node: Node, cost: FailureCost | None, obstacle: str) -> None:
    """Everything about one node. ``cost`` is None where nobody could count, ``obstacle`` why it must not go down."""
    from rich.text import Text

    since = "" if node.state_since_seconds is None else f" for {span_text(node.state_since_seconds)}"
    role = f"   {node.role} node, flared {node.version or '?'}"
    rows: list[tuple[str, str | Text]] = [
        ("node", node.name),
        ("state", Text.assemble(_state_text(node.state), harmless(since + role))),
        ("zone", node.zone or "-"),
        ("address", f"{node.address or '-'}, heard {age_text(node.last_seen_seconds)}"),
        ("space", space_text(node.used, node.capacity)),
    ]
    if node.role == "data":
        rows += [("pieces", f"{node.pieces:,}"), *_volume_rows(node), *_block("failure", failure_lines(cost))]
        rows += [("stop it", f"not now: {obstacle}" if obstacle else "it may go down now")]
    make_console().print(_sheet(rows + _block("next", node.advice)))


def _volume_rows(node: Node) -> list[tuple[str, str | Text]]:
    from rich.text import Text

    width = max((len(volume.path) for volume in node.volumes), default=0)
    rows: list[str | Text] = []
    for volume in node.volumes:
        rest = [space_text(volume.used, volume.capacity)] if volume.capacity else []
        if volume.state != "ok" and volume.state_seconds is not None:
            rest.append(f"for {span_text(volume.state_seconds)}")
        rest += [harmless(volume.reason)] if volume.reason else []
        path = f"{harmless(volume.path):<{width}}  "
        rows.append(Text.assemble(path, _state_text(volume.state), "  ", ", ".join(rest)))
        if volume.repair:
            rows.append(f"{'':<{width}}  {volume.repair}")
    return [("" if number else "volumes", row) for number, row in enumerate(rows)]


def failure_lines(cost: FailureCost | None) -> list[str]:
    """What a failure would cost, as sentences."""
    if cost is None:
        return ["could not be counted now"]
    lines = [f"{_count(cost.chunks, 'chunk')} {'has' if cost.chunks == 1 else 'have'} a copy here; without it"]
    if cost.unreadable:
        lines.append(f"{_count(cost.unreadable, 'chunk')} would be unreadable")
    above = cost.below_quorum - cost.unreadable
    if above:
        lines.append(f"{_count(above, 'chunk')} would have fewer copies than a write must reach")
    if not cost.chunks and cost.complete:
        return ["no chunk has a copy here"]
    if not cost.below_quorum:
        lines.append("all of them could be read and have the copies that a write must reach")
    if not cost.complete:
        lines.append("(not all chunks were looked at: there are more)")
    return lines


def _state_text(state: str) -> Text:
    from rich.text import Text

    return Text(harmless(state), _STYLES.get(state, "bold"))


def _volumes_text(node: Node) -> str:
    good = sum(volume.state == "ok" for volume in node.volumes)
    if good == len(node.volumes):
        return str(good) if good else "-"
    return f"{good} of {len(node.volumes)} ok"


def span_text(seconds: float | None) -> str:
    """How long something has been so: ``12 s``, ``5 min``, ``3 h``, ``2 d``; a dash if nobody knows."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def space_text(used: int, capacity: int) -> str:
    """``1.2 GiB of 80 GiB (2%)``; a dash for a node that has no volumes."""
    if not capacity:
        return "-"
    return f"{size_text(used)} of {size_text(capacity)} ({100 * used / capacity:.0f}%)"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
