"""The files of the demo: which they are, the key of each, and whether each came back unchanged."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flared.commands.demo.failed import Failed

BIG_BYTES = 210_000_000
SMALL_FILES = 5
COMPARE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """One file and its key."""

    file: Path
    key: str
    size: int


def name_uploads(files: Sequence[Path], prefix: str) -> list[Upload]:
    """Return a key for each file: its name, in a numbered folder if another file has that name already."""
    uploads: dict[str, Upload] = {}
    for file in files:
        key, number = f"{prefix}{file.name}", 1
        while key in uploads:
            number += 1
            key = f"{prefix}{number}/{file.name}"
        uploads[key] = Upload(file, key, file.stat().st_size)
    return list(uploads.values())


def count_text(uploads: Sequence[Upload]) -> str:
    size = sum(upload.size for upload in uploads)
    amount = f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
    return f"{len(uploads)} file{'s' if len(uploads) > 1 else ''}, {amount}"


def check_files(files: Sequence[Path]) -> None:
    """Raise Failed unless each is a readable file."""
    for file in files:
        if not file.is_file():
            raise Failed(f"{file} is not a file")
        if not os.access(file, os.R_OK):
            raise Failed(f"{file} cannot be read")


def find_files(directory: Path) -> list[Path]:
    """Return a few real files of this machine, and a large one made of real and random bytes."""
    interpreter = Path(sys.executable).resolve()
    library = sorted(Path(os.__file__).parent.glob("*.py"), key=lambda path: path.stat().st_size)
    small = [path for path in library[:: max(1, len(library) // SMALL_FILES)] if path.stat().st_size][:SMALL_FILES]
    big = directory / "large.bin"
    texts = b"".join(path.read_bytes() for path in library[-20:])
    with open(big, "wb") as output:
        source = random.Random(BIG_BYTES)
        while output.tell() < BIG_BYTES:
            output.write(source.randbytes(6_000_000))
            output.write(texts[:2_000_000])
    return [*small, interpreter, big]


def same_bytes(one: Path, other: Path) -> bool:
    """Return whether two files have the same bytes; False if one of them does not exist."""
    try:
        with open(one, "rb") as first, open(other, "rb") as second:
            while True:
                ours, theirs = first.read(COMPARE_BYTES), second.read(COMPARE_BYTES)
                if ours != theirs:
                    return False
                if not ours:
                    return True
    except FileNotFoundError:
        return False
