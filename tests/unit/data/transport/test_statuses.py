from __future__ import annotations

from flared.data.transport import statuses
from flared.errors import (
    BadDigest,
    Busy,
    NodeUnreachable,
    NoSuchPiece,
    PieceCorrupt,
    Unauthenticated,
    VolumeFailed,
    VolumeFull,
)


def test_errors_keep_their_meaning_over_the_wire() -> None:
    errors = [NoSuchPiece(), VolumeFull(), VolumeFailed(), PieceCorrupt(), Busy(), BadDigest("wrong")]
    assert [statuses.status_of(error) for error in errors] == [404, 507, 503, 500, 503, 400]
    assert statuses.put_error("n", "a", 201) is None
    assert statuses.put_error("n", "a", 200) is None
    assert type(statuses.put_error("n", "a", 507)) is VolumeFull
    assert type(statuses.put_error("n", "a", 503)) is NodeUnreachable
    assert type(statuses.get_error("n", "a", 404)) is NoSuchPiece
    assert type(statuses.get_error("n", "a", 500)) is PieceCorrupt
    assert statuses.delete_error("n", "a", 404) is None
    assert type(statuses.delete_error("n", "a", 503)) is NodeUnreachable


def test_a_404_counts_only_with_its_code() -> None:
    assert type(statuses.request_error("n", 404, "NoSuchPiece", "")) is NoSuchPiece
    assert type(statuses.request_error("n", 404, "", "")) is NodeUnreachable
    assert type(statuses.request_error("n", 401, "Unauthenticated", "")) is Unauthenticated
    assert type(statuses.request_error("n", 500, "RuntimeError", "")) is NodeUnreachable
