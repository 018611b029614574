"""Both ways in give the same answers, and the plain small calls take the short one."""

from __future__ import annotations

import base64
from hashlib import md5

import pytest
import trio.testing

from flared.objects.crc import CRC32, updating
from tests.support.s3 import MAIN, Asker, sign_request, speaking_s3

Clock = trio.testing.MockClock

CRC = {"x-amz-checksum-crc32": base64.b64encode(updating(CRC32)(b"first", 0).to_bytes(4, "big")).decode()}
ENABLED = {"x-amz-checksum-mode": "ENABLED"}
TAG = f'"{md5(b"first").hexdigest()}"'

QUICK: list[tuple[str, str, bytes, dict[str, str]]] = [
    ("PUT", "/main/a", b"first", {"x-amz-meta-colour": "blue", "content-type": "text/x", "cache-control": "no-cache"}),
    ("GET", "/main/a", b"", {}),
    ("HEAD", "/main/a", b"", {}),
    ("PUT", "/main/a", b"first", CRC),
    ("GET", "/main/a", b"", ENABLED),
    ("PUT", "/main/a", b"other", CRC),
    ("PUT", "/main/a", b"second", {"if-none-match": "*"}),
    ("PUT", "/main/a", b"second", {"if-match": TAG}),
    ("PUT", "/main/a", b"second", {"content-md5": "x"}),
    ("PUT", "/main/a", b"second", {"content-md5": base64.b64encode(b"0" * 16).decode()}),
    ("PUT", "/main/a", b"x", {"x-amz-storage-class": "GLACIER"}),
    ("PUT", "/main/a", b"x", {"x-amz-server-side-encryption": "AES256"}),
    ("PUT", "/main/a", b"x", {"x-amz-meta-long": "x" * 3000}),
    ("PUT", "/main/" + "k" * 1025, b"x", {}),
    ("PUT", "/missing/a", b"x", {}),
    ("GET", "/main/none", b"", {}),
    ("GET", "/missing/none", b"", {}),
    ("HEAD", "/main/none", b"", {}),
    ("DELETE", "/main/a", b"", {"if-match": '"other"'}),
    ("DELETE", "/main/a", b"", {}),
    ("DELETE", "/main/a", b"", {}),
]
GENERAL: list[tuple[str, str, bytes, dict[str, str]]] = [
    ("PUT", "/main/a", b"first", {}),
    ("GET", "/main/a", b"", {"range": "bytes=1-2"}),
    ("GET", "/main/a", b"", {"if-none-match": TAG}),
    ("GET", "/main/a", b"", {"origin": "http://page.example"}),
    ("HEAD", "/main/a?response-expires=1", b"", {}),
    ("PUT", "/main/empty", b"", {}),
    ("GET", "/main/empty", b"", {}),
    ("PUT", "/main/b", b"", {"x-amz-copy-source": "/main/a"}),
    ("GET", "/main", b"", {}),
]


async def answers(asker: Asker, calls: list[tuple[str, str, bytes, dict[str, str]]]) -> list[object]:
    """Every answer, without what two requests cannot have in common."""
    found: list[object] = []
    for method, target, body, fields in calls:
        head = sign_request(MAIN, asker.cluster.store.now(), method, target, body, fields)
        answer = await asker(method, target, body, head)
        own = ("x-amz-request-id", "date", "last-modified", "content-length")
        shown = {name: value for name, value in answer.fields.items() if name not in own}
        content: object = answer.body
        if answer.fields.get("content-type") == "application/xml" and answer.body:
            root = answer.body.decode().partition("<Error>")
            content = answer.code if root[1] else len(answer.body)
        found.append((method, target, answer.status, shown, content))
    return found


@pytest.mark.parametrize("calls", [QUICK, GENERAL])
async def test_both_ways_give_the_same_answers(
    autojump_clock: Clock, calls: list[tuple[str, str, bytes, dict[str, str]]]
) -> None:
    ways = []
    for in_turns in (True, False):
        async with speaking_s3(anonymous="none", in_turns=in_turns) as asker:
            await answers(asker, [("PUT", "/main", b"", {})])
            before = asker.server.statistics().handed_over
            ways.append(await answers(asker, calls))
            handed_over = asker.server.statistics().handed_over - before
            counted = {
                (sample.labels[1], sample.labels[2])
                for metric in asker.entry.counts.metrics()
                if metric.name == "flare_calls_total"
                for sample in metric.samples
            }
            assert ("PutObject", "200") in counted
            assert ("GetObject", "404" if calls is QUICK else "206") in counted
            if in_turns:
                # Two of GENERAL are plain ones: the first put, and the get of what is empty.
                assert handed_over == (0 if calls is QUICK else len(calls) - 2)
    assert ways[0] == ways[1]
