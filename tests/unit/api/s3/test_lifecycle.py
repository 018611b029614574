"""Lifecycle rules in S3's words: what is taken, what is refused, and that what is kept comes back."""

from __future__ import annotations

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from flared.api.s3.lifecycle import parse_rules
from flared.api.s3.xml import MalformedXml
from flared.errors import Refused
from flared.objects.lifecycle import DAY_MS, Rule
from tests.support.s3 import speaking_s3

Clock = trio.testing.MockClock

EXPIRE = "<Expiration><Days>3</Days></Expiration>"
ENABLED = "<Status>Enabled</Status>"


def configuration(*rules: str) -> bytes:
    return (
        f"<LifecycleConfiguration>{''.join(f'<Rule>{rule}</Rule>' for rule in rules)}</LifecycleConfiguration>".encode()
    )


def parse(*rules: str) -> list[Rule]:
    return parse_rules(configuration(*rules), lambda: "drawn")


@pytest.mark.parametrize(
    ("rule", "meaning"),
    [
        (f"<ID>a</ID><Prefix>logs/</Prefix>{ENABLED}{EXPIRE}", Rule("a", True, "logs/", days=3)),
        (f"<Filter/><Status>Disabled</Status>{EXPIRE}", Rule("drawn", False, days=3)),
        (
            f"<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>{ENABLED}{EXPIRE}",
            Rule("drawn", tags={"k": "v"}, days=3),
        ),
        (
            "<Filter><And><Prefix>p</Prefix><Tag><Key>k</Key><Value/></Tag><Tag><Key>l</Key><Value>w</Value></Tag>"
            "<ObjectSizeGreaterThan>0</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>"
            f"{ENABLED}{EXPIRE}",
            Rule("drawn", True, "p", {"k": "", "l": "w"}, 0, 9, 3),
        ),
        (
            f"<Filter/>{ENABLED}<Expiration><Date>2030-01-02T00:00:00.000Z</Date></Expiration>",
            Rule("drawn", at_ms=21_916 * DAY_MS),
        ),
        (
            f"<Filter/>{ENABLED}<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
            "<NoncurrentVersionExpiration><NoncurrentDays>5</NoncurrentDays>"
            "<NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration>"
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation>"
            "</AbortIncompleteMultipartUpload>",
            Rule("drawn", lone_markers=True, noncurrent_days=5, newer_kept=2, upload_days=7),
        ),
    ],
)
def test_rules(rule: str, meaning: Rule) -> None:
    assert parse(rule) == [meaning]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (f"{ENABLED}{EXPIRE}", "MalformedXML"),
        (f"<Filter/><Status>enabled</Status>{EXPIRE}", "MalformedXML"),
        (f"<Filter/>{EXPIRE}", "MalformedXML"),
        (f"<Filter/>{ENABLED}", "InvalidRequest"),
        (f"<Filter/><Prefix>a</Prefix>{ENABLED}{EXPIRE}", "MalformedXML"),
        (f"<ID>{'a' * 256}</ID><Filter/>{ENABLED}{EXPIRE}", "InvalidArgument"),
        (f"<Filter><Prefix>a</Prefix><Tag><Key>k</Key></Tag></Filter>{ENABLED}{EXPIRE}", "MalformedXML"),
        (f"<Filter><Size>1</Size></Filter>{ENABLED}{EXPIRE}", "MalformedXML"),
        (f"<Filter/>{ENABLED}<Expiration><Days>0</Days></Expiration>", "InvalidArgument"),
        (f"<Filter/>{ENABLED}<Expiration><Days>1.5</Days></Expiration>", "InvalidArgument"),
        (f"<Filter/>{ENABLED}<Expiration><Days>1</Days><Date>2030-01-02</Date></Expiration>", "MalformedXML"),
        (f"<Filter/>{ENABLED}<Expiration><Date>2030-01-02T01:00:00Z</Date></Expiration>", "InvalidArgument"),
        (f"<Filter/>{ENABLED}<Expiration><Date>20300102</Date></Expiration>", "InvalidArgument"),
        (f"<Filter/>{ENABLED}<Expiration><Date>soon</Date></Expiration>", "MalformedXML"),
        (f"<Filter/>{ENABLED}{EXPIRE}<Transition><Days>1</Days></Transition>", "NotImplemented"),
        (f"<Filter/>{ENABLED}{EXPIRE}{EXPIRE}", "MalformedXML"),
        (f"<Filter/>{ENABLED}{EXPIRE}<Other/>", "MalformedXML"),
        (f"<Filter/>{ENABLED}<NoncurrentVersionExpiration/>", "MalformedXML"),
        (
            "<Filter><Tag><Key>k</Key></Tag></Filter><Status>Enabled</Status><AbortIncompleteMultipartUpload>"
            "<DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
            "InvalidRequest",
        ),
    ],
)
def test_what_is_not_a_rule_is_refused(rule: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(rule)
    assert refused.value.code == code


def test_names_are_unique_and_rules_are_bounded() -> None:
    one = f"<ID>a</ID><Filter/>{ENABLED}{EXPIRE}"
    with pytest.raises(Refused, match="unique"):
        parse(one, one)
    with pytest.raises(MalformedXml):
        parse()
    with pytest.raises(MalformedXml):
        parse(*[f"<ID>{number}</ID><Filter/>{ENABLED}{EXPIRE}" for number in range(1001)])


async def test_rules_come_back_as_they_went_in(autojump_clock: Clock) -> None:
    body = configuration(
        "<ID>old</ID><Filter><And><Prefix>p</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter>"
        f"{ENABLED}{EXPIRE}<NoncurrentVersionExpiration><NoncurrentDays>5</NoncurrentDays>"
        "<NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration>",
        "<ID>date</ID><Filter><ObjectSizeLessThan>9</ObjectSizeLessThan></Filter><Status>Disabled</Status>"
        "<Expiration><Date>2030-01-02T00:00:00.000Z</Date></Expiration>",
    )
    async with speaking_s3(secret=b"") as ask:
        await ask("PUT", "/one")
        assert (await ask("GET", "/one?lifecycle")).code == "NoSuchLifecycleConfiguration"
        assert (await ask("PUT", "/one?lifecycle", body)).status == 200
        kept = (await ask("GET", "/one?lifecycle")).body
        assert parse_rules(kept, lambda: "") == parse_rules(body, lambda: "")
        assert (await ask("DELETE", "/one?lifecycle")).status == 204
        assert (await ask("GET", "/one?lifecycle")).code == "NoSuchLifecycleConfiguration"


pieces = st.sampled_from(
    ["<Filter/>", ENABLED, EXPIRE, "<ID>a</ID>", "<Filter><And>", "</And></Filter>", "<Days>1</Days>", "<Date>x</Date>"]
)


@given(st.lists(pieces, max_size=6).map("".join))
def test_any_text_is_rules_or_refused(text: str) -> None:
    try:
        rules = parse(text)
    except Refused:
        return
    assert len(rules) == 1
