"""What clients carry: a tree of files with awkward names, and files of more than one part."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

AWKWARD = (
    "plain.txt",
    "with blank.txt",
    "plus+and&and=and%25.txt",
    "umläut-é-日本.txt",
    "quote'and#hash;semi,comma.txt",
    "(round)[square]{curly}~tilde!.txt",
    "deep/er/still deeper/leaf.bin",
    "deep/empty",
    "dash-_-under.tar.gz",
    "colon:at@.txt",
)
PART = 5 * 1024 * 1024
LARGE = 3 * PART + 123_457
"""A body of four parts."""


def write_tree(root: Path, seed: int = 1) -> Path:
    """Write the tree; sizes from nothing to half a megabyte."""
    numbers = random.Random(seed)
    for place, name in enumerate(AWKWARD):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(numbers.randbytes(0 if name.endswith("empty") else (place * 61_441) + 1))
    return root


def write_large(path: Path, seed: int = 2, size: int = LARGE) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def read_tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def check_equal(left: Path, right: Path) -> None:
    """Fail unless both trees have the same files with the same bytes."""
    one, other = read_tree(left), read_tree(right)
    assert sorted(one) == sorted(other)
    for name, content in one.items():
        assert content == other[name], f"{name} differs"
