from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flared.data.pieces import CODEC_PLAIN, Piece, describe_piece
from flared.data.volume.check import check_piece, check_pieces
from flared.errors import BadDigest, BadRequest


def described(name: str, payload: bytes) -> Piece:
    return describe_piece(name, payload, codec=CODEC_PLAIN, scheme="replica:1", plain_size=len(payload))


@st.composite
def items(draw: st.DrawFn) -> tuple[Piece, bytes]:
    """A piece and its payload; most are wrong somewhere."""
    payload = draw(st.binary(max_size=50))
    piece = described("abc", payload)
    changes: dict[str, object] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["x" * 200, "x" * 201, "\u00e9"]),
                "scheme": st.sampled_from(["", "x" * 15, "x" * 16]),
                "size": st.integers(0, 60),
                "checksum": st.sampled_from([piece.checksum, bytes(16)]),
                "blocks": st.sampled_from([piece.blocks, b"", bytes(8)]),
            },
        )
    )
    return piece._replace(**changes), payload  # type: ignore[arg-type]


@given(st.lists(items(), max_size=5))
def test_many_are_refused_for_what_each_is_refused_for(some: list[tuple[Piece, bytes]]) -> None:
    refused = check_pieces(some)
    each = {number: error for number, item in enumerate(some) if (error := check_piece(*item))}
    assert {number: repr(error) for number, error in refused.items()} == {
        number: repr(error) for number, error in each.items()
    }


def test_what_is_wrong_is_said() -> None:
    good = described("abc", b"right")
    assert check_piece(good, b"right") is None
    assert check_piece(described("abc", b""), b"") is None
    assert isinstance(check_piece(good, b"wrong"), BadDigest)
    assert isinstance(check_piece(good, b"rightx"), BadDigest)
    assert isinstance(check_piece(good._replace(blocks=bytes(8)), b"right"), BadDigest)
    assert isinstance(check_piece(good._replace(scheme="x" * 16), b"right"), BadRequest)
