from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.meta.shared.frames import (
    Answer,
    BadFrame,
    Commit,
    Outcome,
    pack_answer,
    pack_commit,
    pack_list,
    unpack_answers,
    unpack_commits,
)

COMMITS = [
    Commit(1, {b"a": 7, b"b": 0}, {b"a": b"value", b"b": None, b"": b""}, [(b"object/x", -1, 26)], reclaims=False),
    Commit(2**64 - 1, {}, {}, [], reclaims=True),
]
ANSWERS = [Answer(1, Outcome.DONE), Answer(2, Outcome.ERROR, "Busy\nlater, ä")]


def test_what_is_packed_is_unpacked() -> None:
    assert unpack_commits(pack_list([pack_commit(commit) for commit in COMMITS])) == COMMITS
    assert unpack_answers(pack_list([pack_answer(answer) for answer in ANSWERS])) == ANSWERS


def test_a_frame_that_is_cut_or_has_more_is_refused() -> None:
    whole = pack_list([pack_commit(commit) for commit in COMMITS])
    for end in range(len(whole)):
        with pytest.raises(BadFrame):
            unpack_commits(whole[:end])
    with pytest.raises(BadFrame):
        unpack_commits(whole + b"\0")
    whole = pack_list([pack_answer(answer) for answer in ANSWERS])
    for end in range(len(whole)):
        with pytest.raises(BadFrame):
            unpack_answers(whole[:end])


def test_absurd_counts_take_no_memory() -> None:
    with pytest.raises(BadFrame, match="announces"):
        unpack_commits(b"\xff\xff\xff\xff")
    with pytest.raises(BadFrame):
        unpack_answers(b"\x01\0\0\0" + b"\0" * 8 + b"\0" + b"\xff\xff\xff\xff")


keys = st.binary(max_size=20)
versions = st.integers(-(2**63), 2**63 - 1)
commits = st.builds(
    Commit,
    st.integers(0, 2**64 - 1),
    st.dictionaries(keys, versions, max_size=5),
    st.dictionaries(keys, st.none() | st.binary(max_size=50), max_size=5),
    st.lists(st.tuples(keys, versions, versions), max_size=5),
    st.booleans(),
)


@given(st.lists(commits, max_size=4))
def test_any_commits_come_back(some: list[Commit]) -> None:
    assert unpack_commits(pack_list([pack_commit(commit) for commit in some])) == some


def test_a_key_that_is_not_there_is_refused() -> None:
    packed = bytearray(pack_list([pack_commit(Commit(1, {b"": 7}, {}, [], reclaims=False))]))
    packed[-4:] = b"\xff" * 4
    with pytest.raises(BadFrame, match="key"):
        unpack_commits(bytes(packed))


def test_flipped_bytes_are_refused_or_mean_something_else() -> None:
    whole = pack_list([pack_commit(commit) for commit in COMMITS])
    draw = random.Random(1)
    for _ in range(2000):
        broken = bytearray(whole)
        broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        try:
            unpack_commits(bytes(broken))
        except BadFrame:
            continue
