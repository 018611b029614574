"""Files with an access key and its secret, in the form that AWS tools read (``AWS_SHARED_CREDENTIALS_FILE``): written
by ``key create``, read by ``config set``."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from flarectl.errors import Refusal, Usage, from_os

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_NAMES = {"aws_access_key_id": "access_key", "aws_secret_access_key": "secret_key"}
FILE_CHARS_MAX = 64 * 1024


def format_credentials(access_key_id: str, secret: str) -> str:
    return f"[default]\naws_access_key_id = {access_key_id}\naws_secret_access_key = {secret}\n"


def read_credentials(path: str, setting: str) -> dict[str, str]:
    """Return the settings in a file: an access key with its secret in the form above, or nothing but ``setting``.

    ``-`` is standard input. Raise Failure if it cannot be read, or holds neither.
    """
    try:
        if path == "-":
            content = sys.stdin.read(FILE_CHARS_MAX)
        else:
            with open(path, encoding="utf-8", errors="replace") as file:
                content = file.read(FILE_CHARS_MAX)
    except OSError as error:
        raise from_os(error, path) from None
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    found: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and name.strip() in _NAMES:
            found.setdefault(_NAMES[name.strip()], value.strip())
    if len(found) == len(_NAMES):
        return found
    if len(lines) == 1 and not found:
        return {setting: lines[0]}
    raise Usage(
        f"{path}: it should hold the {setting} alone, or an access key as flarectl key create --output writes it"
    )


@contextmanager
def new_credentials_file(path: str) -> Iterator[Callable[[str], None]]:
    """Make the file, which only its owner may read, before there is a secret; yield what writes to it, synced.

    It is removed if nothing was written. Raise Refusal if it exists, or cannot be made or written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Refusal(f"{path}: exists already; a secret is written to a new file only") from None
    except OSError as error:
        raise from_os(error, path) from None
    written = False

    def write(text: str) -> None:
        nonlocal written
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
        except OSError as error:
            raise from_os(error, path) from None
        written = True

    try:
        yield write
    finally:
        os.close(descriptor)
        if not written:
            with suppress(OSError):
                os.unlink(path)
