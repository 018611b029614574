"""Canned ACLs by boto3, after what ceph/s3-tests asks of them."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from tests.s3.conftest import Place, S3Client
from tests.s3.support import body_of, check_error, keys_of, raw, status_of

ALL = "http://acs.amazonaws.com/groups/global/AllUsers"
AUTHENTICATED = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
GRANTS: dict[str, list[tuple[str, str]]] = {
    "private": [],
    "public-read": [(ALL, "READ")],
    "public-read-write": [(ALL, "READ"), (ALL, "WRITE")],
    "authenticated-read": [(AUTHENTICATED, "READ")],
}


def grants_of(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """Those beside the owner's, which is there always."""
    owner, *others = answer["Grants"]
    assert (owner["Grantee"]["ID"], owner["Permission"]) == (answer["Owner"]["ID"], "FULL_CONTROL")
    assert owner["Grantee"]["Type"] == "CanonicalUser"
    return sorted((grant["Grantee"]["URI"], grant["Permission"]) for grant in others)


@pytest.mark.parametrize("acl", GRANTS)
def test_a_bucket_has_the_acl_that_it_was_given(s3: S3Client, new_name: str, acl: str) -> None:
    s3.create_bucket(Bucket=new_name, ACL=acl)
    assert grants_of(s3.get_bucket_acl(Bucket=new_name)) == GRANTS[acl]
    for other in ("private", acl):
        s3.put_bucket_acl(Bucket=new_name, ACL=other)
        assert grants_of(s3.get_bucket_acl(Bucket=new_name)) == GRANTS[other]


@pytest.mark.parametrize("acl", GRANTS)
def test_an_object_has_the_acl_that_it_was_given(s3: S3Client, bucket: str, acl: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body="x", ACL=acl)
    assert grants_of(s3.get_object_acl(Bucket=bucket, Key="k")) == GRANTS[acl]
    for other in ("private", acl):
        s3.put_object_acl(Bucket=bucket, Key="k", ACL=other)
        assert grants_of(s3.get_object_acl(Bucket=bucket, Key="k")) == GRANTS[other]
    s3.put_object(Bucket=bucket, Key="k", Body="y")
    assert grants_of(s3.get_object_acl(Bucket=bucket, Key="k")) == [], "a put replaces all"


def test_what_is_read_can_be_written(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body="x", ACL="public-read")
    found = s3.get_object_acl(Bucket=bucket, Key="k")
    policy = {"Owner": found["Owner"], "Grants": found["Grants"]}
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)
    assert grants_of(s3.get_bucket_acl(Bucket=bucket)) == GRANTS["public-read"]
    s3.put_object_acl(Bucket=bucket, Key="k", AccessControlPolicy=policy | {"Grants": found["Grants"][:1]})
    assert grants_of(s3.get_object_acl(Bucket=bucket, Key="k")) == []


def test_grants_to_others_are_refused(s3: S3Client, bucket: str) -> None:
    found = s3.get_bucket_acl(Bucket=bucket)
    someone = {"Grantee": {"Type": "CanonicalUser", "ID": "_foo"}, "Permission": "READ"}
    policy = {"Owner": found["Owner"], "Grants": [*found["Grants"], someone]}
    check_error(400, "InvalidArgument", s3.put_bucket_acl, Bucket=bucket, AccessControlPolicy=policy)
    check_error(501, "NotImplemented", s3.put_bucket_acl, Bucket=bucket, GrantRead="id=_foo")
    check_error(400, "InvalidArgument", s3.put_bucket_acl, Bucket=bucket, ACL="public-ready")
    assert grants_of(s3.get_bucket_acl(Bucket=bucket)) == []


# Who may do what by the ACLs of a bucket and of an object in it.
READERS: dict[str, tuple[bool, bool]] = {
    "private": (False, False),
    "public-read": (True, True),
    "public-read-write": (True, True),
    "authenticated-read": (False, True),
}
"""Whether everybody, and whether any key may."""


@pytest.mark.parametrize(("of_bucket", "of_object"), list(product(GRANTS, GRANTS)))
def test_who_may_do_what(
    s3: S3Client, alt: S3Client, stranger: S3Client, new_name: str, of_bucket: str, of_object: str
) -> None:
    s3.create_bucket(Bucket=new_name, ACL=of_bucket)
    s3.put_object(Bucket=new_name, Key="k", Body="x", ACL=of_object)
    for number, client in enumerate((stranger, alt)):
        if READERS[of_object][number]:
            assert body_of(client.get_object(Bucket=new_name, Key="k")) == b"x"
        else:
            check_error(403, "AccessDenied", client.get_object, Bucket=new_name, Key="k")
        if READERS[of_bucket][number]:
            assert keys_of(client.list_objects_v2(Bucket=new_name)) == ["k"]
        else:
            check_error(403, "AccessDenied", client.list_objects_v2, Bucket=new_name)
        if of_bucket == "public-read-write":
            assert status_of(client.put_object(Bucket=new_name, Key="theirs", Body="y")) == 200
            assert status_of(client.delete_object(Bucket=new_name, Key="theirs")) == 204
        else:
            check_error(403, "AccessDenied", client.put_object, Bucket=new_name, Key="k", Body="y")
            check_error(403, "AccessDenied", client.delete_object, Bucket=new_name, Key="k")
        for call in (client.put_bucket_acl, client.delete_bucket_policy, client.delete_bucket):
            arguments = {"ACL": "private"} if call == client.put_bucket_acl else {}
            check_error(403, "AccessDenied", call, Bucket=new_name, **arguments)
        check_error(403, "AccessDenied", client.put_object_acl, Bucket=new_name, Key="k", ACL="public-read")


def test_what_is_gone_is_told_to_who_may_list(s3: S3Client, place: Place, new_name: str) -> None:
    s3.create_bucket(Bucket=new_name, ACL="public-read")
    s3.put_object(Bucket=new_name, Key="k", Body="x", ACL="public-read")
    assert raw(place.port, "GET", f"/{new_name}/k")[::2] == (200, b"x")
    s3.delete_object(Bucket=new_name, Key="k")
    status, _, body = raw(place.port, "GET", f"/{new_name}/k")
    assert (status, b"<Code>NoSuchKey</Code>" in body) == (404, True)
    s3.delete_bucket(Bucket=new_name)
    status, _, body = raw(place.port, "GET", f"/{new_name}/k")
    assert (status, b"<Code>NoSuchBucket</Code>" in body) == (404, True)


def test_a_copy_and_an_upload_in_parts_have_an_acl_of_their_own(s3: S3Client, stranger: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body="x", ACL="public-read")
    source = {"Bucket": bucket, "Key": "k"}
    s3.copy_object(Bucket=bucket, Key="closed", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="open", CopySource=source, ACL="public-read")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts", ACL="public-read")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload=parts)
    for key in ("open", "parts"):
        assert body_of(stranger.get_object(Bucket=bucket, Key=key)) == b"x"
    check_error(403, "AccessDenied", stranger.get_object, Bucket=bucket, Key="closed")


def block(s3: S3Client, bucket: str, *names: str) -> dict[str, bool]:
    wanted = {
        name: name in names
        for name in ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    }
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=wanted)
    return wanted


def test_a_public_access_block_is_kept_until_it_is_deleted(s3: S3Client, alt: S3Client, bucket: str) -> None:
    missing = (404, "NoSuchPublicAccessBlockConfiguration", s3.get_public_access_block)
    check_error(*missing, Bucket=bucket)
    for names in ((), ("IgnorePublicAcls",), ("BlockPublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")):
        wanted = block(s3, bucket, *names)
        assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == wanted
        check_error(403, "AccessDenied", alt.get_public_access_block, Bucket=bucket)
    s3.delete_public_access_block(Bucket=bucket)
    check_error(*missing, Bucket=bucket)


@pytest.mark.parametrize("acl", ["public-read", "public-read-write", "authenticated-read"])
def test_a_block_refuses_open_acls(s3: S3Client, bucket: str, acl: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body="x")
    block(s3, bucket, "BlockPublicAcls")
    check_error(403, "AccessDenied", s3.put_bucket_acl, Bucket=bucket, ACL=acl)
    check_error(403, "AccessDenied", s3.put_object_acl, Bucket=bucket, Key="k", ACL=acl)
    check_error(403, "AccessDenied", s3.put_object, Bucket=bucket, Key="k", Body="y", ACL=acl)
    s3.put_object(Bucket=bucket, Key="k", Body="z", ACL="private")
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    assert body_of(s3.get_object(Bucket=bucket, Key="k")) == b"z"


def test_a_block_makes_open_acls_not_count(s3: S3Client, alt: S3Client, stranger: S3Client, bucket: str) -> None:
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    s3.put_object(Bucket=bucket, Key="k", Body="x", ACL="public-read")
    assert body_of(stranger.get_object(Bucket=bucket, Key="k")) == b"x"
    block(s3, bucket, "IgnorePublicAcls")
    for client in (alt, stranger):
        check_error(403, "AccessDenied", client.list_objects_v2, Bucket=bucket)
        check_error(403, "AccessDenied", client.get_object, Bucket=bucket, Key="k")
    assert body_of(s3.get_object(Bucket=bucket, Key="k")) == b"x"


def test_a_block_is_about_policies_that_let_everybody_in(
    s3: S3Client, alt: S3Client, stranger: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body="x")
    one = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}

    def policy(**more: Any) -> str:
        return json.dumps({"Version": "2012-10-17", "Statement": [one | more]})

    block(s3, bucket, "BlockPublicPolicy")
    check_error(403, "AccessDenied", s3.put_bucket_policy, Bucket=bucket, Policy=policy())
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(Principal={"AWS": "alt"}))
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=policy())
    assert body_of(stranger.get_object(Bucket=bucket, Key="k")) == b"x"
    block(s3, bucket, "RestrictPublicBuckets")
    check_error(403, "AccessDenied", stranger.get_object, Bucket=bucket, Key="k")
    assert body_of(alt.get_object(Bucket=bucket, Key="k")) == b"x"


def test_an_open_version_opens_no_other(
    s3: S3Client, alt: S3Client, stranger: S3Client, place: Place, bucket: str
) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    closed = s3.put_object(Bucket=bucket, Key="k", Body="closed")["VersionId"]
    s3.put_object(Bucket=bucket, Key="k", Body="open", ACL="public-read")
    assert body_of(stranger.get_object(Bucket=bucket, Key="k")) == b"open"
    for client in (stranger, alt):
        check_error(403, "AccessDenied", client.get_object, Bucket=bucket, Key="k", VersionId=closed)
    for query in (f"versionId={closed}", f"version%49d={closed}"):
        assert raw(place.port, "GET", f"/{bucket}/k?{query}")[0] == 403
    own = f"{bucket}-alt"
    alt.create_bucket(Bucket=own)
    source = {"Bucket": bucket, "Key": "k"}
    alt.copy_object(Bucket=own, Key="k", CopySource=source)
    check_error(403, "AccessDenied", alt.copy_object, Bucket=own, Key="k", CopySource=source | {"VersionId": closed})
    upload = alt.create_multipart_upload(Bucket=own, Key="k")["UploadId"]
    part = {"Bucket": own, "Key": "k", "UploadId": upload, "PartNumber": 1}
    check_error(403, "AccessDenied", alt.upload_part_copy, **part, CopySource=source | {"VersionId": closed})
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    check_error(403, "AccessDenied", stranger.delete_object, Bucket=bucket, Key="k", VersionId=closed)
    answer = stranger.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "VersionId": closed}]})
    assert [entry["Code"] for entry in answer["Errors"]] == ["AccessDenied"]
    check_error(403, "AccessDenied", stranger.put_object_tagging, Bucket=bucket, Key="k", Tagging={"TagSet": []})
    assert body_of(s3.get_object(Bucket=bucket, Key="k", VersionId=closed)) == b"closed"
