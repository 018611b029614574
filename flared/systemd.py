"""What a service tells whoever started it: systemd, or ``flared local`` in its place (sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send ``state``, such as ``READY=1``, if anybody listens. Never fails: nobody's bytes depend on it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
            notifier.connect("\0" + address[1:] if address.startswith("@") else address)
            notifier.sendall(state.encode())
    except OSError as error:
        log.debug("event=notify_failed state=%r error=%r", state, error.strerror)
