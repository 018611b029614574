"""The output for a person or a script: plain lines and JSON lines. ``screens`` has whole screens, ``progress`` bars.

Results go to standard output, remarks and errors to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from flarectl.answers import bare_etag
from flarectl.errors import Failure, OutputClosed, from_os

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import Console

    from flarectl.answers import Bucket, Chunk, Entry, ObjectInfo, VersionEntry
    from flarectl.target import Target


def say(text: str) -> None:
    """Write one line of the result. Raise Failure if it cannot be written."""
    with _writing():
        print(text)


def say_json(value: object) -> None:
    """Write one line of the result for a script."""
    # A local name need not be UTF-8; a script gets it escaped.
    text = json.dumps(value, ensure_ascii=False)
    say(text if text.isprintable() else json.dumps(value))


def complain(text: str, hints: Sequence[str] = ()) -> None:
    """Write one line about an error, and below it the commands to type."""
    for line in complaint(text, hints):
        print(line, file=sys.stderr)


def complaint(text: str, hints: Sequence[str] = ()) -> list[str]:
    """Return the lines that ``complain`` prints."""
    return [f"flarectl: {harmless(text)}", *(f"  {harmless(hint)}" for hint in hints)]


def remark(text: str) -> None:
    """Write one line to standard error, for the person who runs the command."""
    print(harmless(text), file=sys.stderr)


def flush() -> None:
    """Write out everything that is buffered. Raise Failure if it cannot be written."""
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
    """Return ``text`` for standard output: unchanged into a pipe, harmless on a terminal."""
    return harmless(text) if sys.stdout.isatty() else text


def harmless(text: str) -> str:
    """Return ``text`` without control characters for a terminal: a key may hold line ends and escape sequences."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogateescape").decode() for c in text)


def is_terminal(stream: TextIO) -> bool:
    """Return whether ``stream`` is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def size_text(count: float) -> str:
    """Return bytes for a person: ``999 B``, ``1.5 MiB``, ``12 GiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    units = ["KiB", "MiB", "GiB", "TiB", "PiB"]
    count /= 1024
    while count >= 999.5 and len(units) > 1:
        count /= 1024
        units.pop(0)
    return f"{count:.0f} {units[0]}" if count >= 99.95 else f"{count:.1f} {units[0]}"


def duration_text(seconds: float) -> str:
    """Return a duration for a person: ``2.4 s``, ``3 min 20 s``, ``4 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def age_text(seconds: float | None) -> str:
    """Return how long ago a node's last heartbeat came."""
    return "never" if seconds is None else f"{span_text(seconds)} ago"


def time_text(seconds: float) -> str:
    """Return a moment in local time, for a person."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def json_time(seconds: float) -> str:
    """Return a moment in UTC, for a script."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"


def error_record(name: str, failure: Failure) -> dict[str, object]:
    """Return a failure for a script, in the form of the API's errors."""
    error = {"code": failure.code, "message": str(failure), "request_id": failure.request_id}
    return {"name": name, "error": error, "exit_code": int(failure.exit_code)}


def show_entries(entries: Iterable[Entry], prefixes: Iterable[str], *, long: bool, human: bool) -> None:
    """Write one page of a listing: objects and common prefixes, in the order of their keys."""
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
        "version": entry.version,
        "modified": json_time(entry.modified),
        **({"damaged": True} if entry.damaged else {}),
    }


def show_versions(entries: Iterable[VersionEntry], prefixes: Iterable[str], *, long: bool, human: bool) -> None:
    """Write one page of a listing of versions: of each key the newest first."""
    rows: list[tuple[str, VersionEntry | None]] = [(entry.key, entry) for entry in entries]
    rows += [(prefix, None) for prefix in prefixes]
    for key, entry in sorted(rows, key=lambda row: row[0].encode("utf-8", "surrogateescape")):
        if entry is None:
            say(f"{'-':>15}  {shown(key)}")
            continue
        text = f"{entry.version:>15}  "
        if long:
            size = "deleted" if entry.deleted else size_text(entry.size) if human else str(entry.size)
            text += f"{size:>13}  {time_text(entry.modified)}  "
        mark = "  (delete marker)" if entry.deleted else "  (newest)" if entry.newest else ""
        say(text + shown(key) + ("  (damaged)" if entry.damaged else mark))


def version_record(bucket: str, entry: VersionEntry) -> dict[str, object]:
    return {
        "bucket": bucket,
        "key": entry.key,
        "version": entry.version,
        "newest": entry.newest,
        "deleted": entry.deleted,
        "modified": json_time(entry.modified),
        **({} if entry.deleted else {"size": entry.size, "etag": bare_etag(entry.etag)}),
        **({"damaged": True} if entry.damaged else {}),
    }


def _long_row(key: str, entry: Entry | None, *, human: bool) -> str:
    if entry is None:
        return f"{'-':>13}  {'-':<19}  {shown(key)}"
    if entry.damaged:
        return f"{'damaged':>13}  {'-':<19}  {shown(key)}"
    size = size_text(entry.size) if human else str(entry.size)
    return f"{size:>13}  {time_text(entry.modified)}  {shown(key)}"


def show_object(target: Target, info: ObjectInfo) -> None:
    """Write everything that HEAD reports about an object."""
    say(shown(str(target)))
    rows = {
        "size": f"{info.size} ({size_text(info.size)})" if info.size >= 1024 else str(info.size),
        "etag": bare_etag(info.etag),
        "version": str(info.version),
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
    """Write one chunk and the nodes of its pieces."""
    nodes = ", ".join(f"{node} (missing)" if piece in chunk.missing else node for piece, node in enumerate(chunk.nodes))
    say(f"  chunk {number} at {offset}: {chunk.size} bytes, {chunk.codec}, {chunk.scheme}, on {nodes}")
    say(f"    {chunk.id or chunk.digest}")


def chunk_record(target: Target, number: int, offset: int, chunk: Chunk) -> dict[str, object]:
    fields: Mapping[str, object] = chunk._asdict()
    return {"bucket": target.bucket, "key": target.key, "chunk": number, "offset": offset, **fields}


def show_buckets(buckets: Iterable[Bucket]) -> None:
    rows = [
        (b.name, b.scheme, size_text(b.chunk_size), b.compression, time_text(b.created), access_text(b))
        for b in buckets
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def access_text(bucket: Bucket) -> str:
    """Return who owns a bucket and what everybody may in it; empty if it is the cluster's, and closed."""
    words = [f"owner {bucket.owner}"] if bucket.owner else []
    words += ["public"] if bucket.public else []
    words += [bucket.acl] if bucket.acl != "private" else []
    return ", ".join(words)


def bucket_record(bucket: Bucket) -> dict[str, object]:
    fields: dict[str, object] = bucket._asdict()
    return fields | {"created": json_time(bucket.created)}


def make_console(*, stderr: bool = False, spare_columns: int = 0) -> Console:
    """Return a rich console that never interprets markup or numbers in users' names.

    ``spare_columns`` stay free at the right, for characters that a terminal echoes there.
    """
    from rich.console import Console
    from rich.theme import Theme

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # newer versions of rich would end the process with exit code 1

    readable_on_white = Theme({"progress.remaining": "none"})
    console = Output(stderr=stderr, highlight=False, markup=False, emoji=False, theme=readable_on_white)
    if spare_columns:
        console.width -= spare_columns
    return console


def span_text(seconds: float | None) -> str:
    """Return a rounded duration: ``12 s``, ``5 min``, ``3 h``, ``2 d``; a dash if it is unknown."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def space_text(used: int, capacity: int) -> str:
    """Return used space as ``1.2 GiB of 80 GiB (2%)``; a dash for a node without volumes."""
    if not capacity:
        return "-"
    return f"{size_text(used)} of {size_text(capacity)} ({100 * used / capacity:.0f}%)"


def count_text(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
