"""Requests that are signed, through the S3 face on a cluster in memory."""

from __future__ import annotations

import base64
from dataclasses import replace
from hashlib import md5

import pytest
import trio.testing

from flared.access.aws_chunks import SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER, ChunkSeal
from flared.access.sigv4 import UNSIGNED_PAYLOAD
from flared.access.sigv4_canonical import signing_key
from flared.objects.crc import CRC32, updating
from tests.support.s3 import ALT, MAIN, Answer, Asker, pack_chunks, sign_request, speaking_s3

Clock = trio.testing.MockClock

BODY = b"some bytes" * 1000


async def ask(
    asker: Asker, method: str, target: str, body: bytes = b"", fields: dict[str, str] | None = None, **options: object
) -> Answer:
    key = options.pop("key", MAIN)
    head = sign_request(key, asker.cluster.store.now(), method, target, body, fields, **options)  # type: ignore[arg-type]
    return await asker(method, target, body, head)


async def put_chunks(
    asker: Asker, target: str, parts: list[bytes], kind: str, trailers: dict[str, str], *, altered: bool = False
) -> Answer:
    """Put a body in chunks; ``altered``: its last byte but one was changed on the way."""
    now = asker.cluster.store.now()
    fields = {"x-amz-decoded-content-length": str(sum(map(len, parts))), "content-encoding": "aws-chunked,gzip"}
    if trailers:
        fields["x-amz-trailer"] = ",".join(trailers)
    head = sign_request(MAIN, now, "PUT", target, b"", fields, payload=kind)
    seal = None
    if kind != UNSIGNED_TRAILER:
        time, seed = head["x-amz-date"], head["authorization"].rpartition("=")[2]
        derived = signing_key(MAIN.secret, time[:8], "us-east-1")
        seal = ChunkSeal(derived, time, f"{time[:8]}/us-east-1/s3/aws4_request", seed)
    body = pack_chunks(parts, trailers, seal)
    if altered:
        body = body.replace(b"some", b"Some", 1)
    return await asker("PUT", target, body, head)


def crc32(body: bytes) -> str:
    return base64.b64encode(updating(CRC32)(body, 0).to_bytes(4, "big")).decode()


async def test_what_is_put_comes_back(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as asker:
        assert (await ask(asker, "PUT", "/main")).status == 200
        for payload in ("", UNSIGNED_PAYLOAD):
            put = await ask(asker, "PUT", "/main/a%20b", BODY, {"x-amz-meta-colour": "blue"}, payload=payload)
            assert (put.status, put.fields["etag"]) == (200, f'"{md5(BODY).hexdigest()}"')
            got = await ask(asker, "GET", "/main/a%20b")
            assert (got.status, got.body, got.fields["x-amz-meta-colour"]) == (200, BODY, "blue")
        assert (await ask(asker, "HEAD", "/main/a%20b")).fields["content-length"] == str(len(BODY))
        assert (await ask(asker, "DELETE", "/main/a%20b")).status == 204
        assert (await ask(asker, "GET", "/main/a%20b")).code == "NoSuchKey"


async def test_a_body_that_is_not_the_signed_one_leaves_nothing(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as asker:
        await ask(asker, "PUT", "/main")
        for size in (1, 40_000, 600_000):
            body = b"x" * size
            head = sign_request(MAIN, asker.cluster.store.now(), "PUT", "/main/a", body)
            assert (await asker("PUT", "/main/a", b"y" + body[1:], head)).code == "XAmzContentSHA256Mismatch"
            assert (await ask(asker, "GET", "/main/a")).code == "NoSuchKey"
        head = sign_request(MAIN, asker.cluster.store.now(), "PUT", "/main/a", b"x")
        assert (await asker("PUT", "/main/a", b"", head)).code == "XAmzContentSHA256Mismatch"
        wrong = {"content-md5": base64.b64encode(b"0" * 16).decode()}
        assert (await ask(asker, "PUT", "/main/a", b"x", wrong)).code == "BadDigest"
        assert (await ask(asker, "PUT", "/main/a", b"x", {"content-md5": "x"})).code == "InvalidDigest"
        assert (await ask(asker, "PUT", "/main/a", b"x", {"x-amz-checksum-crc32": crc32(b"y")})).code == "BadDigest"
        assert (await ask(asker, "PUT", "/main/a", b"x", {"x-amz-checksum-crc32": "x"})).code == "InvalidRequest"
        assert (await ask(asker, "GET", "/main/a")).code == "NoSuchKey"


@pytest.mark.parametrize(
    ("kind", "trailers"),
    [
        (SIGNED, {}),
        (SIGNED_TRAILER, {"x-amz-checksum-crc32": crc32(BODY)}),
        (UNSIGNED_TRAILER, {"x-amz-checksum-crc32": crc32(BODY)}),
        (UNSIGNED_TRAILER, {}),
    ],
)
async def test_bodies_in_chunks(autojump_clock: Clock, kind: str, trailers: dict[str, str]) -> None:
    async with speaking_s3(anonymous="none") as asker:
        await ask(asker, "PUT", "/main")
        put = await put_chunks(asker, "/main/a", [BODY[:8192], BODY[8192:]], kind, trailers)
        assert (put.status, put.fields["etag"]) == (200, f'"{md5(BODY).hexdigest()}"')
        got = await ask(asker, "GET", "/main/a", fields={"x-amz-checksum-mode": "ENABLED"})
        assert (got.body, got.fields["content-encoding"]) == (BODY, "gzip")
        assert got.fields.get("x-amz-checksum-crc32", "") == trailers.get("x-amz-checksum-crc32", "")
        if kind != UNSIGNED_TRAILER or trailers:
            broken = await put_chunks(asker, "/main/b", [BODY[:8192], BODY[8192:]], kind, trailers, altered=True)
            assert broken.code == ("BadDigest" if kind == UNSIGNED_TRAILER else "SignatureDoesNotMatch")
            assert (await ask(asker, "GET", "/main/b")).code == "NoSuchKey"


async def test_a_checksum_that_was_announced_has_to_come(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as asker:
        await ask(asker, "PUT", "/main")
        fields = {"x-amz-decoded-content-length": "1", "x-amz-trailer": "x-amz-checksum-crc32"}
        head = sign_request(MAIN, asker.cluster.store.now(), "PUT", "/main/a", b"", fields, payload=UNSIGNED_TRAILER)
        assert (await asker("PUT", "/main/a", pack_chunks([b"x"], {}, None), head)).code == "MalformedTrailerError"
        del fields["x-amz-decoded-content-length"]
        head = sign_request(MAIN, asker.cluster.store.now(), "PUT", "/main/a", b"", fields, payload=UNSIGNED_TRAILER)
        assert (await asker("PUT", "/main/a", pack_chunks([b"x"], {}, None), head)).code == "MissingContentLength"


async def test_who_signs_is_known(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as asker:
        await ask(asker, "PUT", "/main")
        unknown = replace(ALT, id="FLNONE00000000000000")
        assert (await ask(asker, "GET", "/main", key=unknown)).code == "InvalidAccessKeyId"
        other = replace(MAIN, secret="another secret of the same length, 40 ch")
        assert (await ask(asker, "GET", "/main", key=other)).code == "SignatureDoesNotMatch"
        assert (await ask(asker, "GET", "/main", key=ALT)).code == "AccessDenied"
        assert (await asker("GET", "/main")).code == "AccessDenied"
        late = sign_request(MAIN, asker.cluster.store.now() - 1000, "GET", "/main")
        answer = await asker("GET", "/main", b"", late)
        assert answer.code == "RequestTimeTooSkewed"
        assert answer.xml("Error").text_of("ServerTime")
        assert (await ask(asker, "GET", "/main", payload="x")).code == "InvalidArgument"


async def test_grants_hold_for_every_object_that_a_call_touches(autojump_clock: Clock) -> None:
    async with speaking_s3(anonymous="none") as asker:
        for name in ("/main", "/other"):
            await ask(asker, "PUT", name)
        for key in ("/main/shared/a", "/main/secret/a"):
            await ask(asker, "PUT", key, b"x")
        assert (await ask(asker, "PUT", "/alt-one", key=ALT)).status == 200
        assert (await ask(asker, "PUT", "/main", key=ALT)).code == "AccessDenied"
        assert (await ask(asker, "GET", "/main/shared/a", key=ALT)).body == b"x"
        assert (await ask(asker, "GET", "/main/secret/a", key=ALT)).code == "AccessDenied"
        for source, code in (("shared", 200), ("secret", 403)):
            fields = {"x-amz-copy-source": f"/main/{source}/a"}
            assert (await ask(asker, "PUT", "/alt-one/copy", b"", fields, key=ALT)).status == code
        body = b"<Delete><Object><Key>shared/a</Key></Object></Delete>"
        digest = {"content-md5": base64.b64encode(md5(body).digest()).decode()}
        answer = await ask(asker, "POST", "/main?delete", body, digest, key=ALT)
        error = answer.xml("DeleteResult").find("Error")
        assert error is not None
        assert error.text_of("Code") == "AccessDenied"
        assert (await ask(asker, "GET", "/main/shared/a")).status == 200
        listed = (await ask(asker, "GET", "/", key=ALT)).xml("ListAllMyBucketsResult").find("Buckets")
        assert listed is not None
        assert [one.text_of("Name") for one in listed.children] == ["alt-one", "main"]
