"""How the keys of the metadata are spelled. ``docs/metadata-keys.md`` says what each holds.

Numbers have a fixed width, so that keys order by them. Object keys end a key and stand as they are, so that
objects order by the UTF-8 bytes of their keys.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

CLUSTER = b"cluster"
BACKUP = b"backup"
RESTORED = b"restored"

_PAGE_DIGITS = 6
_PART_DIGITS = 5
_TIME_DIGITS = 15
_NEWEST = 10**_TIME_DIGITS - 1


class Range(NamedTuple):
    """``start <= key < end``"""

    start: bytes
    end: bytes


@lru_cache(1024)  # there are few, and every put asks for one twice
def bucket(name: str) -> bytes:
    return b"bucket/" + name.encode()


def bucket_document(bucket: str, kind: str) -> bytes:
    return f"bucketdoc/{bucket}/{kind}".encode()


def object_(bucket: str, key: str) -> bytes:
    return f"object/{bucket}/{key}".encode()


def versions(bucket: str) -> bytes:
    """What the versions of a bucket's objects begin with, but for those in ``object/``."""
    return f"version/{bucket}/".encode()


def delete_marker(bucket: str, key: str) -> bytes:
    """Of the newest version, if it is a delete marker. The other versions follow it, the newest first."""
    return f"version/{bucket}/{key}\0".encode()


def version(bucket: str, key: str, number: int) -> bytes:
    return f"version/{bucket}/{key}\0{_NEWEST - number:0{_TIME_DIGITS}}".encode()


def version_number(end: bytes) -> int:
    """The number of a version from what follows the NUL in its key; 0 for the newest one, which has none there."""
    return _NEWEST - int(end) if end else 0


def null_version(bucket: str, key: str) -> bytes:
    return f"null/{bucket}/{key}".encode()


def chunk(chunk: str) -> bytes:
    return b"chunk/" + chunk.encode()


def shared(digest: bytes, scheme: str) -> bytes:
    return f"shared/{digest.hex()}/{scheme}".encode()


def repair(chunk: str) -> bytes:
    return b"repair/" + chunk.encode()


def extent(extent: str) -> bytes:
    return b"extent/" + extent.encode()


def extent_page(extent: str, page: int) -> bytes:
    return f"extent/{extent}/{page:0{_PAGE_DIGITS}}".encode()


def open_extent(expires_ms: int, extent: str) -> bytes:
    return f"open/{expires_ms:0{_TIME_DIGITS}}/{extent}".encode()


def uploads(bucket: str) -> bytes:
    """What the keys of a bucket's uploads begin with. No object's key holds a NUL, so they order by it, then by id."""
    return f"upload/{bucket}/".encode()


def upload(bucket: str, key: str, upload: str) -> bytes:
    return f"upload/{bucket}/{key}\0{upload}".encode()


def part(upload: str, number: int) -> bytes:
    return f"part/{upload}/{number:0{_PART_DIGITS}}".encode()


def garbage(due_ms: int, kind: str, identity: str) -> bytes:
    return f"garbage/{due_ms:0{_TIME_DIGITS}}/{kind}/{identity}".encode()


def signed(expires_ms: int, signature: str) -> bytes:
    return f"signed/{expires_ms:0{_TIME_DIGITS}}/{signature}".encode()


def node(name: str) -> bytes:
    return b"node/" + name.encode()


def invite(invite: str) -> bytes:
    return b"invite/" + invite.encode()


def access_key(access_key_id: str) -> bytes:
    return b"access-key/" + access_key_id.encode()


def key_used(access_key_id: str) -> bytes:
    return b"key-used/" + access_key_id.encode()


def key_name(name: str) -> bytes:
    return b"key-name/" + name.encode()


def removed(name: str) -> bytes:
    return b"removed/" + name.encode()


def damage(node: str) -> bytes:
    return b"damage/" + node.encode()


def orphans(node: str) -> bytes:
    return b"orphans/" + node.encode()


def under(prefix: bytes) -> Range:
    """Every key that begins with ``prefix``, which may not be empty nor end in the byte 255 (UTF-8 never does)."""
    return Range(prefix, prefix[:-1] + bytes((prefix[-1] + 1,)))


def timed(table: str, until_ms: int) -> Range:
    """The entries of ``open``, ``garbage`` or ``signed`` with a time up to and including ``until_ms``."""
    return Range(f"{table}/".encode(), f"{table}/{until_ms + 1:0{_TIME_DIGITS}}/".encode())


def after(key: bytes) -> bytes:
    """The first key that can follow ``key``."""
    return key + b"\0"
