"""Buckets through the S3 face, on a cluster in memory."""

from __future__ import annotations

import trio.testing

from flared.api.s3.settings import S3Settings
from tests.support.s3 import speaking_s3

Clock = trio.testing.MockClock


async def test_a_bucket_comes_and_goes(autojump_clock: Clock) -> None:
    async with speaking_s3() as ask:
        assert (await ask("PUT", "/one")).status == 200
        assert (await ask("PUT", "/one")).status == 200
        assert (await ask("HEAD", "/one")).fields["x-amz-bucket-region"] == "us-east-1"
        assert (await ask("GET", "/one?location")).xml("LocationConstraint").text == ""
        listed = (await ask("GET", "/")).xml("ListAllMyBucketsResult").find("Buckets")
        assert listed is not None
        assert [bucket.text_of("Name") for bucket in listed.children] == ["default", "one"]
        assert (await ask("DELETE", "/one")).status == 204
        assert (await ask("DELETE", "/one")).code == "NoSuchBucket"
        assert (await ask("HEAD", "/one")).status == 404


async def test_buckets_are_listed_in_pages(autojump_clock: Clock) -> None:
    async with speaking_s3() as ask:
        for number in range(5):
            await ask("PUT", f"/some-{number}")
        names, token = [], ""
        while True:
            page = (await ask("GET", f"/?max-buckets=2&prefix=some&continuation-token={token}")).xml(
                "ListAllMyBucketsResult"
            )
            buckets = page.find("Buckets")
            assert buckets is not None
            names += [bucket.text_of("Name") for bucket in buckets.children]
            token = page.text_of("ContinuationToken")
            if not token:
                break
        assert names == [f"some-{number}" for number in range(5)]


async def test_a_region_of_ones_own(autojump_clock: Clock) -> None:
    wanted = b"<CreateBucketConfiguration><LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>"
    async with speaking_s3(S3Settings(region="here")) as ask:
        assert (await ask("PUT", "/one", wanted % b"there")).code == "InvalidLocationConstraint"
        assert (await ask("PUT", "/one", wanted % b"here")).status == 200
        assert (await ask("PUT", "/one")).code == "BucketAlreadyOwnedByYou"
        assert (await ask("GET", "/one?location")).xml("LocationConstraint").text == "here"
        assert (await ask("PUT", "/one", b"<x>")).code == "MalformedXML"


async def test_errors_are_s3s(autojump_clock: Clock) -> None:
    async with speaking_s3() as ask:
        assert (await ask("PUT", "/NO")).code == "InvalidBucketName"
        assert (await ask("GET", "/one?abac")).code == "NotImplemented"
        assert (await ask("DELETE", "/one?acl")).code == "MethodNotAllowed"
        error = (await ask("GET", "/none/?location")).xml("Error")
        assert error.text_of("Resource") == "/none/"
        assert error.text_of("RequestId")
        assert error.text_of("HostId")
        assert (await ask("PUT", "/one?acl&policy")).code == "InvalidArgument"


async def test_a_stranger_hears_only_access_denied(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        for method, target in (
            ("GET", "/"),
            ("PUT", "/one"),
            ("GET", "/NO"),
            ("GET", "/one?abac"),
            ("GET", "/"),
        ):
            answer = await ask(method, target)
            assert (answer.status, answer.code) == (403, "AccessDenied")
            assert answer.xml("Error").text_of("Message") == "Access Denied"
