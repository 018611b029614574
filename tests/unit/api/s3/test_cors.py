"""CORS: a bucket's rules through the S3 face, and what web pages get by them."""

from __future__ import annotations

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from flared.access.bucket_access import Acl
from flared.access.cors import CorsRule, decode_rules, encode_rules
from flared.api.s3.cors import parse_rules
from flared.errors import Refused
from flared.names import BucketName
from flared.objects.buckets import change_access
from tests.support.s3 import speaking_s3

Clock = trio.testing.MockClock

SHOP = b"""<CORSConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><CORSRule>
<ID>shop</ID><AllowedOrigin>https://*.shop.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod>
<AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>
<MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>"""
PAGE = {"origin": "https://www.shop.example"}


async def test_the_rules_of_a_bucket_come_and_go(autojump_clock: Clock) -> None:
    async with speaking_s3(secret=b"") as ask:
        await ask("PUT", "/one")
        assert (await ask("GET", "/one?cors")).code == "NoSuchCORSConfiguration"
        assert (await ask("PUT", "/one?cors", SHOP)).status == 200
        (rule,) = (await ask("GET", "/one?cors")).xml("CORSConfiguration").children
        assert rule.text_of("ID") == "shop"
        assert [method.text for method in rule.find_all("AllowedMethod")] == ["GET", "PUT"]
        assert (await ask("DELETE", "/one?cors")).status == 204
        assert (await ask("DELETE", "/one?cors")).status == 204
        assert (await ask("GET", "/one?cors")).code == "NoSuchCORSConfiguration"
        assert (await ask("PUT", "/none?cors", SHOP)).code == "NoSuchBucket"


async def test_a_browser_asks_before_it_calls(autojump_clock: Clock) -> None:
    async with speaking_s3(secret=b"") as ask:
        await ask("PUT", "/one")
        put = PAGE | {"access-control-request-method": "PUT"}
        assert (await ask("OPTIONS", "/one/key", fields=put)).code == "AccessForbidden"
        await ask("PUT", "/one?cors", SHOP)
        link = "/one/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20270101%2Fus-east-1%2Fs3%2Faws4_request"
        link += "&X-Amz-Date=20270101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=" + "0" * 64
        assert (await ask("OPTIONS", link, fields=put)).status == 200  # signed is the call that follows
        allowed = await ask("OPTIONS", "/one/key", fields=put | {"access-control-request-headers": "x-amz-date"})
        assert allowed.status == 200
        assert allowed.fields["access-control-allow-origin"] == PAGE["origin"]
        assert allowed.fields["access-control-allow-headers"] == "x-amz-date"
        assert allowed.fields["access-control-max-age"] == "60"
        for other in (
            {"origin": "https://evil.example"},
            {"access-control-request-method": "DELETE"},
            {"access-control-request-headers": "x-amz-date, cookie"},
        ):
            refused = await ask("OPTIONS", "/one/key", fields=put | other)
            assert refused.code == "AccessForbidden"
            assert "access-control-allow-origin" not in refused.fields
        assert (await ask("OPTIONS", "/one/key", fields=PAGE)).code == "BadRequest"
        assert (await ask("OPTIONS", "/none/key", fields=put)).code == "AccessForbidden"


async def test_a_reply_to_a_page_says_who_may_read_it_and_an_error_does_too(autojump_clock: Clock) -> None:
    async with speaking_s3(secret=b"") as ask:
        await ask("PUT", "/one")
        await ask("PUT", "/one?cors", SHOP)
        await change_access(ask.cluster.store, BucketName("one"), acl=Acl.PUBLIC_READ)
        for method, target, status in (("GET", "/one?location", 200), ("PUT", "/one?cors", 403)):
            found = await ask(method, target, b"", PAGE)
            assert found.status == status
            assert found.fields["access-control-allow-origin"] == PAGE["origin"]
            assert found.fields["access-control-expose-headers"] == "ETag"
            assert "access-control-allow-origin" not in (await ask(method, target)).fields
            other = await ask(method, target, fields={"origin": "https://evil.example"})
            assert "access-control-allow-origin" not in other.fields


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "<CORSRule></CORSRule>",
        "<CORSRule><AllowedOrigin>*</AllowedOrigin></CORSRule>",
        "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>PATCH</AllowedMethod></CORSRule>",
        "<CORSRule><AllowedOrigin>*.*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>",
        "<CORSRule><AllowedOrigin>a&#10;b</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>",
        "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
        "<ExposeHeader>x-*</ExposeHeader></CORSRule>",
        "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
        "<MaxAgeSeconds>soon</MaxAgeSeconds></CORSRule>",
        "<Rule></Rule>",
        "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>" * 101,
    ],
)
def test_what_are_not_rules_is_refused(inside: str) -> None:
    with pytest.raises(Refused):
        parse_rules(f"<CORSConfiguration>{inside}</CORSConfiguration>".encode())


texts = st.lists(st.text(max_size=5), max_size=3).map(tuple)


@given(st.lists(st.builds(CorsRule, texts, texts, texts, texts, st.none() | st.integers(0, 1 << 31), st.text())))
def test_a_document_has_all_of_its_rules(rules: list[CorsRule]) -> None:
    assert decode_rules(encode_rules(rules)) == tuple(rules)
