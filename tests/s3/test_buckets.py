"""Buckets: their names, their owners, and what is said of them."""

from __future__ import annotations

import socket

import pytest

from tests.s3.conftest import Place, S3Client
from tests.s3.support import check_error, raw, status_of


def test_a_new_bucket_is_empty_and_listed(s3: S3Client, bucket: str) -> None:
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert bucket in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    assert s3.list_buckets()["Owner"]["ID"]


def test_what_does_not_exist(s3: S3Client) -> None:
    for call in (s3.list_objects, s3.list_objects_v2, s3.delete_bucket, s3.get_bucket_location):
        check_error(404, "NoSuchBucket", call, Bucket="none-such-bucket")
    check_error(404, "404", s3.head_bucket, Bucket="none-such-bucket")
    check_error(404, "NoSuchBucket", s3.put_object, Bucket="none-such-bucket", Key="a", Body=b"")


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "ab",
        "a" * 64,
        "-begin",
        "end-",
        "UPPER",
        "under_score",
        "192.168.5.123",
        "a..b",
        "a.-b",
        "a-.b",
        ".a",
        "a b",
    ],
)
def test_names_that_are_refused(place: Place, name: str) -> None:
    status, _, body = signed(place, "PUT", f"/{name.replace(' ', '%20')}")
    assert (status, b"<Code>InvalidBucketName</Code>" in body) == (400, True)


def signed(place: Place, method: str, target: str) -> tuple[int, dict[str, str], bytes]:
    """boto3 does not send names that it thinks wrong."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method, place.url + target)
    S3SigV4Auth(Credentials(place.main.id, place.main.secret), "s3", "us-east-1").add_auth(request)
    return raw(place.port, method, target, b"", dict(request.headers.items()))


@pytest.mark.parametrize("name", ["abc", "a-b.c", "a" * 63, "1.2.3", "2abc"])
def test_names_that_are_taken(s3: S3Client, name: str) -> None:
    s3.create_bucket(Bucket=name)
    assert status_of(s3.head_bucket(Bucket=name)) == 200
    s3.delete_bucket(Bucket=name)


def test_creating_a_bucket_again(s3: S3Client, alt: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="kept", Body=b"x")
    assert status_of(s3.create_bucket(Bucket=bucket)) == 200
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    check_error(409, "BucketAlreadyExists", alt.create_bucket, Bucket=bucket)
    check_error(409, "BucketAlreadyExists", s3.create_bucket, Bucket=bucket, ACL="public-read")


def test_only_an_empty_bucket_is_deleted(s3: S3Client, alt: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    check_error(409, "BucketNotEmpty", s3.delete_bucket, Bucket=bucket)
    check_error(403, "AccessDenied", alt.delete_bucket, Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="a")
    assert status_of(s3.delete_bucket(Bucket=bucket)) == 204
    check_error(404, "NoSuchBucket", s3.delete_bucket, Bucket=bucket)


def test_regions(s3: S3Client, bucket: str, new_name: str) -> None:
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert s3.head_bucket(Bucket=bucket)["BucketRegion"] == "us-east-1"
    wrong = {"LocationConstraint": "eu-west-1"}
    check_error(400, "InvalidLocationConstraint", s3.create_bucket, Bucket="elsewhere", CreateBucketConfiguration=wrong)


def test_buckets_in_pages(s3: S3Client) -> None:
    names = [f"paged-{number}" for number in range(5)]
    for name in names:
        s3.create_bucket(Bucket=name)
    found, token = [], ""
    while True:
        more = {"ContinuationToken": token} if token else {}
        page = s3.list_buckets(MaxBuckets=2, Prefix="paged-", **more)
        found += [one["Name"] for one in page["Buckets"]]
        token = page.get("ContinuationToken")
        if not token:
            break
    assert found == names


def test_a_key_sees_its_own_buckets(s3: S3Client, alt: S3Client, stranger: S3Client, bucket: str) -> None:
    assert bucket not in [one["Name"] for one in alt.list_buckets()["Buckets"]]
    check_error(403, "AccessDenied", stranger.list_buckets)
    for client in (alt, stranger):
        check_error(403, "AccessDenied", client.list_objects_v2, Bucket=bucket)
        check_error(403, "403", client.head_bucket, Bucket=bucket)
        check_error(403, "AccessDenied", client.put_object, Bucket=bucket, Key="a", Body=b"")


def test_settings_that_a_bucket_never_has(s3: S3Client, bucket: str) -> None:
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    for call in (
        s3.get_bucket_accelerate_configuration,
        s3.get_bucket_logging,
        s3.get_bucket_notification_configuration,
    ):
        assert status_of(call(Bucket=bucket)) == 200
    check_error(404, "ServerSideEncryptionConfigurationNotFoundError", s3.get_bucket_encryption, Bucket=bucket)
    check_error(404, "ReplicationConfigurationNotFoundError", s3.get_bucket_replication, Bucket=bucket)
    check_error(404, "NoSuchWebsiteConfiguration", s3.get_bucket_website, Bucket=bucket)


def test_every_operation_of_boto3_is_known(s3: S3Client) -> None:
    from flared.api.s3.operations import ALIASES, OPERATIONS

    known = {operation.name for operation in OPERATIONS} | ALIASES.keys()
    assert set(s3.meta.service_model.operation_names) <= known


def test_what_is_not_here_says_so_by_its_name(s3: S3Client, bucket: str) -> None:
    answer = check_error(501, "NotImplemented", s3.list_bucket_inventory_configurations, Bucket=bucket)
    assert "ListBucketInventoryConfigurations" in answer["Error"]["Message"]


def test_virtual_hosted_buckets(place: Place, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **named: find("127.0.0.1", *more, **named))
    client = place.client(place.main, s3={"addressing_style": "virtual"})
    client.put_object(Bucket=bucket, Key="by/host name", Body=b"virtual")
    assert s3.get_object(Bucket=bucket, Key="by/host name")["Body"].read() == b"virtual"
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    assert raw(place.port, "GET", "/by/host%20name", None, {"host": f"{bucket}.localhost:{place.port}"})[0] == 403
