"""Logs: one event a line, ``key=value``; JSON on request. Also the request id that ties a reply to its lines.

Every module has ``log = logging.getLogger(__name__)`` and writes messages such as ``event=node_lost node=data2``.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Sequence
from contextvars import ContextVar
from itertools import count

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
SYSLOG_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

current_request: ContextVar[int | str] = ContextVar("current_request", default=0)
"""The request this task works for: its number, or the id that it came with; 0 outside of any. Tasks inherit it."""

REQUESTS_MAX = 32
"""Most ids of a batch that are sent: a field of a request has bounds, and a search can go by the time too."""

next_request = count(1).__next__
_process = secrets.token_hex(4)

_PAIR = re.compile(r"(\w+)=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S*)")


def request_id() -> str:
    """The id of the current request as a client sees it: unique over processes and restarts."""
    return name_request(current_request.get())


def name_request(request: int | str) -> str:
    return request if isinstance(request, str) else f"{_process}-{request:06x}"


def name_requests(requests: Sequence[int | str]) -> str:
    """The ids of what travels together, comma-separated: the first ones, and nothing of what no request asked for."""
    return ",".join(map(name_request, [request for request in requests if request][:REQUESTS_MAX]))


def set_up_logging(*, level: str, format: str) -> None:  # noqa: A002  # the word of the TOML key
    """Send all logs to stderr, in the way asked for."""
    handler = logging.StreamHandler(sys.stderr)
    if format == "json":
        handler.setFormatter(JsonFormatter(journal=_goes_to_journal()))
    else:
        handler.setFormatter(TextFormatter(journal=_goes_to_journal()))
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)


class TextFormatter(logging.Formatter):
    """``time level module event=… key=value``; under journald its priority instead of the time it adds itself."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        request = f" request={request_id()}" if current_request.get() else ""
        line = f"{record.levelname.lower()} {record.name} {one_line(record.getMessage())}{request}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        if not self._journal:
            return f"{format_time(record.created)} {line}"
        # journald takes each line as an event: every line of a traceback needs the priority.
        prefix = _priority(record)
        return "\n".join(prefix + part for part in line.split("\n"))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the event's ``key=value`` pairs as its members; journald takes its priority off."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        event: dict[str, str] = {
            "time": format_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if message.startswith("event="):
            event.update({key: _unquote(value) for key, value in _PAIR.findall(message)})
        else:
            event["message"] = message
        if current_request.get():
            event["request"] = request_id()
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return (_priority(record) if self._journal else "") + json.dumps(event, ensure_ascii=False)


def one_line(text: str) -> str:
    """The text with control characters escaped: a name or a header never forges a line of the log."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def format_time(seconds: float) -> str:
    """UTC, RFC 3339, milliseconds: ``2026-11-21T09:18:48.123Z``."""
    # Rounding down, as a clock does, and never to 1000 milliseconds.
    milliseconds = int(seconds * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(milliseconds // 1000))}.{milliseconds % 1000:03d}Z"


def _priority(record: logging.LogRecord) -> str:
    """Return the prefix of a line to journald (sd-daemon(3))."""
    return f"<{SYSLOG_PRIORITIES.get(record.levelno, 6)}>"


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1].replace(f"\\{value[0]}", value[0])
    return value


def _goes_to_journal() -> bool:
    """Return whether stderr is the stream that systemd names in JOURNAL_STREAM (device:inode)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
