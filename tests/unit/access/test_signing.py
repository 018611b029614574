from __future__ import annotations

import hashlib
import hmac
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.access import signing
from flared.access.signing import (
    EMPTY_SHA256,
    IN_TRAILER,
    LINK_SECONDS_MAX,
    UNSIGNED,
    Claim,
    ShareLink,
    check_clock,
    check_link_time,
    is_link,
    is_link_signed_by,
    is_signed_by,
    is_trailer_signed_by,
    link_query,
    parse_claim,
    parse_link,
    sign,
    sign_trailer,
    signed_fields,
)
from flared.errors import BadSignature, ClockSkewed

SECRET = "s" * 40
KEY = "FLABCDEFGHIJKLMNOPQR"
NOW = 1_800_000_000
BODY = hashlib.sha256(b"body").hexdigest()
PLAIN = Claim(KEY, NOW, BODY, "")
STRICT = Claim(KEY, NOW, BODY, "", "n" * 32)
PATH = "/bucket/photos/object/a%20b"
FIELDS = {
    "host": "api:8000",
    "content-length": "4",
    "content-type": "text/plain",
    "if-match": '"x"',
    "x-flare-meta-a": "1",
    "user-agent": "test",
}

path_texts = st.text(string.ascii_letters + string.digits + "/-._~%+", min_size=1).map("/".__add__)
values = st.text(st.characters(min_codepoint=32, max_codepoint=255, blacklist_characters="\x7f"), max_size=20)
covered_names = st.sampled_from(
    ["if-none-match", "range", "x-flare-copy-source", "x-flare-meta-b", "content-md5", "cache-control", "expires"]
)


def signed(claim: Claim, method: str = "PUT", path: str = PATH, query: str = "", **more: str) -> Claim:
    return claim._replace(signature=sign(SECRET, claim, method, path, query, FIELDS | more))


def test_the_plain_form_is_what_others_speak() -> None:
    text = f"PUT\n{PATH}\na=b\n{NOW}\n{BODY}"
    wanted = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
    assert sign(SECRET, PLAIN, "PUT", PATH, "a=b", {}) == wanted


def test_the_strict_form_is_what_its_grammar_says() -> None:
    text = (
        f"FLARE-SIGN\nPUT\n{PATH}\n\napi:8000\n{KEY}\n{NOW}\n{'n' * 32}\n{BODY}\n"
        'content-type:text/plain\nif-match:"x"\nx-flare-meta-a:1\n'
    )
    wanted = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
    assert sign(SECRET, STRICT, "PUT", PATH, "", FIELDS | {"host": "API:8000"}) == wanted


@pytest.mark.parametrize("claim", [PLAIN, STRICT, STRICT._replace(payload=IN_TRAILER)])
def test_what_was_signed_is_accepted(claim: Claim) -> None:
    claim = signed(claim)
    assert parse_claim(signed_fields(claim, claim.signature))._replace(sent_payload="") == claim
    assert is_signed_by(SECRET, claim, "PUT", PATH, "", FIELDS)


def test_digests_in_capitals_are_accepted_in_the_plain_form() -> None:
    claim = signed(PLAIN._replace(payload=BODY.upper()))
    read = parse_claim(signed_fields(claim, claim.signature.upper()))
    assert read.payload == BODY
    assert is_signed_by(SECRET, read, "PUT", PATH, "", FIELDS)


def test_a_call_without_a_body_needs_no_digest_in_the_plain_form() -> None:
    for fields in ({}, {"x-fs-content-sha256": UNSIGNED}):
        claim = parse_claim({"x-fs-timestamp": str(NOW), "x-fs-signature": "0" * 64, **fields})
        assert claim.payload == UNSIGNED


@pytest.mark.parametrize("claim", [PLAIN, STRICT])
@pytest.mark.parametrize(
    ("method", "path", "query"),
    [("GET", PATH, ""), ("PUT", PATH + "x", ""), ("PUT", "/bucket/photos/object/a b", ""), ("PUT", PATH, "chunks")],
)
def test_another_method_path_or_query_is_refused(claim: Claim, method: str, path: str, query: str) -> None:
    assert not is_signed_by(SECRET, signed(claim), method, path, query, FIELDS)


@pytest.mark.parametrize("claim", [PLAIN, STRICT])
def test_another_time_digest_or_secret_is_refused(claim: Claim) -> None:
    good = signed(claim)
    assert not is_signed_by(SECRET, good._replace(timestamp=NOW + 1), "PUT", PATH, "", FIELDS)
    assert not is_signed_by(SECRET, good._replace(payload=EMPTY_SHA256), "PUT", PATH, "", FIELDS)
    assert not is_signed_by(SECRET + "s", good, "PUT", PATH, "", FIELDS)


def test_the_strict_form_covers_the_key_the_nonce_and_the_host() -> None:
    good = signed(STRICT)
    assert not is_signed_by(SECRET, good._replace(access_key="FLZ"), "PUT", PATH, "", FIELDS)
    assert not is_signed_by(SECRET, good._replace(nonce="m" * 32), "PUT", PATH, "", FIELDS)
    assert not is_signed_by(SECRET, good, "PUT", PATH, "", FIELDS | {"host": "other"})


def test_no_form_passes_for_another() -> None:
    strict, plain = signed(STRICT), signed(PLAIN)
    assert not is_signed_by(SECRET, strict._replace(nonce=""), "PUT", PATH, "", FIELDS)
    assert not is_signed_by(SECRET, plain._replace(nonce="n" * 32), "PUT", PATH, "", FIELDS)


@given(covered_names, values, values)
def test_the_strict_form_covers_conditions_ranges_types_and_our_fields(name: str, before: str, after: str) -> None:
    good = STRICT._replace(signature=sign(SECRET, STRICT, "PUT", PATH, "", FIELDS | {name: before}))
    accepted = is_signed_by(SECRET, good, "PUT", PATH, "", FIELDS | {name: after})
    assert accepted == (before == after)
    assert not is_signed_by(SECRET, good, "PUT", PATH, "", FIELDS)
    assert not is_signed_by(SECRET, signed(STRICT), "PUT", PATH, "", FIELDS | {name: after})


def test_the_strict_form_leaves_out_what_the_way_may_change() -> None:
    changed = FIELDS | {"user-agent": "proxy", "content-length": "5", "via": "1.1 proxy", "connection": "close"}
    assert is_signed_by(SECRET, signed(STRICT), "PUT", PATH, "", changed)


@given(st.dictionaries(st.sampled_from(list(signed_fields(STRICT, ""))), values))
def test_any_fields_are_either_read_or_refused(fields: dict[str, str]) -> None:
    fields.setdefault("x-fs-signature", "0" * 64)
    try:
        claim = parse_claim(fields)
    except BadSignature:
        return
    assert len(claim.signature) == 64
    assert not is_signed_by(SECRET, claim, "GET", "/", "", fields)


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_clocks_may_differ_by_five_minutes(seconds: int) -> None:
    check_clock(NOW + seconds, NOW + 0.5)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (301, "5 minutes ahead of"),
        (-512, "8 minutes behind"),
        (-90_000, "25 hours behind"),
        (10**9, "11574 days ahead of"),
    ],
)
def test_a_larger_difference_is_named(seconds: int, words: str) -> None:
    with pytest.raises(ClockSkewed, match=words) as refused:
        check_clock(NOW + seconds, NOW)
    assert refused.value.ahead_seconds == seconds


def test_a_trailer_is_bound_to_its_head_and_its_digest() -> None:
    trailer = {"x-fs-content-sha256": BODY, "x-fs-trailer-signature": sign_trailer(SECRET, "head", BODY)}
    assert is_trailer_signed_by(SECRET, "head", trailer, BODY)
    assert not is_trailer_signed_by(SECRET, "other", trailer, BODY)
    assert not is_trailer_signed_by(SECRET + "s", "head", trailer, BODY)
    assert not is_trailer_signed_by(SECRET, "head", trailer, EMPTY_SHA256)
    assert not is_trailer_signed_by(SECRET, "head", trailer | {"x-fs-content-sha256": EMPTY_SHA256}, EMPTY_SHA256)
    assert not is_trailer_signed_by(SECRET, "head", trailer | {"x-fs-trailer-signature": "é"}, BODY)
    assert not is_trailer_signed_by(SECRET, "head", {}, BODY)


LINK = ShareLink(KEY, NOW + 3600, "GET")


@given(path_texts)
def test_a_link_opens_its_object_however_that_is_encoded(path: str) -> None:
    link = parse_link(link_query(SECRET, LINK, path))
    assert is_link_signed_by(SECRET, link, "GET", path)
    assert is_link_signed_by(SECRET, link, "HEAD", path.replace("-", "%2d"))
    assert not is_link_signed_by(SECRET, link, "GET", path + "x")
    assert not is_link_signed_by(SECRET + "s", link, "GET", path)
    assert not any(is_link_signed_by(SECRET, link, method, path) for method in ("PUT", "DELETE", "POST"))


def test_a_link_covers_its_key_time_and_method() -> None:
    link = parse_link(link_query(SECRET, LINK._replace(method="PUT"), PATH))
    assert is_link_signed_by(SECRET, link, "PUT", PATH)
    assert not is_link_signed_by(SECRET, link._replace(expires=NOW + 3601), "PUT", PATH)
    assert not is_link_signed_by(SECRET, link._replace(access_key="FLZ"), "PUT", PATH)
    assert not is_link_signed_by(SECRET, link._replace(method="GET"), "GET", PATH)
    assert not is_link_signed_by(SECRET, link, "GET", PATH)


def test_a_path_cannot_reach_into_the_other_lines_of_a_link() -> None:
    link = parse_link(link_query(SECRET, ShareLink("B", NOW, "GET"), "/a%0AA"))
    assert not is_link_signed_by(SECRET, link._replace(access_key="A\nB"), "GET", "/a")


def test_a_link_ends_and_has_a_longest_time() -> None:
    check_link_time(LINK, NOW)
    check_link_time(LINK._replace(expires=NOW + LINK_SECONDS_MAX), NOW)
    for expires in (NOW, NOW - 1, NOW + LINK_SECONDS_MAX + 301):
        with pytest.raises(BadSignature):
            check_link_time(LINK._replace(expires=expires), NOW)


QUERY = link_query(SECRET, LINK, PATH)


@pytest.mark.parametrize(
    "query",
    [
        QUERY + "&chunks",
        "chunks&" + QUERY,
        QUERY + "0",
        QUERY.replace("GET", "DELETE"),
        QUERY + "&" + QUERY,
        QUERY[:-1],
    ],
)
def test_a_link_that_was_changed_is_refused(query: str) -> None:
    assert is_link(query)
    with pytest.raises(BadSignature):
        parse_link(query)


@given(st.text(st.characters(max_codepoint=255)))
def test_any_query_is_read_or_refused(query: str) -> None:
    try:
        link = parse_link(query)
    except BadSignature:
        return
    assert not is_link_signed_by(SECRET, link, "GET", PATH)


def test_other_queries_are_not_links() -> None:
    assert not is_link("prefix=x-fs-signature&limit=1")
    assert signing.is_link("x-fs-signature=1")
