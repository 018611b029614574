from __future__ import annotations

import pytest

from flared.errors import BadTag
from flared.objects.tags import check_tags


@pytest.mark.parametrize(
    "tags",
    [
        [],
        [("a", "")],
        [("a b.:/=+@-_ä中", "a b.:/=+@-_ä中")],
        [("k" * 128, "v" * 256)],
        [(f"k{number}", "") for number in range(10)],
    ],
)
def test_tags_that_s3_takes(tags: list[tuple[str, str]]) -> None:
    assert check_tags(tags) == dict(tags)


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ([("", "x")], "tag key"),
        ([("k" * 129, "")], "tag key"),
        ([("a", "v" * 257)], "value of the tag"),
        ([("a<", "")], "tag key"),
        ([("a", "\n")], "value of the tag"),
        ([("aws:x", "")], "reserved"),
        ([("a", "1"), ("a", "2")], "twice"),
        ([(f"k{number}", "") for number in range(11)], "at most 10"),
    ],
)
def test_tags_that_break_a_rule(tags: list[tuple[str, str]], why: str) -> None:
    with pytest.raises(BadTag, match=why):
        check_tags(tags)


def test_a_bucket_may_have_more() -> None:
    assert len(check_tags([(f"k{number}", "") for number in range(50)], 50)) == 50
