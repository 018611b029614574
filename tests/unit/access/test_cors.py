"""CORS rules: which page gets which answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.access.cors import CorsRule, find_rule, matches

SHOP = CorsRule(
    ("https://*.shop.example", "https://shop.example"), ("GET", "PUT"), ("x-amz-*", "Content-Type"), ("ETag",), 60
)
ALL = CorsRule(("*",), ("GET",))


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("https://a.example", "https://a.example", True),
        ("https://a.example", "https://a.example.evil", False),
        ("https://*.a.example", "https://b.a.example", True),
        ("https://*.a.example", "https://.a.example", True),
        ("https://*.a.example", "https://a.example", False),
        ("http*", "https://a.example", True),
        ("ab*ba", "aba", False),
        ("*", "", True),
    ],
)
def test_patterns(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text) is fits


def test_the_first_rule_that_fits_answers() -> None:
    grant = find_rule([SHOP, ALL], "https://www.shop.example", "GET")
    assert grant is not None
    assert grant.rule is SHOP
    assert dict(grant.fields())["access-control-allow-origin"] == "https://www.shop.example"
    other = find_rule([SHOP, ALL], "https://other.example", "GET")
    assert other is not None
    assert other.fields()[0] == ("access-control-allow-origin", "*")
    assert "access-control-allow-credentials" not in dict(other.fields())


@pytest.mark.parametrize(
    ("origin", "method", "headers", "allowed"),
    [
        ("https://shop.example", "PUT", (), True),
        ("https://shop.example", "DELETE", (), False),
        ("https://evil.example", "PUT", (), False),
        ("https://shop.example", "PUT", ("content-type", "X-Amz-Date"), True),
        ("https://shop.example", "PUT", ("content-type", "authorization"), False),
    ],
)
def test_origin_method_and_headers_must_all_fit(
    origin: str, method: str, headers: tuple[str, ...], allowed: bool
) -> None:
    assert (find_rule([SHOP], origin, method, headers) is not None) is allowed


def test_fields_of_an_answer() -> None:
    grant = find_rule([SHOP], "https://shop.example", "PUT", ("x-amz-date",))
    assert grant is not None
    assert dict(grant.fields()) == {
        "access-control-allow-origin": "https://shop.example",
        "access-control-allow-methods": "GET, PUT",
        "access-control-allow-headers": "x-amz-date",
        "access-control-expose-headers": "ETag",
        "access-control-max-age": "60",
        "access-control-allow-credentials": "true",
        "vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
    }


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_a_star_stands_for_any_text(head: str, middle: str, tail: str) -> None:
    if "*" not in head:
        assert matches(f"{head}*{tail}", head + middle + tail)
