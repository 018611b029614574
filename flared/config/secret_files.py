"""Secret files: check their permissions, and read systemd's copies of those that we may not read."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from flared.access.keys import SECRETS_BYTES_MAX, parse_secrets

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Where systemd puts the files of LoadCredential= (systemd.exec(5)): once, when it starts the node."""
HANDED = "RUNTIME_DIRECTORY"
"""Where a reload puts changed secrets (``flared.commands.prepare.hand_over``)."""
NO_CREDENTIAL = b"-"


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """Return the secrets in a file, the one that signs first. Raise ValueError with what is wrong with it."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(SECRETS_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    _refuse_open(path, mode)
    try:
        return parse_secrets(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _refuse_open(path: Path, mode: int) -> None:
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ValueError(f"{path} can be read by everybody on this machine: chmod o= {path}")


def read_handed_secrets(path: Path) -> tuple[bytes, ...]:
    """As ``read_secrets``, for a file that we may not be able to read if systemd passed us a copy of it."""
    handed = find_handed(path)
    if handed:
        with suppress(OSError):  # we may not even read its mode, so others may not read it either
            _refuse_open(path, path.stat().st_mode)
    return read_secrets(handed or path)


def find_handed(path: Path) -> Path | None:
    """Return our copy of this file: the one of the last reload, else systemd's from the start.

    A copy with the content ``-`` means that the file does not exist (SetCredential= in the unit).
    """
    loads, runtime = os.environ.get(CREDENTIALS), os.environ.get(HANDED)
    if not loads:
        return None
    if runtime and (brought := Path(runtime, path.name)).is_file():
        return brought
    loaded = Path(loads, path.name)
    try:
        return None if loaded.read_bytes().strip() == NO_CREDENTIAL else loaded
    except OSError:
        return None
