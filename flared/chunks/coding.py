"""Coding: the arithmetic of ``rs:K+M`` and ``xor:K+1``: parity of K equal pieces of data, and data out of any K pieces.

Byte ``b`` of parity piece ``j`` is a sum over byte ``b`` of the data pieces in GF(2^8), by row ``j`` of a Cauchy
matrix. So all is done a *span* at a time: the library holds the interpreter while it works, for a third of a
millisecond then, and takes no more memory than a span of each piece.

PyECLib does it by Intel's ISA-L (its back end ``isa_l_rs_cauchy``). Of its fragments only the payload is kept: Flare
describes and checks its pieces itself, and so nothing on a disk depends on a version of the library. To decode, the
library's headers are made anew, by encoding zeros.
Source: Bloemer et al., "An XOR-Based Erasure-Resilient Coding Scheme" (1995); ISA-L's ``gf_gen_cauchy1_matrix``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from flared.data.pieces import BLOCK_SIZE
from flared.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BACK_END = "isa_l_rs_cauchy"

SPAN = BLOCK_SIZE
ALIGNMENT = 64
"""The size of a piece is a multiple of this: what the library works on at once."""


class Driver(Protocol):
    """The part of ``pyeclib.ec_iface.ECDriver`` that is used. Fragments are the data pieces, then the parity."""

    def encode(self, data_bytes: bytes) -> list[bytes]: ...

    def decode(self, fragment_payloads: list[bytes]) -> bytes: ...


def encode_parity(data: Sequence[bytes | memoryview], parity: int) -> list[memoryview]:
    """Return so many parity pieces of ``data``, which are of one size, a multiple of ALIGNMENT.

    Raises Unavailable if the library is not installed.
    """
    driver, size = open_driver(len(data), parity), len(data[0])
    pieces = [memoryview(bytearray(size)) for _ in range(parity)]
    for start in range(0, size, SPAN):
        end = min(start + SPAN, size)
        fragments = driver.encode(b"".join(memoryview(piece)[start:end] for piece in data))
        for piece, fragment in zip(pieces, fragments[len(data) :], strict=True):
            piece[start:end] = memoryview(fragment)[len(fragment) - (end - start) :]
    return pieces


def decode_data(payloads: Mapping[int, bytes | memoryview], data: int, parity: int) -> dict[int, memoryview]:
    """Return the data pieces that ``payloads`` lack, which are any ``data`` verified pieces by number.

    Raises Unavailable if the library is not installed.
    """
    driver, size = open_driver(data, parity), len(next(iter(payloads.values())))
    lacking = {number: memoryview(bytearray(size)) for number in range(data) if number not in payloads}
    for start in range(0, size, SPAN):
        end = min(start + SPAN, size)
        heads = _fragment_heads(data, parity, end - start)
        fragments = [heads[number] + memoryview(payload)[start:end] for number, payload in payloads.items()]
        plain = memoryview(driver.decode(fragments))
        for number, piece in lacking.items():
            piece[start:end] = plain[number * (end - start) : (number + 1) * (end - start)]
    return lacking


@lru_cache(maxsize=64)
def open_driver(data: int, parity: int) -> Driver:
    """Return the library for so many pieces. Raises Unavailable if it is not installed."""
    try:
        from pyeclib.ec_iface import ECDriver, ECDriverError
    except ImportError:
        raise Unavailable("coded chunks need PyECLib on the api node (Debian: python3-pyeclib, libisal2)") from None
    try:
        driver: Driver = ECDriver(k=data, m=parity, ec_type=BACK_END)
    except ECDriverError as error:
        raise Unavailable(f"coded chunks need ISA-L on the api node (Debian: libisal2); PyECLib: {error}") from error
    return driver


@lru_cache(maxsize=256)
def _fragment_heads(data: int, parity: int, span: int) -> tuple[bytes, ...]:
    """What the library writes in front of each fragment of ``data * span`` bytes; it says nothing about the bytes."""
    fragments = open_driver(data, parity).encode(bytes(data * span))
    return tuple(fragment[: len(fragment) - span] for fragment in fragments)
