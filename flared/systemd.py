"""The protocol between a service and its starter, systemd or ``flared local``: notifications, and sockets passed.

sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3), without a library.
"""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)

NOT_HEARD = "; not heard: "
"""In a data node's status text: behind it stands why an api node does not take its heartbeats."""

LISTEN_FDS_START = 3
"""Inherited descriptors begin after standard error."""


def notify(state: str) -> None:
    """Send ``state``, such as ``READY=1``, if the starter listens. Never fails, because no data depends on it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
            notifier.connect("\0" + address[1:] if address.startswith("@") else address)
            notifier.sendall(state.encode())
    except OSError as error:
        log.debug("event=notify_failed state=%r error=%r", state, error.strerror)


def watchdog_seconds() -> float | None:
    """Return the silence after which we are killed and restarted; None without a watchdog."""
    if not _is_for_us("WATCHDOG_PID"):
        return None
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None


def take_descriptors() -> range:
    """The listening sockets that were opened for us; none the second time, and none for our children."""
    ours = _is_for_us("LISTEN_PID", needed=True)
    count = os.environ.pop("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if not ours or not count.isdecimal():
        return range(0)
    descriptors = range(LISTEN_FDS_START, LISTEN_FDS_START + int(count))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return descriptors


def _is_for_us(variable: str, *, needed: bool = False) -> bool:
    """Return whether a variable that names a process names this one; it may be absent unless ``needed``."""
    value = os.environ.get(variable)
    return value == str(os.getpid()) if value is not None else not needed
