"""Bucket policies through the S3 face: kept as they came, and obeyed by all calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import trio.testing

from flared.catalog.access_keys import StoredKey, create_key
from tests.support.s3 import ALT, MAIN, Answer, Asker, sign_request, speaking_s3

if TYPE_CHECKING:
    from flared.access.access_key import AccessKey

Clock = trio.testing.MockClock
ARN = "arn:aws:s3:::photos"
OPEN = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"{ARN}/open/*"}


def policy_of(*statements: dict[str, object]) -> bytes:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}).encode()


async def by(ask: Asker, key: AccessKey | None, method: str, target: str, body: bytes = b"", **fields: str) -> Answer:
    head = {name.replace("_", "-"): value for name, value in fields.items()}
    if key is None:
        return await ask(method, target, body, head)
    return await ask(method, target, body, sign_request(key, ask.cluster.store.now(), method, target, body, head))


async def prepared(ask: Asker) -> None:
    for key in (MAIN, ALT):
        stored = StoredKey(key.id, key.name, b"sealed", key.grants, 1)
        await ask.cluster.store.kv.transact(lambda tx, stored=stored: create_key(tx, stored))
    assert (await by(ask, MAIN, "PUT", "/photos")).status == 200
    for name in ("open/a", "closed/a"):
        assert (await by(ask, MAIN, "PUT", f"/photos/{name}", b"content")).status == 200


async def put_policy(ask: Asker, *statements: dict[str, object]) -> None:
    answer = await by(ask, MAIN, "PUT", "/photos?policy", policy_of(*statements))
    assert answer.status == 204, answer


async def test_a_policy_is_kept_as_it_came_until_it_is_deleted(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        assert (await by(ask, MAIN, "GET", "/photos?policy")).code == "NoSuchBucketPolicy"
        status = (await by(ask, MAIN, "GET", "/photos?policyStatus")).xml("PolicyStatus")
        assert status.text_of("IsPublic") == "false"
        body = b" " + policy_of(OPEN) + b"\n"
        assert (await by(ask, MAIN, "PUT", "/photos?policy", body)).status == 204
        got = await by(ask, MAIN, "GET", "/photos?policy")
        assert (got.status, got.body, got.fields["content-type"]) == (200, body, "application/json")
        status = (await by(ask, MAIN, "GET", "/photos?policyStatus")).xml("PolicyStatus")
        assert status.text_of("IsPublic") == "true"
        assert (await ask("GET", "/photos/open/a")).body == b"content"
        for _ in range(2):
            assert (await by(ask, MAIN, "DELETE", "/photos?policy")).status == 204
        assert (await ask("GET", "/photos/open/a")).code == "AccessDenied"


async def test_a_policy_that_is_not_understood_changes_nothing(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        await put_policy(ask, OPEN)
        for body in (
            b"", b"{", policy_of(OPEN | {"NotPrincipal": "*"}), policy_of(OPEN | {"Resource": "arn:aws:s3:::others/*"}),
            policy_of(OPEN | {"Principal": {"AWS": "nobody"}}),
        ):  # fmt: skip
            assert (await by(ask, MAIN, "PUT", "/photos?policy", body)).code == "MalformedPolicy"
        answer = await by(ask, MAIN, "PUT", "/photos?policy", policy_of(OPEN) + b" " * 20_480)
        assert answer.code == "PolicyTooLarge"
        assert (await by(ask, MAIN, "GET", "/photos?policy")).body == policy_of(OPEN)
        assert (await by(ask, MAIN, "PUT", "/nowhere?policy", policy_of(OPEN))).code == "NoSuchBucket"


async def test_who_may_not_change_it_does_not_see_it_either(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="read-write") as ask:
        await prepared(ask)
        for key in (ALT, None):
            for method in ("GET", "PUT", "DELETE"):
                assert (await by(ask, key, method, "/photos?policy", b"")).code == "AccessDenied"


async def test_a_key_is_allowed_what_no_grant_gives_it(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        assert (await by(ask, ALT, "GET", "/photos/open/a")).code == "AccessDenied"
        alt = {"AWS": "arn:aws:iam:::user/alt"}
        await put_policy(
            ask,
            {"Effect": "Allow", "Principal": alt, "Action": "s3:*Object", "Resource": f"{ARN}/alt/*"},
            {
                "Effect": "Allow", "Principal": alt, "Action": "s3:ListBucket", "Resource": ARN,
                "Condition": {"StringLike": {"s3:prefix": "alt/*"}},
            },
        )  # fmt: skip
        assert (await by(ask, ALT, "PUT", "/photos/alt/x", b"theirs")).status == 200
        assert (await by(ask, ALT, "GET", "/photos/alt/x")).body == b"theirs"
        assert (await by(ask, ALT, "HEAD", "/photos/alt/x")).status == 200
        assert (await by(ask, ALT, "GET", "/photos?list-type=2&prefix=alt%2F")).status == 200
        for method, target in (
            ("GET", "/photos?list-type=2"), ("GET", "/photos?list-type=2&prefix=al"), ("PUT", "/photos/x"),
            ("GET", "/photos/open/a"), ("DELETE", "/photos"),
        ):  # fmt: skip
            assert (await by(ask, ALT, method, target)).code == "AccessDenied", target
        copied = await by(ask, ALT, "PUT", "/photos/alt/y", x_amz_copy_source="/photos/closed/a")
        assert copied.code == "AccessDenied"
        assert (await ask("GET", "/photos/alt/x")).code == "AccessDenied"
        assert (await by(ask, ALT, "DELETE", "/photos/alt/x")).status == 204


async def test_a_deny_is_obeyed_whatever_else_allows_it(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="read") as ask:
        await prepared(ask)
        assert (await ask("GET", "/photos/closed/a")).status == 200
        deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [ARN, f"{ARN}/closed/*"]}
        await put_policy(ask, deny)
        for key in (MAIN, None):
            assert (await by(ask, key, "GET", "/photos/closed/a")).code == "AccessDenied"
            assert (await by(ask, key, "GET", "/photos")).code == "AccessDenied"
            assert (await by(ask, key, "GET", "/photos/open/a")).status == 200
        assert (await by(ask, MAIN, "GET", "/photos?policy")).status == 200, "or no one could put it right"
        assert (await by(ask, MAIN, "DELETE", "/photos?policy")).status == 204
        assert (await by(ask, MAIN, "GET", "/photos/closed/a")).status == 200


async def test_what_a_connection_is_counts(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        await put_policy(ask, OPEN | {"Condition": {"Bool": {"aws:SecureTransport": "true"}}})
        assert (await ask("GET", "/photos/open/a")).code == "AccessDenied"
        await put_policy(ask, OPEN | {"Condition": {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}})
        assert (await ask("GET", "/photos/open/a")).status == 200


async def test_a_policy_goes_with_its_bucket(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        await put_policy(ask, OPEN)
        for name in ("open/a", "closed/a"):
            await by(ask, MAIN, "DELETE", f"/photos/{name}")
        assert (await by(ask, MAIN, "DELETE", "/photos")).status == 204
        assert (await by(ask, MAIN, "PUT", "/photos")).status == 200
        assert (await by(ask, MAIN, "GET", "/photos?policy")).code == "NoSuchBucketPolicy"
