"""Pre-signed URLs, callers without a key, and heads that are wrong."""

from __future__ import annotations

import datetime
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.s3.conftest import Place, S3Client
from tests.s3.support import body_of, check_error, raw

NOW = datetime.datetime.now(datetime.UTC)


def ask(place: Place, url: str, method: str = "GET", body: bytes | None = None, **fields: str) -> tuple[int, bytes]:
    said = {name.replace("_", "-"): value for name, value in fields.items()}
    status, _, content = raw(place.port, method, url.removeprefix(place.url), body, said)
    return status, content


def check_code(found: tuple[int, bytes], status: int, code: str) -> None:
    assert found[0] == status, found
    assert f"<Code>{code}</Code>".encode() in found[1]


def url_of(s3: S3Client, call: str, bucket: str, *, seconds: int = 1000, **more: str) -> str:
    url: str = s3.generate_presigned_url(call, Params={"Bucket": bucket, "Key": "a b", **more}, ExpiresIn=seconds)
    return url


def test_pre_signed_urls(place: Place, s3: S3Client, bucket: str) -> None:
    assert ask(place, url_of(s3, "put_object", bucket), "PUT", b"body")[0] == 200
    assert ask(place, url_of(s3, "get_object", bucket)) == (200, b"body")
    assert ask(place, url_of(s3, "head_object", bucket), "HEAD") == (200, b"")
    shown = url_of(s3, "get_object", bucket, ResponseContentType="text/x")
    assert raw(place.port, "GET", shown.removeprefix(place.url))[1]["content-type"] == "text/x"
    assert ask(place, url_of(s3, "delete_object", bucket), "DELETE")[0] == 204
    assert ask(place, url_of(s3, "get_object", bucket))[0] == 404


def test_a_pre_signed_url_and_options(place: Place, s3: S3Client, bucket: str) -> None:
    """A browser asks before it puts; the URL was not signed for that. Without an origin nothing can be said."""
    url = url_of(s3, "put_object", bucket)
    assert ask(place, url, "OPTIONS")[0] == 400
    rule = {"AllowedMethods": ["PUT"], "AllowedOrigins": ["http://page.example"]}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    page = {"origin": "http://page.example", "access_control_request_method": "PUT"}
    assert ask(place, url, "OPTIONS", **page)[0] == 200
    assert ask(place, url, "PUT", b"from a page", origin="http://page.example")[0] == 200


def test_a_pre_signed_url_is_for_what_it_says(place: Place, s3: S3Client, bucket: str) -> None:
    url = url_of(s3, "get_object", bucket)
    check_code(ask(place, url, "PUT", b"x"), 403, "SignatureDoesNotMatch")
    check_code(ask(place, url.replace("a%20b", "b"), "GET"), 403, "SignatureDoesNotMatch")
    check_code(ask(place, url.replace("Expires=1000", "Expires=1001")), 403, "SignatureDoesNotMatch")
    check_code(ask(place, url + "&x=1"), 403, "SignatureDoesNotMatch")
    check_code(ask(place, re.sub("&X-Amz-Expires=[0-9]*", "", url)), 403, "AuthorizationQueryParametersError")
    check_code(ask(place, url, authorization="AWS4-HMAC-SHA256 x"), 400, "InvalidArgument")
    check_code(ask(place, url, x_amz_acl="public-read"), 403, "AccessDenied")


@pytest.mark.parametrize("seconds", [-7, 604801, 200000000])
def test_times_that_are_not_possible(place: Place, s3: S3Client, bucket: str, seconds: int) -> None:
    check_code(ask(place, url_of(s3, "get_object", bucket, seconds=seconds)), 403, "AuthorizationQueryParametersError")


@contextmanager
def clock(moved: datetime.timedelta) -> Iterator[None]:
    """Have boto3's clock differ from the server's."""
    import botocore.auth as auth

    class Moved(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.now(tz) + moved

        @classmethod
        def utcnow(cls) -> datetime.datetime:  # type: ignore[override]
            return (datetime.datetime.now(datetime.UTC) + moved).replace(tzinfo=None)

    patch = pytest.MonkeyPatch()
    try:
        with patch.context() as patched:
            if hasattr(auth, "get_current_datetime"):
                patched.setattr(
                    auth,
                    "get_current_datetime",
                    lambda remove_tzinfo=True: Moved.utcnow() if remove_tzinfo else Moved.now(datetime.UTC),
                )
            else:
                patched.setattr(auth.datetime, "datetime", Moved)
            yield
    finally:
        patch.undo()


def test_clocks_that_differ(place: Place, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a b", Body=b"x")
    for minutes, code in ((-14, 200), (14, 200), (-20, 403), (20, 403)):
        with clock(datetime.timedelta(minutes=minutes)):
            if code == 200:
                s3.get_object(Bucket=bucket, Key="a b")
            else:
                check_error(403, "RequestTimeTooSkewed", s3.get_object, Bucket=bucket, Key="a b")
            url = url_of(s3, "get_object", bucket, seconds=1000)
        found = ask(place, url)
        assert found[0] == (403 if abs(minutes) == 20 else 200)
        if minutes == -20:
            assert b"<Message>Request has expired</Message>" in found[1]


def test_callers_without_a_key(place: Place, s3: S3Client, stranger: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    for call in (stranger.get_object, stranger.delete_object):
        check_error(403, "AccessDenied", call, Bucket=bucket, Key="a")
    check_error(403, "403", stranger.head_object, Bucket=bucket, Key="a")
    check_error(403, "AccessDenied", stranger.put_object, Bucket=bucket, Key="a", Body=b"y")
    check_error(404, "NoSuchBucket", stranger.get_object, Bucket="none-such-bucket", Key="a")
    check_error(403, "AccessDenied", stranger.create_bucket, Bucket="strangers-bucket")
    assert body_of(s3.get_object(Bucket=bucket, Key="a")) == b"x"


def test_buckets_that_are_public(place: Place, s3: S3Client, alt: S3Client, stranger: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    answer = place.cluster.client().call("POST", f"/bucket/{bucket}", b'{"public": true}')
    assert answer.status == 200, answer.body
    for client in (alt, stranger):
        assert body_of(client.get_object(Bucket=bucket, Key="a")) == b"x"
        check_error(403, "AccessDenied", client.list_objects_v2, Bucket=bucket)
        check_error(403, "AccessDenied", client.put_object, Bucket=bucket, Key="a", Body=b"y")
    override = {"Bucket": bucket, "Key": "a", "ResponseContentType": "text/html"}
    check_error(400, "InvalidRequest", stranger.get_object, **override)


@pytest.mark.parametrize(
    ("field", "status", "code"),
    [
        ("", 403, "AccessDenied"),
        ("AWS HAHAHA", 400, "InvalidArgument"),
        ("Bearer x", 400, "InvalidArgument"),
        ("AWS AKIAIGR7ZNNBHC5BKSUB:FWeDfwojDSdS2Ztmpfeubhd9isU=", 400, "InvalidRequest"),
        ("AWS4-HMAC-SHA256 Credential=HAHAHA", 400, "AuthorizationHeaderMalformed"),
        (
            "AWS4-HMAC-SHA256 Credential=AKIAIGR7ZNNBHC5BKSUB/{day}/us-east-1/s3/aws4_request,"
            "SignedHeaders=host;user-agent,Signature=FWeDfwojDSdS2Ztmpfeubhd9isU=",
            403, "InvalidAccessKeyId",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=AKIAIGR7ZNNBHC5BKSUB/{day}/eu-west-1/s3/aws4_request,"
            "SignedHeaders=host,Signature=x",
            400, "AuthorizationHeaderMalformed",
        ),
    ],
)  # fmt: skip
def test_authorization_fields_that_are_wrong(place: Place, bucket: str, field: str, status: int, code: str) -> None:
    time = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    fields = {"x-amz-date": time, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    fields["authorization"] = field.format(day=time[:8])
    for target in (f"/{bucket}/a", f"/{bucket}-new"):
        check_code(raw(place.port, "PUT", target, b"", fields)[::2], status, code)


def test_a_region_that_is_wrong_is_told(place: Place, bucket: str) -> None:
    url = url_of(place.client(place.main), "get_object", bucket)
    found = ask(place, url.replace("us-east-1", "eu-west-1"))
    check_code(found, 403, "AuthorizationQueryParametersError")
    assert b"<Region>us-east-1</Region>" in found[1]


def test_fields_that_are_not_ascii(place: Place, bucket: str) -> None:
    """Their bytes come back. boto3 sends them as UTF-8 and reads them as latin-1; others sign and send differently."""
    client = place.client(place.main)

    def say(params: dict[str, dict[str, str]], **_: object) -> None:
        params["headers"]["x-amz-meta-meta1"] = "Hello World\xe9"

    client.meta.events.register("before-call.s3.PutObject", say)
    client.put_object(Bucket=bucket, Key="a", Body=b"x")
    got = client.get_object(Bucket=bucket, Key="a")["Metadata"]["meta1"]
    assert got.encode("latin-1").decode() == "Hello World\xe9"


def test_an_expectation_that_is_not_known_is_ignored(place: Place, s3: S3Client, bucket: str) -> None:
    url = url_of(s3, "put_object", bucket)
    for expectation in ("200-ok", ""):
        assert ask(place, url, "PUT", b"x", expect=expectation)[0] == 200


def test_an_owner_that_is_expected(s3: S3Client, bucket: str) -> None:
    owner = s3.list_buckets()["Owner"]["ID"]
    s3.list_objects_v2(Bucket=bucket, ExpectedBucketOwner=owner)
    check_error(403, "AccessDenied", s3.list_objects_v2, Bucket=bucket, ExpectedBucketOwner="123456789012")


def test_a_host_of_another_name_is_not_a_bucket(place: Place, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a b", Body=b"x")
    url = urllib.parse.urlsplit(url_of(s3, "get_object", bucket))
    target = f"{url.path}?{url.query}"
    for host in ("other.example", f"{bucket}.other.example"):
        assert raw(place.port, "GET", target, None, {"host": host})[0] == 403
