"""Canned ACLs of buckets and objects through the S3 face."""

from __future__ import annotations

import pytest
import trio.testing

from flared.access.bucket_access import Acl
from flared.api.s3.acl import ALL, AUTHENTICATED, format_acl, parse_acl
from flared.api.s3.errors import S3Error
from flared.api.s3.owner import OWNER_ID
from flared.api.s3.xml import MalformedXml, parse_xml
from tests.support.s3 import ALT, MAIN, Answer, speaking_s3
from tests.unit.api.s3.test_policy import by, prepared, put_policy

Clock = trio.testing.MockClock
OWNER = f"<Owner><ID>{OWNER_ID}</ID></Owner>"


def grants_in(answer: Answer | bytes) -> list[tuple[str, str]]:
    """Group, or empty for the owner, and permission of each grant."""
    body = answer if isinstance(answer, bytes) else answer.body
    listed = parse_xml(body, "AccessControlPolicy").find("AccessControlList")
    assert listed is not None
    found = []
    for grant in listed.children:
        grantee = grant.find("Grantee")
        assert grantee is not None
        if not grantee.text_of("URI"):
            assert grantee.text_of("ID") == OWNER_ID
        found.append((grantee.text_of("URI").rpartition("/")[2], grant.text_of("Permission")))
    return found


FULL = ("", "FULL_CONTROL")


@pytest.mark.parametrize("acl", list(Acl))
def test_what_is_written_is_read(acl: Acl) -> None:
    assert parse_acl(format_acl(acl)) is acl
    assert grants_in(format_acl(acl))[0] == FULL


def policy(*grants: str, owner: str = OWNER) -> bytes:
    listed = f"<AccessControlList>{''.join(grants)}</AccessControlList>"
    return f"<AccessControlPolicy>{owner}{listed}</AccessControlPolicy>".encode()


def grant(grantee: str, permission: str = "READ") -> str:
    return f"<Grant><Grantee>{grantee}</Grantee><Permission>{permission}</Permission></Grant>"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (policy(grant(f"<URI>{ALL}</URI>", "WRITE")), "NotImplemented"),
        (policy(grant(f"<URI>{ALL}</URI>"), grant(f"<URI>{AUTHENTICATED}</URI>")), "NotImplemented"),
        (policy(grant(f"<URI>{ALL}</URI>", "FULL_CONTROL")), "NotImplemented"),
        (policy(grant("<URI>http://acs.amazonaws.com/groups/s3/LogDelivery</URI>")), "NotImplemented"),
        (policy(grant("<ID>someone</ID>")), "InvalidArgument"),
        (policy(grant("<EmailAddress>a@b</EmailAddress>")), "InvalidArgument"),
        (policy(owner="<Owner><ID>someone</ID></Owner>"), "AccessDenied"),
    ],
)
def test_what_is_not_a_canned_acl_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(S3Error) as refused:
        parse_acl(body)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "body",
    [b"", b"<x/>", b"<AccessControlPolicy/>", policy(owner=""), policy("<Grant/>"), policy(grant("<ID>x</ID>", "OWN"))],
)
def test_what_is_not_an_acl_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedXml):
        parse_acl(body)


async def test_a_bucket_is_opened_and_closed(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        assert grants_in(await by(ask, MAIN, "GET", "/photos?acl")) == [FULL]
        assert (await by(ask, MAIN, "PUT", "/photos?acl", x_amz_acl="public-read")).status == 200
        assert grants_in(await by(ask, MAIN, "GET", "/photos?acl")) == [FULL, ("AllUsers", "READ")]
        assert (await ask("GET", "/photos")).status == 200
        assert (await ask("GET", "/photos/open/a")).code == "AccessDenied", "that is for the object's ACL to say"
        assert (await ask("PUT", "/photos/x", b"x")).code == "AccessDenied"
        assert (await by(ask, MAIN, "PUT", "/photos?acl", format_acl(Acl.PUBLIC_READ_WRITE))).status == 200
        assert (await ask("PUT", "/photos/x", b"x")).status == 200
        assert (await ask("DELETE", "/photos/x")).status == 204
        assert (await ask("PUT", "/photos/x", b"x", {"x-amz-acl": "public-read"})).code == "AccessDenied"
        assert (await by(ask, MAIN, "PUT", "/photos?acl", x_amz_acl="authenticated-read")).status == 200
        assert (await ask("GET", "/photos")).code == "AccessDenied"
        assert (await by(ask, ALT, "GET", "/photos")).status == 200
        for key in (ALT, None):
            assert (await by(ask, key, "PUT", "/photos?acl", x_amz_acl="private")).code == "AccessDenied"
        assert (await by(ask, MAIN, "PUT", "/photos?acl", x_amz_acl="private")).status == 200
        assert (await by(ask, ALT, "GET", "/photos")).code == "AccessDenied"
        assert (await by(ask, MAIN, "PUT", "/photos?acl", x_amz_acl="open")).code == "InvalidArgument"
        assert (await by(ask, MAIN, "PUT", "/photos?acl", x_amz_acl="log-delivery-write")).code == "NotImplemented"
        assert (await by(ask, MAIN, "PUT", "/photos?acl", x_amz_grant_read="id=1")).code == "NotImplemented"
        both = await by(ask, MAIN, "PUT", "/photos?acl", format_acl(Acl.PRIVATE), x_amz_acl="private")
        assert both.code == "UnexpectedContent"


async def test_a_bucket_is_created_open(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        assert (await by(ask, MAIN, "PUT", "/photos", x_amz_acl="public-read")).status == 200
        assert (await ask("GET", "/photos")).status == 200
        assert (await by(ask, MAIN, "PUT", "/photos", x_amz_acl="public-read")).status == 200
        assert (await by(ask, MAIN, "PUT", "/photos", x_amz_acl="private")).code == "BucketAlreadyExists"
        assert (await ask("GET", "/photos")).status == 200, "one that is there keeps its ACL"


@pytest.mark.parametrize("size", [5, 200_000])
async def test_an_object_is_put_open_and_closed(autojump_clock: Clock, size: int) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        body = b"x" * size
        assert (await by(ask, MAIN, "PUT", "/photos/x", body, x_amz_acl="public-read")).status == 200
        assert (await ask("GET", "/photos/x")).body == body
        assert (await ask("HEAD", "/photos/x")).status == 200
        assert (await ask("GET", "/photos/x?acl")).code == "AccessDenied"
        assert (await ask("GET", "/photos/x?tagging")).code == "AccessDenied"
        assert grants_in(await by(ask, MAIN, "GET", "/photos/x?acl")) == [FULL, ("AllUsers", "READ")]
        etag = (await by(ask, MAIN, "HEAD", "/photos/x")).fields["etag"]

        assert (await by(ask, MAIN, "PUT", "/photos/x?acl", format_acl(Acl.AUTHENTICATED_READ))).status == 200
        assert (await ask("GET", "/photos/x")).code == "AccessDenied"
        assert (await by(ask, ALT, "GET", "/photos/x")).body == body
        assert (await by(ask, ALT, "PUT", "/photos/x?acl", x_amz_acl="private")).code == "AccessDenied"
        assert (await by(ask, MAIN, "PUT", "/photos/x?acl", x_amz_acl="bucket-owner-full-control")).status == 200
        assert (await by(ask, ALT, "GET", "/photos/x")).code == "AccessDenied"
        assert (await by(ask, MAIN, "HEAD", "/photos/x")).fields["etag"] == etag
        assert (await by(ask, MAIN, "GET", "/photos/nothing?acl")).code == "NoSuchKey"


async def test_a_copy_has_an_acl_of_its_own(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        assert (await by(ask, MAIN, "PUT", "/photos/x", b"x", x_amz_acl="public-read")).status == 200
        source = "/photos/x"
        assert (await by(ask, MAIN, "PUT", "/photos/y", x_amz_copy_source=source)).status == 200
        assert (await ask("GET", "/photos/y")).code == "AccessDenied"
        for directive in ("COPY", "REPLACE"):
            copied = await by(
                ask, MAIN, "PUT", f"/photos/{directive}", x_amz_copy_source=source, x_amz_acl="public-read",
                x_amz_metadata_directive=directive,
            )  # fmt: skip
            assert copied.status == 200
            assert (await ask("GET", f"/photos/{directive}")).body == b"x"


async def test_who_may_write_does_not_open_to_everybody_by_that(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        arn, alt = "arn:aws:s3:::photos/*", {"AWS": "alt"}
        write: dict[str, object] = {"Effect": "Allow", "Principal": alt, "Action": "s3:PutObject", "Resource": arn}
        await put_policy(ask, write)
        assert (await by(ask, ALT, "PUT", "/photos/x", b"x", x_amz_acl="public-read")).code == "AccessDenied"
        assert (await by(ask, ALT, "PUT", "/photos/x", b"x", x_amz_acl="private")).status == 200
        await put_policy(ask, write | {"Action": ["s3:PutObject", "s3:PutObjectAcl"]})
        assert (await by(ask, ALT, "PUT", "/photos/x", b"x", x_amz_acl="public-read")).status == 200
        assert (await ask("GET", "/photos/x")).body == b"x"


async def test_what_a_bucket_says_of_all_objects_shows_in_their_acl(autojump_clock: Clock) -> None:
    from flared.names import BucketName
    from flared.objects.buckets import change_access

    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        await change_access(ask.cluster.store, BucketName("photos"), public=True)
        assert (await ask("GET", "/photos/closed/a")).status == 200
        assert grants_in(await by(ask, MAIN, "GET", "/photos/closed/a?acl")) == [FULL, ("AllUsers", "READ")]


async def test_many_are_deleted_as_a_policy_says_of_each(autojump_clock: Clock) -> None:
    from base64 import b64encode
    from hashlib import md5

    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        body = b"<Delete><Object><Key>open/a</Key></Object><Object><Key>closed/a</Key></Object></Delete>"
        head = {"content_md5": b64encode(md5(body, usedforsecurity=False).digest()).decode()}
        assert (await by(ask, ALT, "POST", "/photos?delete", body, **head)).code == "AccessDenied"
        one = {"Effect": "Allow", "Principal": {"AWS": "alt"}, "Action": "s3:DeleteObject"}
        await put_policy(ask, one | {"Resource": "arn:aws:s3:::photos/open/*"})
        result = (await by(ask, ALT, "POST", "/photos?delete", body, **head)).xml("DeleteResult")
        assert [deleted.text_of("Key") for deleted in result.find_all("Deleted")] == ["open/a"]
        assert [error.text_of("Code") for error in result.find_all("Error")] == ["AccessDenied"]


async def test_what_is_not_there_is_told_as_s3_does(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as ask:
        await prepared(ask)
        for key in (ALT, None):
            assert (await by(ask, key, "GET", "/photos/nothing")).code == "AccessDenied", "it may not list either"
        await by(ask, MAIN, "PUT", "/photos?acl", x_amz_acl="public-read")
        for key in (ALT, None):
            assert (await by(ask, key, "GET", "/photos/nothing")).code == "NoSuchKey"
            assert (await by(ask, key, "GET", "/photos/closed/a")).code == "AccessDenied"
