"""Bucket policies: what is understood, what is refused, and a table of what is allowed and denied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.access.bucket_access import Acl
from flared.access.conditions import OPERATORS, UnknownValue
from flared.access.facts import ObjectAccess, RequestFacts, no_object, parse_values
from flared.access.policy import ALLOW, DENY, POLICY_BYTES_MAX, Effect, MalformedPolicy, parse_policy
from flared.access.s3_actions import KNOWN, action_of, known_actions
from flared.names import BucketName, ObjectKey, ObjectName

BUCKET = "photos"
NAME = ObjectName(BucketName(BUCKET), ObjectKey("2024/a"))
ARN = f"arn:aws:s3:::{BUCKET}"
READ: dict[str, object] = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"{ARN}/*"}


def policy_of(*statements: Mapping[str, object]) -> bytes:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}).encode()


def facts(
    who: str = "", *, peer: str = "10.0.0.7:5", query: str = "", secure: bool = False,
    tags: dict[str, str] | None = None, **fields: str,
) -> RequestFacts:  # fmt: skip
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    known = ObjectAccess(Acl.PRIVATE, tags or {})
    return RequestFacts(who, NAME, peer, named, query, secure=secure, find_object=lambda _: known)


def decide(
    *statements: Mapping[str, object], who: str = "", action: str = "GetObject", on: str = "photos/2024/a",
    given: RequestFacts | None = None,
) -> Effect | None:  # fmt: skip
    return parse_policy(policy_of(*statements), BUCKET).decide(who, action, on, given or facts(who))


@pytest.mark.parametrize(
    ("changes", "who", "action", "on", "applies"),
    [
        ({}, "", "GetObject", "photos/2024/a", True),
        ({}, "laptop", "GetObject", "photos/2024/a", True),
        ({}, "", "PutObject", "photos/2024/a", False),
        ({}, "", "GetObject", "photos", False),
        ({"Resource": ARN}, "", "GetObject", "photos/2024/a", False),
        ({"Resource": [ARN, f"{ARN}/2024/*"]}, "", "GetObject", "photos/2024/a", True),
        ({"Resource": f"{ARN}/2023/*"}, "", "GetObject", "photos/2024/a", False),
        ({"Resource": f"{ARN}/202?/a"}, "", "GetObject", "photos/2024/a", True),
        ({"Resource": "arn:aws:s3:::*"}, "", "GetObject", "photos/2024/a", True),
        ({"Resource": "*"}, "", "GetObject", "photos/2024/a", True),
        ({"Principal": {"AWS": "*"}}, "", "GetObject", "photos/2024/a", True),
        ({"Principal": {"AWS": "laptop"}}, "laptop", "GetObject", "photos/2024/a", True),
        ({"Principal": {"AWS": ["desktop", "arn:aws:iam:::user/laptop"]}}, "laptop", "GetObject", "photos/x", True),
        ({"Principal": {"AWS": "laptop"}}, "desktop", "GetObject", "photos/2024/a", False),
        ({"Principal": {"AWS": "laptop"}}, "", "GetObject", "photos/2024/a", False),
        ({"Action": ["s3:PutObject", "s3:GetObject"]}, "", "PutObject", "photos/2024/a", True),
        ({"Action": "s3:Get*"}, "", "GetObjectTagging", "photos/2024/a", True),
        ({"Action": "s3:get*"}, "", "GetObject", "photos/2024/a", True),
        ({"Action": "s3:*"}, "", "AbortMultipartUpload", "photos/2024/a", True),
        ({"Action": "*"}, "", "DeleteObject", "photos/2024/a", True),
        ({"Action": "s3:*", "Resource": ARN}, "", "ListBucket", "photos", True),
    ],
)
@pytest.mark.parametrize("effect", ["Allow", "Deny"])
def test_whom_and_what_a_statement_is_about(
    effect: str, changes: dict[str, object], who: str, action: str, on: str, applies: bool
) -> None:
    found = decide(READ | {"Effect": effect} | changes, who=who, action=action, on=on)
    assert found is (Effect(effect) if applies else None)


CONDITIONS: list[tuple[dict[str, Any], RequestFacts, bool]] = [  # type: ignore[explicit-any]
    ({"StringEquals": {"s3:prefix": "a"}}, facts(query="prefix=a"), True),
    ({"StringEquals": {"s3:prefix": ["b", "a"]}}, facts(query="prefix=a&delimiter=%2F"), True),
    ({"StringEquals": {"s3:prefix": "a"}}, facts(query="prefix=A"), False),
    ({"StringEquals": {"s3:prefix": "a"}}, facts(), False),
    ({"StringEquals": {"s3:prefix": ""}}, facts(query="prefix="), True),
    ({"StringEquals": {"s3:delimiter": "/"}}, facts(query="prefix=a&delimiter=%2F"), True),
    ({"StringNotEquals": {"s3:prefix": "a"}}, facts(query="prefix=b"), True),
    ({"StringNotEquals": {"s3:prefix": ["a", "b"]}}, facts(query="prefix=b"), False),
    ({"StringNotEquals": {"s3:prefix": "a"}}, facts(), True),
    ({"StringEqualsIfExists": {"s3:prefix": "a"}}, facts(), True),
    ({"StringEqualsIfExists": {"s3:prefix": "a"}}, facts(query="prefix=b"), False),
    ({"StringEqualsIgnoreCase": {"s3:prefix": "A"}}, facts(query="prefix=a"), True),
    ({"StringLike": {"s3:prefix": "2024/*"}}, facts(query="pre%66ix=2024%2Fx"), True),
    ({"StringLike": {"s3:prefix": "2024/*"}}, facts(query="prefix=2023/"), False),
    ({"StringNotLike": {"s3:prefix": "2024/*"}}, facts(query="prefix=2023/"), True),
    ({"NumericLessThanEquals": {"s3:max-keys": 10}}, facts(query="max-keys=10"), True),
    ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, facts(query="max-keys=11"), False),
    ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, facts(query="max-keys=x"), False),
    ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, facts(), True),
    ({"IpAddress": {"aws:SourceIp": ["192.168.0.0/16", "10.0.0.7"]}}, facts(), True),
    ({"IpAddress": {"aws:SourceIp": "10.0.0.0/30"}}, facts(), False),
    ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, facts(), False),
    ({"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}, facts(peer="[2001:db8::7]:5"), True),
    ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, facts(peer="[::ffff:10.1.1.1]:5"), True),
    ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, facts(peer="[2001:db8::7]:5"), False),
    ({"Bool": {"aws:SecureTransport": True}}, facts(secure=True), True),
    ({"Bool": {"aws:SecureTransport": "false"}}, facts(), True),
    ({"Bool": {"AWS:securetransport": "true"}}, facts(), False),
    ({"StringEquals": {"aws:username": "laptop"}}, facts("laptop"), True),
    ({"StringEquals": {"aws:username": "laptop"}}, facts(), False),
    ({"StringEquals": {"s3:x-amz-acl": "public-read"}}, facts(x_amz_acl="public-read"), True),
    ({"StringLike": {"s3:x-amz-copy-source": "photos/open/*"}}, facts(x_amz_copy_source="/photos/open%2Fa"), True),
    ({"StringLikeIfExists": {"aws:Referer": "http://www.example.com/*"}}, facts(), True),
    ({"StringLike": {"aws:Referer": "http://www.example.com/*"}}, facts(referer="http://www.example.com/a"), True),
    ({"StringLike": {"aws:UserAgent": "*boto*"}}, facts(user_agent="curl"), False),
    ({"Null": {"s3:x-amz-acl": "true"}}, facts(), True),
    ({"Null": {"s3:x-amz-acl": True}}, facts(x_amz_acl="private"), False),
    ({"Null": {"s3:x-amz-acl": "false"}}, facts(x_amz_acl="private"), True),
    ({"StringEquals": {"s3:ExistingObjectTag/Team": "red"}}, facts(tags={"Team": "red"}), True),
    ({"StringEquals": {"s3:ExistingObjectTag/team": "red"}}, facts(tags={"Team": "red"}), False),
    ({"StringEquals": {"s3:ExistingObjectTag/Team": "red"}}, facts(), False),
    ({"StringEquals": {"s3:RequestObjectTag/a b": "c+d"}}, facts(x_amz_tagging="a+b=c%2Bd&x=y"), True),
    ({"StringEquals": {"s3:RequestObjectTag/a": "b"}}, facts(), False),
    (
        {"StringLike": {"s3:prefix": "a*"}, "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
        facts(query="prefix=ab"),
        True,
    ),
    (
        {"StringLike": {"s3:prefix": "a*"}, "IpAddress": {"aws:SourceIp": "11.0.0.0/8"}},
        facts(query="prefix=ab"),
        False,
    ),
    ({"StringEquals": {"s3:prefix": "a", "s3:delimiter": "/"}}, facts(query="prefix=a"), False),
]


@pytest.mark.parametrize(("block", "given", "holds"), CONDITIONS)
@pytest.mark.parametrize("effect", ["Allow", "Deny"])
def test_what_else_must_hold(effect: str, block: dict[str, object], given: RequestFacts, holds: bool) -> None:
    found = decide(READ | {"Effect": effect, "Condition": block}, given=given)
    assert found is (Effect(effect) if holds else None)


UNKNOWN: list[tuple[dict[str, Any], RequestFacts]] = [  # type: ignore[explicit-any]
    ({"StringEquals": {"s3:prefix": "a"}}, facts(query="prefix=a&prefix=b")),
    ({"StringNotEquals": {"s3:prefix": "a"}}, facts(query="prefix=%zz")),
    ({"StringEquals": {"s3:ExistingObjectTag/Team": "red"}}, facts(query="versionId=5", tags={"Team": "red"})),
    ({"StringNotEquals": {"s3:ExistingObjectTag/Team": "red"}}, facts(query="%76ersionId=5&versionId=6")),
    ({"StringEquals": {"s3:RequestObjectTag/a": "b"}}, facts(x_amz_tagging="a=b&a=c")),
    (
        {"StringNotEquals": {"s3:ExistingObjectTag/a": "b"}},
        RequestFacts("", BUCKET, "10.0.0.7:5", {}, "", secure=False, find_object=no_object),
    ),
]


@pytest.mark.parametrize(("block", "given"), UNKNOWN)
def test_what_cannot_be_known_counts_against_the_caller(block: dict[str, object], given: RequestFacts) -> None:
    assert decide(READ | {"Condition": block}, given=given) is None
    assert decide(READ | {"Effect": "Deny", "Condition": block}, given=given) is DENY


def test_a_deny_counts_more_than_an_allow_in_any_order() -> None:
    deny = READ | {"Effect": "Deny", "Principal": {"AWS": "laptop"}}
    for statements in ((READ, deny), (deny, READ), (READ, READ, deny)):
        assert decide(*statements, who="laptop") is DENY
        assert decide(*statements, who="desktop") is ALLOW
        assert decide(*statements, action="PutObject") is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"Effect": "allow"}, "Effect"),
        ({"Effect": None}, "Effect"),
        ({"Effect": ["Allow"]}, "Effect"),
        ({"NotPrincipal": "*"}, "NotPrincipal"),
        ({"NotAction": "s3:GetObject"}, "NotAction"),
        ({"NotResource": ARN}, "NotResource"),
        ({"Sid": 5}, "Sid"),
        ({"Principal": None}, "Principal"),
        ({"Principal": "laptop"}, "Principal"),
        ({"Principal": {}}, "Principal"),
        ({"Principal": {"AWS": []}}, "Principal"),
        ({"Principal": {"CanonicalUser": "x"}}, "CanonicalUser"),
        ({"Principal": {"AWS": "*", "Service": "x"}}, "Service"),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}, "principal"),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:user/laptop"}}, "principal"),
        ({"Principal": {"AWS": "lap*"}}, "principal"),
        ({"Action": []}, "Action"),
        ({"Action": ""}, "Action"),
        ({"Action": 5}, "Action"),
        ({"Action": "s3:GetObjekt"}, "GetObjekt"),
        ({"Action": "GetObject"}, "GetObject"),
        ({"Action": "iam:*"}, "iam"),
        ({"Action": "s3:CreateBucket"}, "CreateBucket"),
        ({"Resource": "photos/*"}, "photos"),
        ({"Resource": "arn:aws:s3:::others/*"}, "others"),
        ({"Resource": f"{ARN}2/*"}, "photos2"),
        ({"Resource": f"{ARN}/${{aws:username}}/*"}, "variables"),
        ({"Resource": [f"{ARN}/*", 5]}, "Resource"),
        ({"Condition": []}, "Condition"),
        ({"Condition": {"StringEquals": {}}}, "StringEquals"),
        ({"Condition": {"StringEquals": "a"}}, "StringEquals"),
        ({"Condition": {"StringMatches": {"s3:prefix": "a"}}}, "StringMatches"),
        ({"Condition": {"ForAnyValue:StringLike": {"s3:prefix": "a"}}}, "ForAnyValue"),
        ({"Condition": {"NullIfExists": {"s3:prefix": "true"}}}, "NullIfExists"),
        ({"Condition": {"StringEquals": {"aws:userid": "a"}}}, "aws:userid"),
        ({"Condition": {"StringEquals": {"s3:ExistingObjectTag/": "a"}}}, "ExistingObjectTag"),
        ({"Condition": {"StringEquals": {"s3:prefix": []}}}, "s3:prefix"),
        ({"Condition": {"StringEquals": {"s3:prefix": None}}}, "s3:prefix"),
        ({"Condition": {"StringEquals": {"s3:prefix": "${aws:username}/"}}}, "variables"),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}}, "10.0.0.0/33"),
        ({"Condition": {"Bool": {"aws:SecureTransport": "yes"}}}, "yes"),
        ({"Condition": {"NumericEquals": {"s3:max-keys": "ten"}}}, "ten"),
    ],
)
def test_what_is_not_understood_is_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(MalformedPolicy, match="policy") as refused:
        parse_policy(policy_of(READ | change), BUCKET)
    assert word in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"*"', b"\xff", b"{}", b'{"Version": "2012-10-17"}',
        b'{"Version": "2012-10-17", "Statement": []}', b'{"Version": "2012-10-17", "Statement": [5]}',
        b'{"Version": "2020-01-01", "Statement": [{}]}', b'{"Statement": [{}]}',
        b'{"Version": "2012-10-17", "Statement": {}, "Extra": 1}',
        b'{"Version": "2012-10-17", "Id": 5, "Statement": {}}',
        b'{"Version": "2012-10-17", "Version": "2012-10-17", "Statement": {}}',
        policy_of(READ) + b" " * POLICY_BYTES_MAX, b"[" * 100,
    ],
)  # fmt: skip
def test_what_is_not_a_policy_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedPolicy):
        parse_policy(body, BUCKET)


def test_one_statement_need_not_be_in_a_list() -> None:
    body = json.dumps({"Version": "2008-10-17", "Id": "x", "Statement": READ | {"Sid": "y"}}).encode()
    policy = parse_policy(body, BUCKET)
    assert policy.decide("", "GetObject", "photos/a", facts()) is ALLOW
    assert policy.is_public
    assert policy.names == frozenset()
    named = parse_policy(policy_of(READ | {"Principal": {"AWS": ["laptop", "*"]}, "Condition": {}}), BUCKET)
    assert (named.is_public, named.names) == (True, {"laptop"})


texts = st.one_of(st.text(max_size=12), st.sampled_from(["*", "Allow", "Deny", "s3:*", f"{ARN}/*", "AWS", "laptop"]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
fields = st.sampled_from(["Effect", "Principal", "Action", "Resource", "Condition", "Sid", "NotAction"])
blocks = st.dictionaries(
    st.sampled_from([*OPERATORS, "StringLikeIfExists", "Date"]),
    st.dictionaries(st.sampled_from(["s3:prefix", "aws:SourceIp", "s3:ExistingObjectTag/a", "x"]), values, max_size=2),
    max_size=2,
)


@given(st.lists(st.dictionaries(fields, values, max_size=4), max_size=3), blocks)
def test_any_json_is_a_policy_that_decides_or_is_refused(
    changes: list[dict[str, object]], block: dict[str, object]
) -> None:
    body = policy_of(*(READ | change for change in changes), READ | {"Condition": block})
    try:
        policy = parse_policy(body, BUCKET)
    except MalformedPolicy:
        return
    assert policy.decide("laptop", "GetObject", "photos/a", facts(query="prefix=a")) in (ALLOW, DENY, None)


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_in_words(body: bytes) -> None:
    with pytest.raises(MalformedPolicy):
        parse_policy(body, BUCKET)


@given(st.text("ab=&%+/2fF", max_size=20))
def test_a_query_means_one_thing_or_is_unknown(query: str) -> None:
    try:
        found = parse_values(query)
    except UnknownValue:
        return
    assert all(isinstance(value, str) for value in found.values())


@pytest.mark.parametrize(
    ("call", "action", "versioned", "name"),
    [
        ("GetObject", "object:read", False, "GetObject"),
        ("HeadObject", "object:read", False, "GetObject"),
        ("GetObject", "object:read", True, "GetObjectVersion"),
        ("HeadObject", "object:read", True, "GetObjectVersion"),
        ("DeleteObject", "object:delete", True, "DeleteObjectVersion"),
        ("UploadPart", "object:write", False, "PutObject"),
        ("ListObjectsV2", "object:list", False, "ListBucket"),
        ("GetBucketCors", "bucket:configure", False, "GetBucketCORS"),
        ("get_object", "object:read", False, "GetObject"),
        ("put_object", "object:write", False, "PutObject"),
        ("", "object:read", False, "GetObject"),
        ("list_objects", "object:list", False, "ListBucket"),
        ("", "cluster:keys", False, ""),
    ],
)
def test_what_a_call_is_called_in_policies(call: str, action: str, versioned: bool, name: str) -> None:
    assert action_of(call, action, versioned=versioned) == name
    assert not name or name in KNOWN


def test_wildcards_are_about_known_actions() -> None:
    assert known_actions("s3:*") == KNOWN
    assert known_actions("s3:GetObject") == {"GetObject"}
    assert known_actions("S3:GETOBJECT") == {"GetObject"}
    assert known_actions("s3:?etObject") == {"GetObject"}
    assert known_actions("GetObject") == set()
