from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.access.globs import matches


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("", "", True),
        ("", "a", False),
        ("a", "a", True),
        ("*", "", True),
        ("**", "a/b", True),
        ("?", "", False),
        ("?", "/", True),
        ("a*", "a", True),
        ("*a", "ba", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "acb", False),
        ("*a?c*", "xxabcx", True),
        ("*ab*ab", "xabab", True),
        ("*ab*ab", "xab", False),
        ("[a]", "a", False),
        ("a.c", "abc", False),
    ],
)
def test_what_fits(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text) is fits


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_it_is_what_a_regular_expression_finds(pattern: str, text: str) -> None:
    expression = "".join({"*": ".*", "?": "."}.get(letter, letter) for letter in pattern)
    assert matches(pattern, text) is (re.fullmatch(expression, text) is not None)


def test_stars_do_not_go_back_and_forth() -> None:
    """A regular expression would not come back."""
    assert not matches("*a" * 500 + "*b", "a" * 1024)
    assert not matches("*?a" * 300 + "*b", "a" * 1024)
