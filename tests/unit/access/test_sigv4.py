"""Signatures, by the examples that AWS has published, and altered in every field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.access.sigv4 import (
    EXPIRES_SECONDS_MAX,
    SKEW_SECONDS,
    SignatureRefused,
    check_scope,
    check_signature,
    check_time,
    find_signature,
    format_time,
    parse_time,
)
from flared.access.sigv4_canonical import ALGORITHM, EMPTY_SHA256, canonical_request, sign, signing_key, string_to_sign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
REGION, TIME, DAY = "us-east-1", "20130524T000000Z", "20130524"
SCOPE = f"{DAY}/{REGION}/s3/aws4_request"
NOW = 1369353600.0
HOST = "examplebucket.s3.amazonaws.com"


def authorization(signed: str, signature: str) -> str:
    return f"{ALGORITHM} Credential={ID}/{SCOPE}, SignedHeaders={signed}, Signature={signature}"


def head(signed: str, signature: str, **fields: str) -> dict[str, str]:
    said = {name.replace("_", "-"): value for name, value in fields.items()}
    common = {"host": HOST, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": TIME}
    return common | said | {"authorization": authorization(signed, signature)}


def verify(method: str, path: str, query: str, fields: Mapping[str, str], *, now: float = NOW) -> None:
    signature = find_signature(query, fields)
    assert signature is not None
    check_time(signature, now)
    check_scope(signature, REGION)
    check_signature(signature, SECRET, method, path, query, fields)


def refused(check: Callable[[], object]) -> str:
    with pytest.raises(SignatureRefused) as caught:
        check()
    assert str(caught.value)
    return caught.value.code


# From the S3 API reference, "Examples: Signature Calculations".

GET = (
    "GET", "/test.txt", "",
    head(
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        range="bytes=0-9",
    ),
)  # fmt: skip
PUT = (
    "PUT", "/test$file.text", "",
    head(
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        date="Fri, 24 May 2013 00:00:00 GMT",
        x_amz_storage_class="REDUCED_REDUNDANCY",
        x_amz_content_sha256="44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
    ),
)  # fmt: skip
SUBRESOURCE = (
    "GET", "/", "lifecycle",
    head(
        "host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    ),
)  # fmt: skip
LIST = (
    "GET", "/", "max-keys=2&prefix=J",
    head(
        "host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    ),
)  # fmt: skip
PRESIGNED = (
    "GET",
    "/test.txt",
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
    {"host": HOST},
)
EXAMPLES = [GET, PUT, SUBRESOURCE, LIST, PRESIGNED]


@pytest.mark.parametrize(("method", "path", "query", "fields"), EXAMPLES)
def test_published_examples(method: str, path: str, query: str, fields: dict[str, str]) -> None:
    verify(method, path, query, fields)


@pytest.mark.parametrize(("method", "path", "query", "fields"), EXAMPLES)
def test_anything_altered_is_refused(method: str, path: str, query: str, fields: dict[str, str]) -> None:
    assert refused(lambda: verify("POST", path, query, fields)) == "SignatureDoesNotMatch"
    assert refused(lambda: verify(method, path + "x", query, fields)) == "SignatureDoesNotMatch"
    assert refused(lambda: verify(method, path, f"{query}&x=1" if query else "x=1", fields)) == "SignatureDoesNotMatch"
    for name in set(fields) - {"authorization", "x-amz-date"}:
        assert refused(lambda name=name: verify(method, path, query, fields | {name: "other"})), name
    signature = fields.get("authorization", query)
    for letter in range(1, 5):
        altered = (
            signature[:-letter] + ("0" if signature[-letter] != "0" else "1") + signature[len(signature) - letter + 1 :]
        )
        if "authorization" in fields:
            code = refused(lambda altered=altered: verify(method, path, query, fields | {"authorization": altered}))
        else:
            code = refused(lambda altered=altered: verify(method, path, altered, fields))
        assert code == "SignatureDoesNotMatch"


def test_what_is_not_signed_does_not_count_and_what_matters_has_to_be() -> None:
    method, path, query, fields = GET
    verify(method, path, query, fields | {"user-agent": "any", "accept-encoding": "x"})
    assert refused(lambda: verify(method, path, query, fields | {"x-amz-acl": "public-read"})) == "AccessDenied"
    assert refused(lambda: verify(*PRESIGNED[:3], {"host": HOST, "x-amz-meta-a": "b"})) == "AccessDenied"
    without_host = fields | {"authorization": authorization("range;x-amz-content-sha256;x-amz-date", "0" * 64)}
    assert refused(lambda: verify(method, path, query, without_host)) == "AccessDenied"


def test_the_clock() -> None:
    for now in (NOW - SKEW_SECONDS, NOW + SKEW_SECONDS):
        verify(*GET, now=now)
    for now in (NOW - SKEW_SECONDS - 1, NOW + SKEW_SECONDS + 1):
        assert refused(lambda now=now: verify(*GET, now=now)) == "RequestTimeTooSkewed"
    verify(*PRESIGNED, now=NOW + 86400)
    verify(*PRESIGNED, now=NOW - SKEW_SECONDS)
    for now in (NOW + 86401, NOW - SKEW_SECONDS - 1):
        assert refused(lambda now=now: verify(*PRESIGNED, now=now)) == "AccessDenied"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("us-east-1", "us-west-1", "AuthorizationHeaderMalformed"),
        ("/s3/", "/ec2/", "AuthorizationHeaderMalformed"),
        ("aws4_request", "aws3_request", "AuthorizationHeaderMalformed"),
        ("20130524/", "20130525/", "AuthorizationHeaderMalformed"),
        (f"{ID}/{SCOPE}", "HAHAHA", "AuthorizationHeaderMalformed"),
        ("SignedHeaders=", "Signed=", "AuthorizationHeaderMalformed"),
        (ALGORITHM, "AWS4-HMAC-SHA512", "InvalidArgument"),
        (ALGORITHM, "Bearer", "InvalidArgument"),
    ],
)
def test_a_head_that_is_malformed(old: str, new: str, code: str) -> None:
    method, path, query, fields = GET
    altered = fields | {"authorization": fields["authorization"].replace(old, new)}
    assert refused(lambda: verify(method, path, query, altered)) == code


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("us-east-1", "us-west-1", "AuthorizationQueryParametersError"),
        ("%2Fs3%2F", "%2Fec2%2F", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=604801", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=-1", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=ever", "AuthorizationQueryParametersError"),
        ("&X-Amz-Expires=86400", "", "AuthorizationQueryParametersError"),
        ("X-Amz-Date=20130524T000000Z", "X-Amz-Date=2013", "AuthorizationQueryParametersError"),
        ("=AWS4-HMAC-SHA256", "=AWS4-HMAC-SHA1", "AuthorizationQueryParametersError"),
        (ID + "%2F", "", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires=86400", "X-Amz-Expires=86401", "SignatureDoesNotMatch"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=x", "AccessDenied"),
    ],
)
def test_a_pre_signed_url_that_is_malformed(old: str, new: str, code: str) -> None:
    method, path, query, fields = PRESIGNED
    assert old in query
    assert refused(lambda: verify(method, path, query.replace(old, new), fields)) == code


def test_dates_that_are_missing_or_none() -> None:
    method, path, query, fields = GET
    for date in ("", "Bad Date", "19500707T215304Z", "20131324T000000Z"):
        assert refused(lambda date=date: verify(method, path, query, fields | {"x-amz-date": date})) == "AccessDenied"
    without = {name: value for name, value in fields.items() if name != "x-amz-date"}
    assert refused(lambda: verify(method, path, query, without)) == "AccessDenied"
    without = {name: value for name, value in fields.items() if name != "x-amz-content-sha256"}
    assert refused(lambda: verify(method, path, query, without)) == "InvalidRequest"


def test_other_ways_to_sign() -> None:
    assert find_signature("", {"host": "h"}) is None
    assert find_signature("acl&prefix=X-Amz-", {"host": "h", "authorization": ""}) is None
    old = {"authorization": "AWS AKIAIGR7ZNNBHC5BKSUB:FWeDfwojDSdS2Ztmpfeubhd9isU="}
    assert refused(lambda: find_signature("", old)) == "InvalidRequest"
    assert refused(lambda: find_signature("AWSAccessKeyId=a&Signature=b&Expires=1", {})) == "InvalidRequest"
    assert refused(lambda: find_signature("", {"authorization": "AWS HAHAHA"})) == "InvalidArgument"
    assert refused(lambda: find_signature(PRESIGNED[2], GET[3])) == "InvalidArgument"


LATIN = st.text(st.characters(max_codepoint=255), max_size=60)


@given(LATIN, LATIN, LATIN)
def test_any_fields_are_taken_or_refused(authorization: str, query: str, date: str) -> None:
    fields = {"host": "h", "authorization": f"{ALGORITHM} {authorization}", "x-amz-date": date}
    for sent, said in ((query, fields), (f"X-Amz-Signature={query}", {"host": "h"})):
        assert refused(lambda sent=sent, said=said: verify("GET", f"/{query}", sent, said)) in CODES


CODES = {
    "AccessDenied", "AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "InvalidArgument",
    "InvalidRequest", "RequestTimeTooSkewed", "SignatureDoesNotMatch",
}  # fmt: skip


@given(st.sampled_from(["GET", "PUT"]), LATIN, LATIN, st.dictionaries(st.sampled_from(["a", "b", "x-amz-c"]), LATIN))
def test_what_is_signed_is_admitted(method: str, path: str, query: str, more: dict[str, str]) -> None:
    query = query.replace("X-Amz-", "").replace("AWSAccessKeyId=", "")
    fields = {"host": "h", "x-amz-date": TIME, "x-amz-content-sha256": EMPTY_SHA256} | more
    signed = sorted(fields)
    canonical = canonical_request(method, f"/{path}", query, fields, signed, EMPTY_SHA256)
    value = sign(signing_key(SECRET, DAY, REGION), string_to_sign(TIME, SCOPE, canonical))
    verify(method, f"/{path}", query, fields | {"authorization": authorization(";".join(signed), value)})


def test_a_value_that_is_signed_as_utf_8_and_sent_as_latin_1() -> None:
    fields = {"host": "h", "x-amz-date": TIME, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-meta-a": "\xe9"}
    for value in ("\xe9", "\xc3\xa9"):  # as it was sent, and its UTF-8
        signed = sorted(fields)
        canonical = canonical_request("PUT", "/a", "", fields | {"x-amz-meta-a": value}, signed, EMPTY_SHA256)
        proof = sign(signing_key(SECRET, DAY, REGION), string_to_sign(TIME, SCOPE, canonical))
        verify("PUT", "/a", "", fields | {"authorization": authorization(";".join(signed), proof)})


@given(st.integers(0, 4_000_000_000))
def test_times_come_back(seconds: int) -> None:
    shown = format_time(seconds)
    assert parse_time(shown.replace("-", "").replace(":", "")) == seconds


def test_a_week_is_the_longest() -> None:
    assert EXPIRES_SECONDS_MAX == 604800
