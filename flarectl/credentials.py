"""Files with an access key and its secret, in the form that AWS tools read (``AWS_SHARED_CREDENTIALS_FILE``)."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from flarectl.errors import Refusal, from_os

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def format_credentials(access_key_id: str, secret: str) -> str:
    return f"[default]\naws_access_key_id = {access_key_id}\naws_secret_access_key = {secret}\n"


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
