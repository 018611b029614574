"""Names that a user types: ``[BUCKET:]KEY``, sizes and times."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from flarectl.errors import Refusal, Usage
from flared.errors import BadName
from flared.http.percent import encode_key
from flared.names import DEFAULT_BUCKET, BucketName, ObjectKey, parse_bucket, parse_key

_WILD = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class Target:
    """A name on the cluster. ``key`` may be empty (the whole bucket), a prefix or a pattern."""

    bucket: BucketName
    key: str
    version: int = 0
    """Of the object; 0 for the newest."""

    def __str__(self) -> str:
        """Return the name as a user would type it."""
        if self.bucket == DEFAULT_BUCKET and self.key and ":" not in self.key:
            return self.key
        return f"{self.bucket}:{self.key}"

    @property
    def is_place(self) -> bool:
        """True if objects are stored inside it, rather than under exactly this name."""
        return not self.key or self.key.endswith("/")

    @property
    def is_whole_bucket(self) -> bool:
        """True if it names everything in the bucket: no key, or a pattern that matches any key."""
        return not self.key or ("*" in self.key and not self.key.strip("*/"))

    def at(self, key: str) -> Target:
        return Target(self.bucket, key)

    def path(self) -> str:
        """Return the path of the object, or of that version of it, in a URL. Raise as ``object_key``."""
        path = object_path(self.bucket, self.object_key())
        return f"{path}?version={self.version}" if self.version else path

    def object_key(self) -> ObjectKey:
        """Return the checked key. Raise Usage for a whole bucket, Refusal for an invalid key."""
        if not self.key:
            raise Usage(f"{self} names a bucket, not an object")
        return check_key(self.key)


def parse_target(text: str) -> Target:
    """Parse ``[BUCKET:]KEY``; ``:KEY`` is in the default bucket too, and ``:`` alone is all of it. Raise Usage."""
    bucket, colon, key = text.partition(":")
    if not colon:
        return Target(DEFAULT_BUCKET, text)
    if not bucket:
        return Target(DEFAULT_BUCKET, key)
    try:
        return Target(parse_bucket(bucket), key)
    except BadName as error:
        raise Usage(f"{error}; for a key with a colon in the default bucket write {DEFAULT_BUCKET}:{text}") from None


def parse_bucket_argument(text: str) -> BucketName:
    """Parse a bucket's name, with or without the colon. Raise Usage."""
    try:
        return parse_bucket(text.removesuffix(":"))
    except BadName as error:
        raise Usage(str(error)) from None


def check_key(key: str) -> ObjectKey:
    """Return the key; raise Refusal if it is not a valid one."""
    try:
        return parse_key(key)
    except BadName as error:
        raise Refusal(f"{key}: {error}") from None


def parse_size(text: str) -> int:
    """Return bytes from ``8MiB``, ``512 KiB`` or a plain number. Raise Usage."""
    match = re.fullmatch(r"\s*(\d{1,15})\s*(|B|KiB|MiB|GiB)\s*", text)
    if not match:
        raise Usage(f"{text!r} is not a valid size: write bytes, or a number with KiB, MiB or GiB")
    return int(match[1]) << {"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30}[match[2]]


def parse_duration(text: str) -> int:
    """Return seconds from ``30s``, ``10min``, ``12 h`` or ``7d``. Raise Usage."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*(s|min|h|d)\s*", text)
    if not match:
        raise Usage(f"{text!r} is not a valid time: write a number with s, min, h or d, such as 10min")
    return int(match[1]) * {"s": 1, "min": 60, "h": 3600, "d": 86400}[match[2]]


def one_version(targets: list[Target], version: int, *, recursive: bool) -> Target:
    """Return that version of the one object that is named. Raise Usage for anything but one key."""
    if recursive or len(targets) != 1 or targets[0].is_place or has_pattern(targets[0].key):
        raise Usage("--version takes one key, without -r: flarectl ls --versions KEY lists its versions")
    return Target(targets[0].bucket, targets[0].key, version)


def has_pattern(text: str) -> bool:
    """Return whether ``text`` holds a wildcard of the shell: ``*``, ``?`` or ``[``."""
    return _WILD.search(text) is not None


def object_path(bucket: str, key: str) -> str:
    """Return the object's path in a URL."""
    return f"/bucket/{bucket}/object/{encode_key(key)}"


def is_prefix(target: Target, advice: str) -> Usage:
    """Return the Failure for a name that is not an object, but a prefix of objects."""
    return Usage(f"{target}: is a prefix, not an object; {advice}")


def base_name(key: str) -> str:
    """Return the last part of a key or path, with or without a slash at its end."""
    return key.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Exclusion:
    """The --exclude patterns: one without a slash matches any part of a path, one with a slash the whole path."""

    patterns: tuple[str, ...] = ()

    def __contains__(self, relative: str) -> bool:
        names = relative.strip("/").split("/")
        return any(_excludes(pattern, names) for pattern in self.patterns)


def _excludes(pattern: str, names: list[str]) -> bool:
    pattern = pattern.rstrip("/")
    if "/" not in pattern:
        return any(fnmatchcase(name, pattern) for name in names)
    wanted = pattern.lstrip("/").split("/")
    return len(names) >= len(wanted) and all(map(fnmatchcase, names, wanted))
