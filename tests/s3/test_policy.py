"""Bucket policies by boto3, after what ceph/s3-tests asks of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.s3.conftest import S3Client
from tests.s3.support import body_of, check_error, keys_of, put_all, status_of

Statement = dict[str, Any]


def statement(action: str | list[str], *resources: str, effect: str = "Allow", **more: Any) -> Statement:
    arns = [f"arn:aws:s3:::{name}" for name in resources]
    return {"Effect": effect, "Principal": {"AWS": "*"}, "Action": action, "Resource": arns} | more


def put_policy(s3: S3Client, bucket: str, *statements: Statement) -> None:
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def listings(client: S3Client) -> list[Any]:
    return [client.list_objects, client.list_objects_v2]


def test_a_policy_lets_others_list(s3: S3Client, alt: S3Client, bucket: str) -> None:
    put_all(s3, bucket, ["k"])
    put_policy(s3, bucket, statement("s3:ListBucket", bucket, f"{bucket}/*"))
    for ask in listings(alt):
        assert keys_of(ask(Bucket=bucket)) == ["k"]


def test_a_policy_denies_what_an_acl_allows(s3: S3Client, alt: S3Client, bucket: str) -> None:
    put_all(s3, bucket, ["k"])
    s3.put_bucket_acl(Bucket=bucket, ACL="authenticated-read")
    put_policy(s3, bucket, statement("s3:ListBucket", bucket, f"{bucket}/*", effect="Deny"))
    for ask in listings(alt):
        check_error(403, "AccessDenied", ask, Bucket=bucket)
    s3.delete_bucket_policy(Bucket=bucket)
    for ask in listings(alt):
        assert keys_of(ask(Bucket=bucket)) == ["k"]


def test_one_policy_fits_several_buckets(s3: S3Client, alt: S3Client, bucket: str) -> None:
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    for name in (bucket, other):
        put_all(s3, name, ["k"])
    put_policy(s3, bucket, statement("s3:ListBucket", "*", "*/*"))
    s3.put_bucket_policy(Bucket=other, Policy=s3.get_bucket_policy(Bucket=bucket)["Policy"])
    for name in (bucket, other):
        for ask in listings(alt):
            assert keys_of(ask(Bucket=name)) == ["k"]


def test_there_is_no_policy_before_one_is_put(s3: S3Client, bucket: str) -> None:
    check_error(404, "NoSuchBucketPolicy", s3.get_bucket_policy, Bucket=bucket)
    assert status_of(s3.delete_bucket_policy(Bucket=bucket)) == 204
    put_policy(s3, bucket, statement("s3:GetObject", f"{bucket}/*"))
    assert json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]


def test_whether_a_bucket_is_public(s3: S3Client, bucket: str) -> None:
    def is_public() -> bool:
        found: bool = s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"]
        return found

    assert not is_public()
    one = statement("s3:GetObject", f"{bucket}/*")
    put_policy(s3, bucket, one)
    assert is_public()
    put_policy(s3, bucket, one | {"Principal": {"AWS": "alt"}})
    assert not is_public()
    put_policy(s3, bucket, one | {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/32"}}})
    assert not is_public()
    for acl in ("public-read", "authenticated-read"):
        s3.put_bucket_acl(Bucket=bucket, ACL=acl)
        assert is_public()


@pytest.mark.parametrize(
    "change",
    [
        {"Principal": {"AWS": "no-such-key"}},
        {"NotPrincipal": {"AWS": "*"}},
        {"Action": "s3:GetObjekt"},
        {"Resource": "arn:aws:s3:::another-bucket/*"},
        {"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}},
    ],
)
def test_what_is_not_understood_is_refused(s3: S3Client, bucket: str, change: Statement) -> None:
    one = statement("s3:GetObject", f"{bucket}/*") | change
    policy = json.dumps({"Version": "2012-10-17", "Statement": [one]})
    check_error(400, "MalformedPolicy", s3.put_bucket_policy, Bucket=bucket, Policy=policy)
    check_error(404, "NoSuchBucketPolicy", s3.get_bucket_policy, Bucket=bucket)


def tag(s3: S3Client, bucket: str, key: str, **tags: str) -> None:
    tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
    s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tag_set})


@pytest.fixture
def tagged(s3: S3Client, bucket: str) -> str:
    """Objects of which only ``public`` has the tag that policies ask for."""
    put_all(s3, bucket, ["public", "private", "other"])
    tag(s3, bucket, "public", security="public", foo="bar")
    tag(s3, bucket, "private", security="private")
    tag(s3, bucket, "other", security1="public")
    return bucket


@pytest.mark.parametrize(
    ("action", "call", "refused"),
    [
        ("s3:GetObject", "get_object", "get_object_tagging"),
        ("s3:GetObjectTagging", "get_object_tagging", "get_object"),
        ("s3:GetObjectAcl", "get_object_acl", "get_object_tagging"),
    ],
)
def test_tags_that_an_object_has_decide(
    s3: S3Client, alt: S3Client, tagged: str, action: str, call: str, refused: str
) -> None:
    condition = {"StringEquals": {"s3:ExistingObjectTag/security": "public"}}
    put_policy(s3, tagged, statement(action, f"{tagged}/*", Condition=condition))
    assert status_of(getattr(alt, call)(Bucket=tagged, Key="public")) == 200
    check_error(403, "AccessDenied", getattr(alt, refused), Bucket=tagged, Key="public")
    for key in ("private", "other"):
        check_error(403, "AccessDenied", getattr(alt, call), Bucket=tagged, Key=key)


def test_tags_that_an_object_has_decide_about_others(s3: S3Client, alt: S3Client, tagged: str) -> None:
    condition = {"StringEquals": {"s3:ExistingObjectTag/security": "public"}}
    put_policy(s3, tagged, statement("s3:PutObjectTagging", f"{tagged}/*", Condition=condition))
    tag(alt, tagged, "public", security="public", foo="baz")
    wanted = {"TagSet": [{"Key": "security", "Value": "public"}]}
    check_error(403, "AccessDenied", alt.put_object_tagging, Bucket=tagged, Key="private", Tagging=wanted)
    tag(alt, tagged, "public", security="private")
    check_error(403, "AccessDenied", alt.put_object_tagging, Bucket=tagged, Key="public", Tagging=wanted)


def test_tags_that_a_put_brings_decide(s3: S3Client, alt: S3Client, bucket: str) -> None:
    condition = {"StringEquals": {"s3:RequestObjectTag/security": "public"}}
    put_policy(s3, bucket, statement("s3:PutObject", f"{bucket}/*", Condition=condition))
    check_error(403, "AccessDenied", alt.put_object, Bucket=bucket, Key="k", Body="x")
    check_error(403, "AccessDenied", alt.put_object, Bucket=bucket, Key="k", Body="x", Tagging="security=private")
    assert status_of(alt.put_object(Bucket=bucket, Key="k", Body="x", Tagging="security=public")) == 200


def test_the_source_of_a_copy_decides(s3: S3Client, alt: S3Client, bucket: str) -> None:
    target = f"{bucket}-target"
    s3.create_bucket(Bucket=target)
    put_all(s3, bucket, ["public/foo", "public/bar", "private/foo"])
    put_policy(s3, bucket, statement("s3:GetObject", f"{bucket}/*"))
    condition = {"StringLike": {"s3:x-amz-copy-source": f"{bucket}/public/*"}}
    put_policy(s3, target, statement("s3:PutObject", f"{target}/*", Condition=condition))
    for name in ("foo", "bar"):
        alt.copy_object(Bucket=target, Key=name, CopySource={"Bucket": bucket, "Key": f"public/{name}"})
        assert body_of(s3.get_object(Bucket=target, Key=name)) == f"public/{name}".encode()
    private = {"Bucket": bucket, "Key": "private/foo"}
    check_error(403, "AccessDenied", alt.copy_object, Bucket=target, Key="x", CopySource=private)


def test_the_directive_of_a_copy_decides(s3: S3Client, alt: S3Client, bucket: str) -> None:
    target = f"{bucket}-target"
    s3.create_bucket(Bucket=target)
    put_all(s3, bucket, ["foo"])
    put_policy(s3, bucket, statement("s3:GetObject", f"{bucket}/*"))
    condition = {"StringEquals": {"s3:x-amz-metadata-directive": "COPY"}}
    put_policy(s3, target, statement("s3:PutObject", f"{target}/*", Condition=condition))
    source = {"Bucket": bucket, "Key": "foo"}
    alt.copy_object(Bucket=target, Key="a", CopySource=source, MetadataDirective="COPY")
    check_error(403, "AccessDenied", alt.copy_object, Bucket=target, Key="b", CopySource=source)
    check_error(
        403, "AccessDenied", alt.copy_object,
        Bucket=target, Key="b", CopySource=source, MetadataDirective="REPLACE", Metadata={"foo": "bar"},
    )  # fmt: skip


def test_the_acl_of_a_put_decides(s3: S3Client, alt: S3Client, bucket: str) -> None:
    condition = {"StringLike": {"s3:x-amz-acl": "public*"}}
    put_policy(
        s3,
        bucket,
        statement(["s3:PutObject", "s3:PutObjectAcl"], f"{bucket}/*"),
        statement("s3:PutObject", f"{bucket}/*", effect="Deny", Condition=condition),
    )
    assert status_of(alt.put_object(Bucket=bucket, Key="private", Body="x")) == 200
    assert status_of(alt.put_object(Bucket=bucket, Key="open", Body="x", ACL="authenticated-read")) == 200
    check_error(403, "AccessDenied", alt.put_object, Bucket=bucket, Key="public", Body="x", ACL="public-read")


@pytest.mark.parametrize("algorithm", ["AES256", "aws:kms"])
def test_a_put_without_encryption_is_denied(s3: S3Client, bucket: str, algorithm: str) -> None:
    key = "s3:x-amz-server-side-encryption"
    put_policy(
        s3,
        bucket,
        statement("s3:PutObject", f"{bucket}/*", effect="Deny", Condition={"StringNotEquals": {key: algorithm}}),
        statement("s3:PutObject", f"{bucket}/*", effect="Deny", Condition={"Null": {key: "true"}}),
    )
    check_error(403, "AccessDenied", s3.put_object, Bucket=bucket, Key="k", Body="x")
    other = {"AES256": "aws:kms", "aws:kms": "AES256"}[algorithm]
    check_error(403, "AccessDenied", s3.put_object, Bucket=bucket, Key="k", Body="x", ServerSideEncryption=other)


def test_a_prefix_decides_about_a_listing(s3: S3Client, alt: S3Client, bucket: str) -> None:
    put_all(s3, bucket, ["folder/a", "other"])
    condition = {"StringEquals": {"s3:prefix": "folder"}, "NumericLessThanEquals": {"s3:max-keys": "5"}}
    put_policy(s3, bucket, statement("s3:ListBucket", bucket, Condition=condition))
    for ask in listings(alt):
        assert keys_of(ask(Bucket=bucket, Prefix="folder", MaxKeys=5)) == ["folder/a"]
        for refused in (
            {},
            {"Prefix": "folder"},
            {"Prefix": "other", "MaxKeys": 5},
            {"Prefix": "folder", "MaxKeys": 6},
        ):
            check_error(403, "AccessDenied", ask, Bucket=bucket, **refused)


def test_the_page_that_a_read_comes_from_decides(s3: S3Client, stranger: S3Client, bucket: str) -> None:
    put_all(s3, bucket, ["k"])
    condition = {"StringLikeIfExists": {"aws:Referer": "http://www.example.com/*"}}
    put_policy(s3, bucket, statement("s3:GetObject", f"{bucket}/*", Condition=condition))
    assert body_of(stranger.get_object(Bucket=bucket, Key="k")) == b"k"
    for referer, allowed in (("http://www.example.com/a", True), ("http://example.com", False)):

        def say(params: Any, referer: str = referer, **_: Any) -> None:
            params["headers"]["referer"] = referer

        stranger.meta.events.register("before-call.s3.GetObject", say, unique_id="referer")
        try:
            if allowed:
                assert body_of(stranger.get_object(Bucket=bucket, Key="k")) == b"k"
            else:
                check_error(403, "AccessDenied", stranger.get_object, Bucket=bucket, Key="k")
        finally:
            stranger.meta.events.unregister("before-call.s3.GetObject", unique_id="referer")


def test_an_owner_is_not_shut_out_of_its_policy(s3: S3Client, bucket: str) -> None:
    put_policy(s3, bucket, statement("s3:*", bucket, f"{bucket}/*", effect="Deny"))
    check_error(403, "AccessDenied", s3.put_object, Bucket=bucket, Key="k", Body="x")
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"]
    s3.delete_bucket_policy(Bucket=bucket)
    assert status_of(s3.put_object(Bucket=bucket, Key="k", Body="x")) == 200


def test_uploads_in_parts_are_puts(s3: S3Client, alt: S3Client, bucket: str) -> None:
    check_error(403, "AccessDenied", alt.create_multipart_upload, Bucket=bucket, Key="k")
    put_policy(s3, bucket, statement("s3:PutObject", f"{bucket}/*"))
    upload = alt.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etag = alt.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    check_error(403, "AccessDenied", alt.list_parts, Bucket=bucket, Key="k", UploadId=upload)
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    alt.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    assert body_of(s3.get_object(Bucket=bucket, Key="k")) == b"x"


def test_deletes_of_many_are_decided_one_by_one(s3: S3Client, alt: S3Client, bucket: str) -> None:
    put_all(s3, bucket, ["open/a", "closed/a"])
    put_policy(s3, bucket, statement("s3:DeleteObject", f"{bucket}/open/*"))
    wanted = {"Objects": [{"Key": "open/a"}, {"Key": "closed/a"}]}
    answer = alt.delete_objects(Bucket=bucket, Delete=wanted)
    assert [entry["Key"] for entry in answer["Deleted"]] == ["open/a"]
    assert [(entry["Key"], entry["Code"]) for entry in answer["Errors"]] == [("closed/a", "AccessDenied")]
    assert keys_of(s3.list_objects_v2(Bucket=bucket)) == ["closed/a"]
