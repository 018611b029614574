"""Limits and the audit through the S3 face, in turns and in tasks."""

from __future__ import annotations

import logging
from base64 import b64encode
from hashlib import md5
from itertools import count

import pytest
import trio.testing

from flared.access.access_key import AccessKey
from flared.api.gate import FAILURES_BURST, Gate, GateSettings
from tests.support.s3 import ALT, MAIN, speaking_s3
from tests.unit.api.s3.test_policy import by, prepared

Clock = trio.testing.MockClock


@pytest.fixture(autouse=True)
def audited(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "flared.audit")
    return caplog


@pytest.mark.parametrize("in_turns", [True, False])
async def test_too_many_requests_are_asked_to_slow_down(autojump_clock: Clock, in_turns: bool) -> None:
    seconds = [0.0]
    gate = Gate(GateSettings(requests_per_key=5), lambda: seconds[0])
    async with speaking_s3(anonymous="none", in_turns=in_turns, gate=gate) as ask:
        answers = [await by(ask, MAIN, "GET", "/default/k") for _ in range(7)]
        assert [answer.status for answer in answers] == [404] * 5 + [503] * 2
        assert (answers[-1].code, answers[-1].fields["retry-after"]) == ("SlowDown", "1")
        assert (await by(ask, ALT, "GET", "/default/k")).code == "AccessDenied", "another key goes on"
        seconds[0] += 1
        assert (await by(ask, MAIN, "GET", "/default/k")).status == 404


async def test_what_goes_from_a_turn_to_a_task_counts_once(autojump_clock: Clock) -> None:
    gate = Gate(GateSettings(requests_per_key=5), lambda: 0.0)
    async with speaking_s3(anonymous="none", gate=gate) as ask:
        ranges = [await by(ask, MAIN, "GET", "/default/k", range="bytes=0-1") for _ in range(6)]
        assert [answer.status for answer in ranges] == [404] * 5 + [503]


async def test_wrong_keys_are_asked_to_slow_down_and_right_ones_go_on(
    autojump_clock: Clock, audited: pytest.LogCaptureFixture
) -> None:
    gate = Gate(now=lambda: 0.0)
    async with speaking_s3(anonymous="none", gate=gate) as ask:
        answers = [await ask("GET", "/default/k") for _ in range(FAILURES_BURST + 3)]
        assert [answer.code for answer in answers] == ["AccessDenied"] * FAILURES_BURST + ["SlowDown"] * 3
        assert (await by(ask, MAIN, "GET", "/default/k")).status == 404
    assert len([message for message in audited.messages if "who=anonymous" in message]) == 20


async def test_changes_and_refusals_are_on_record(autojump_clock: Clock, audited: pytest.LogCaptureFixture) -> None:
    gate = Gate(GateSettings(audit_objects=True), count(step=10.0).__next__)
    async with speaking_s3(anonymous="none", gate=gate) as ask:
        await prepared(ask)
        await by(ask, MAIN, "PUT", "/photos?acl", x_amz_acl="public-read")
        body = b"<Delete><Object><Key>open/a</Key></Object></Delete>"
        head = {"content_md5": b64encode(md5(body, usedforsecurity=False).digest()).decode()}
        await by(ask, MAIN, "POST", "/photos?delete", body, **head)
        await by(ask, ALT, "PUT", "/photos/x", b"x")
        unknown = AccessKey("FL" + "Z" * 18, "gone", "s" * 40, ())
        assert (await by(ask, unknown, "GET", "/photos/x")).code == "InvalidAccessKeyId"
    text = "\n".join(audited.messages)
    for line in (
        "who=key:main peer=client:1 action=bucket:create call=s3.CreateBucket on='photos' allowed=yes status=200",
        "call=s3.PutObject on='photos/open/a' allowed=yes status=200",
        "action=bucket:configure call=s3.PutBucketAcl on='photos' allowed=yes status=200",
        "call=s3.DeleteObjects on='photos' allowed=yes status=200",
        "who=key:alt",
        "allowed=no status=403 reason=Forbidden lacking='write:photos/x'",
        "who=unproved peer=client:1 action=object:read call=s3.GetObject on='/photos/x' allowed=no status=403 "
        "reason=InvalidAccessKeyId",
        f"key={'FL' + 'Z' * 18}",
    ):
        assert line in text
