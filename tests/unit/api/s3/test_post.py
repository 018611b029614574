"""PostObject: what a web page's form may upload, and that nothing else gets through."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
import trio.testing

from flared.access.bucket_access import Acl
from flared.access.sigv4_canonical import sign, signing_key
from flared.names import BucketName
from flared.objects.buckets import change_access
from tests.support.s3 import ALT, MAIN, speaking_s3

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.access.access_key import AccessKey
    from tests.support.s3 import Answer, Asker

Clock = trio.testing.MockClock

DAY = "20231114"
"""Of the cluster's clock."""
EXPIRES = "2023-11-15T00:00:00Z"
BOUNDARY = "----page"
CONDITIONS: list[object] = [
    {"bucket": "photos"},
    ["starts-with", "$key", "user/"],
    ["starts-with", "$Content-Type", "image/"],
    ["starts-with", "$x-amz-meta-by", ""],
    ["starts-with", "$success_action_status", ""],
    ["starts-with", "$success_action_redirect", ""],
    ["content-length-range", 2, 10],
]


def make_form(fields: Mapping[str, str | bytes], content: bytes, filename: str = "cat.jpg") -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        + (value if isinstance(value, bytes) else value.encode())
        for name, value in fields.items()
    ]
    parts.append(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'.encode() + content
    )
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def signed(
    fields: Mapping[str, str], key: AccessKey = MAIN, *, expires: str = EXPIRES, conditions: list[object] = CONDITIONS
) -> dict[str, str | bytes]:
    """The fields of a form, with a policy that this key has signed."""
    credential = f"{key.id}/{DAY}/us-east-1/s3/aws4_request"
    proof = {"x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": credential, "x-amz-date": f"{DAY}T221320Z"}
    document = {"expiration": expires, "conditions": [*conditions, *({name: value} for name, value in proof.items())]}
    policy = base64.b64encode(json.dumps(document).encode()).decode()
    needed = {
        "Content-Type": "image/jpeg",
        "x-amz-meta-by": "",
        "success_action_status": "",
        "success_action_redirect": "",
    }
    signature = sign(signing_key(key.secret, DAY, "us-east-1"), policy)
    return {**needed, **fields, **proof, "policy": policy, "x-amz-signature": signature}


async def post(ask: Asker, fields: Mapping[str, str | bytes], content: bytes = b"meow", **more: str) -> Answer:
    head = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", "origin": "https://page.example"}
    return await ask("POST", "/photos", make_form(fields, content, **more), head)


async def test_a_form_becomes_an_object(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await ask.signed(MAIN, "PUT", "/photos")
        answer = await post(ask, signed({"key": "user/${filename}", "x-amz-meta-by": "alice"}))
        assert answer.status == 204
        found = await ask.signed(MAIN, "GET", "/photos/user/cat.jpg")
        assert found.body == b"meow"
        assert found.fields["content-type"] == "image/jpeg"
        assert found.fields["x-amz-meta-by"] == "alice"
        assert found.fields["etag"] == answer.fields["etag"] == '"4a4be40c96ac6314e91d93f38043a634"'


async def test_what_the_browser_is_answered(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await ask.signed(MAIN, "PUT", "/photos")
        created = await post(ask, signed({"key": "user/a b", "success_action_status": "201"}))
        assert created.status == 201
        assert created.xml("PostResponse").text_of("Key") == "user/a b"
        next_page = "https://page.example/done?x=1"
        sent_on = await post(ask, signed({"key": "user/a b", "success_action_redirect": next_page}))
        assert sent_on.status == 303
        assert sent_on.fields["location"].startswith(next_page + "&bucket=photos&key=user/a%20b&etag=%22")
        assert (await post(ask, signed({"key": "user/a", "success_action_redirect": "javascript:x"}))).status == 204


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"key": "other/a"}, "AccessDenied"),
        ({"Content-Type": "text/html"}, "AccessDenied"),
        ({"acl": "public-read"}, "AccessDenied"),
        ({"x-amz-signature": "0" * 64}, "SignatureDoesNotMatch"),
        ({"x-amz-signature": "é"}, "SignatureDoesNotMatch"),
        ({"x-amz-signature": ""}, "InvalidArgument"),
        ({"x-amz-credential": "FLNONE/20231114/us-east-1/s3/aws4_request"}, "InvalidAccessKeyId"),
        ({"x-amz-credential": f"{MAIN.id}/20231114/eu-west-1/s3/aws4_request"}, "InvalidArgument"),
        ({"x-amz-credential": "nonsense"}, "InvalidArgument"),
        ({"x-amz-algorithm": "AWS2"}, "InvalidArgument"),
        ({"x-amz-date": "20231113T000000Z"}, "InvalidArgument"),
        ({"key": ""}, "InvalidArgument"),
        ({"key": b"\xff"}, "MalformedPOSTRequest"),
    ],
)
async def test_a_form_that_was_altered_leaves_nothing(
    autojump_clock: Clock, change: dict[str, str | bytes], code: str
) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await ask.signed(MAIN, "PUT", "/photos")
        answer = await post(ask, signed({"key": "user/a"}) | change)
        assert answer.code == code
        assert not (await ask.signed(MAIN, "GET", "/photos?list-type=2")).xml("ListBucketResult").find("Contents")


@pytest.mark.parametrize(
    ("content", "code"), [(b"m", "EntityTooSmall"), (b"m" * 11, "EntityTooLarge"), (b"m" * 200_000, "EntityTooLarge")]
)
async def test_a_file_has_the_size_that_the_policy_allows(autojump_clock: Clock, content: bytes, code: str) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await ask.signed(MAIN, "PUT", "/photos")
        assert (await post(ask, signed({"key": "user/a"}), content)).code == code
        assert not (await ask.signed(MAIN, "GET", "/photos?list-type=2")).xml("ListBucketResult").find("Contents")


async def test_an_altered_policy_and_one_that_expired_are_refused(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await ask.signed(MAIN, "PUT", "/photos")
        wide = signed({"key": "other/a"}, conditions=[["starts-with", "$key", ""]])
        assert (
            await post(ask, signed({"key": "other/a"}) | {"policy": wide["policy"]})
        ).code == "SignatureDoesNotMatch"
        old = await post(ask, signed({"key": "user/a"}, expires="2023-11-14T00:00:00Z"))
        assert old.code == "AccessDenied"
        assert "expired" in old.xml("Error").text_of("Message")
        assert (await post(ask, signed({"key": "user/a"}, conditions=[]))).code == "AccessDenied"
        assert (await post(ask, signed({"key": "user/a"}, expires="soon"))).code == "InvalidPolicyDocument"


async def test_a_key_signs_no_more_than_it_may_do(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await ask.signed(MAIN, "PUT", "/photos")
        assert (await post(ask, signed({"key": "user/a"}, ALT))).code == "AccessDenied"


async def test_without_a_policy_a_bucket_must_be_open_to_all(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await ask.signed(MAIN, "PUT", "/photos")
        assert (await post(ask, {"key": "a"})).code == "AccessDenied"
        await change_access(ask.cluster.store, BucketName("photos"), acl=Acl.PUBLIC_READ_WRITE)
        assert (await post(ask, {"key": "a"})).status == 204
        assert (await post(ask, {"key": "a", "x-amz-signature": "0"})).code == "InvalidArgument"


async def test_a_value_of_two_lines_never_becomes_a_field_of_a_reply(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await ask.signed(MAIN, "PUT", "/photos")
        await change_access(ask.cluster.store, BucketName("photos"), acl=Acl.PUBLIC_READ_WRITE)
        for name in ("Content-Type", "x-amz-meta-by", "Cache-Control"):
            assert (await post(ask, {"key": "a", name: "image/png\r\nset-cookie: a=b"})).code == "InvalidArgument"
        assert (await post(ask, {"key": "a", "Content-Type": "é"})).status == 204
        found = await ask.signed(MAIN, "HEAD", "/photos/a")
        assert found.fields["content-type"].encode("latin-1").decode() == "é"


async def test_what_is_not_a_form_is_refused(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await ask.signed(MAIN, "PUT", "/photos")
        assert (await ask("POST", "/photos", b"x", {"content-type": "text/plain"})).code == "MalformedPOSTRequest"
