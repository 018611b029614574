"""Where tests and measurements with real disks put their files: never on a tmpfs that would make syncs free."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REAL_DISK = Path("/var/tmp")


@contextlib.contextmanager
def scratch_directory(keep: Path | None = None, *, below: Path = REAL_DISK) -> Iterator[Path]:
    """A fresh directory, removed with the block; or ``keep``, which stays."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    directory = Path(tempfile.mkdtemp(prefix="flare-", dir=below))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
