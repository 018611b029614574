from __future__ import annotations

import pytest

from flarectl import answers
from flarectl.errors import Refusal

STRANGE = [None, [], "text", {"objects": "no"}, {"objects": [{"key": 1}]}, {"objects": [{"key": "a", "size": -1}]}]


@pytest.mark.parametrize("answer", STRANGE)
def test_what_is_no_listing_is_refused(answer: object) -> None:
    with pytest.raises(Refusal, match="is the endpoint right"):
        answers.parse_listing(answer)


@pytest.mark.parametrize(
    "parse", [answers.parse_chunks, answers.parse_put, answers.parse_status, answers.parse_buckets]
)
def test_what_is_not_from_flare_is_refused(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(Refusal):
        parse([1])


def test_an_object_without_an_etag_is_refused() -> None:
    with pytest.raises(Refusal):
        answers.parse_info({"content-length": "3"})


def test_a_part_tells_the_size_of_the_whole() -> None:
    info = answers.parse_info({"content-length": "3", "content-range": "bytes 0-2/10", "etag": '"e-1"'})
    assert info.size == 10


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2026-11-21T09:18:48.500Z", 1795252728.5), ("Sat, 21 Nov 2026 09:18:48 GMT", 1795252728.0), ("soon", 0.0)],
)
def test_times_of_the_api_and_of_http_are_read(text: str, seconds: float) -> None:
    assert answers.parse_time(text) == seconds


def test_a_status_may_lack_what_an_older_server_does_not_tell() -> None:
    status = answers.parse_status({"health": "ok", "nodes": [{"name": "data1"}]})
    assert status.nodes[0].last_seen_seconds is None
    assert status.objects == 0
