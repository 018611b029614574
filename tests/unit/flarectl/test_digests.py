from __future__ import annotations

import hashlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from flarectl.answers import etag_of, quote_etag
from flarectl.digests import ChunkDigests


@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=5), chunk_size=st.integers(1, 64))
def test_however_the_body_comes_the_digests_are_those_of_its_chunks(
    body: bytes, cuts: list[int], chunk_size: int
) -> None:
    digests = ChunkDigests(chunk_size)
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        digests.update(memoryview(body)[start:end])
    chunks = [body[at : at + chunk_size] for at in range(0, len(body), chunk_size)]
    assert digests.finish() == [hashlib.sha256(chunk).digest() for chunk in chunks]


def test_the_etag_is_that_of_the_design() -> None:
    digest = hashlib.sha256(b"hello\n").digest()
    assert etag_of([digest]) == f'"{hashlib.sha256(digest).hexdigest()[:32]}-1"'
    assert etag_of([]) == '"e3b0c44298fc1c149afbf4c8996fb924-0"'


def test_an_etag_gets_its_quotes_once() -> None:
    assert quote_etag(quote_etag("x-1")) == '"x-1"'
