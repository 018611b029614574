"""Audit: one line for each change and each refusal: who, what, from where, allowed or not.

    event=audit who=key:laptop peer=10.0.0.7:4711 action=bucket:remove call=native.remove_bucket on='photos'
        allowed=yes status=204 request=…

Lines go where the log goes, or into a file of their own, as text or JSON like the log. Each is one write to the end of
the file, so several processes share it. A file that cannot be written stops no request: the log says so.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from flared.errors import ConfigError
from flared.log import JsonFormatter, TextFormatter

if TYPE_CHECKING:
    from pathlib import Path

audit = logging.getLogger("flared.audit")
log = logging.getLogger(__name__)

COMPLAINT_SECONDS = 60.0
"""Between two lines about a file that cannot be written."""


def set_up_audit(file: Path | None, format: str) -> None:  # noqa: A002  # the word of the TOML key
    """Send audit lines to ``file``, opened anew, or with None to the log. Raise ConfigError; then nothing changes."""
    handler = None
    if file is not None:
        handler = _AuditFile(_open(file))
        handler.setFormatter(JsonFormatter(journal=False) if format == "json" else TextFormatter(journal=False))
    for old in audit.handlers[:]:
        audit.removeHandler(old)
        old.close()
    audit.setLevel(logging.INFO)  # at any level of the log
    audit.propagate = handler is None
    if handler is not None:
        audit.addHandler(handler)


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError([f"audit.file: {file}: {reason}; name a file that this node may write"]) from None


class _AuditFile(logging.Handler):
    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._complained = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            os.write(self._descriptor, (self.format(record) + "\n").encode("utf-8", "backslashreplace"))
        except OSError as error:
            if time.monotonic() - self._complained > COMPLAINT_SECONDS:
                self._complained = time.monotonic()
                log.error("event=audit_not_written message=%r", error.strerror)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()
