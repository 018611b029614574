"""Callers that sign with an access key, in turns and in tasks: what they may do, and what is refused."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio
import trio.testing

from flared.access.keys import API_AUDIENCE, Keyring, authorization, node_token
from flared.access.signing import CHUNKS_IN_TRAILER, IN_TRAILER, UNSIGNED, ShareLink, link_query
from flared.catalog.once import FORGOTTEN_AT_ONCE, claim, forget_expired, make_once
from flared.chunks.budget import MemoryBudget
from flared.errors import Replayed
from flared.http.messages import encode_fields
from flared.http.pool import Pool, PoolSettings
from flared.http.server import InTurns, Server
from flared.meta import keys
from flared.meta.memory import MemoryKV
from tests.support.cluster import Cluster
from tests.support.entry import make_entry
from tests.support.memory_net import MemoryNetwork
from tests.support.signing import KEY_ID, KEY_SECRET, chunk_trailer_of, make_key, signed, trailer_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from flared.api.entry import Entry
    from flared.http.stream import Buffer

Clock = trio.testing.MockClock
SECRET = b"the cluster's secret"
PROOF = {"authorization": authorization(node_token(SECRET, API_AUDIENCE))}
PATH = "/bucket/default/object/a"
LARGE = bytes(range(256)) * 1024
"""Too large for a turn."""


class Served(NamedTuple):
    pool: Pool
    cluster: Cluster
    entry: Entry

    def now(self) -> float:
        return self.cluster.store.now()

    async def call(
        self, method: str, target: str, body: object = b"", fields: Mapping[str, str] | None = None
    ) -> tuple[int, object]:
        """Return the status, and the content or the code of the error."""
        lines = encode_fields(list((fields or {}).items()))
        sent = (body,) if isinstance(body, bytes) else body
        async with self.pool.request(method, target, lines, sent) as response:  # type: ignore[arg-type]  # as it comes
            content = await response.body.read_all(1 << 22)
        if response.status >= 400 and content:
            return response.status, json.loads(content)["error"]["code"]
        return response.status, content

    async def signed(
        self, method: str, target: str, body: bytes = b"", fields: Mapping[str, str] | None = None, **how: object
    ) -> tuple[int, object]:
        head = signed(method, target, body, fields, now=self.now(), **how)  # type: ignore[arg-type]  # its own
        return await self.call(method, target, body, head)


@asynccontextmanager
async def serving(*grants: str, in_turns: bool = True, expires_ms: int = 0) -> AsyncIterator[Served]:
    cluster = Cluster()
    await make_key(cluster.store.kv, SECRET, *grants, expires_ms=expires_ms)
    entry = make_entry(cluster, Keyring([SECRET]))
    network = MemoryNetwork()
    network.host = "10.0.0.9"
    turns = InTurns(cluster.turns, entry, MemoryBudget(1 << 20)) if in_turns else None
    async with cluster.running(), trio.open_nursery() as nursery:
        await nursery.start(Server(entry.answer, in_turns=turns).serve, [network.listen("api:8000")])
        yield Served(Pool("api:8000", PoolSettings(), network.connect), cluster, entry)
        nursery.cancel_scope.cancel()


class Chunks:
    """A body of unknown length, with fields behind its end."""

    length = None

    def __init__(self, parts: Sequence[bytes], trailer: Mapping[str, str]) -> None:
        self._parts = list(parts)
        self._trailer = trailer

    async def next(self) -> Buffer | None:
        return self._parts.pop(0) if self._parts else None

    def trailer(self) -> Sequence[tuple[str, str]]:
        return list(self._trailer.items())


@pytest.mark.parametrize("in_turns", [True, False])
@pytest.mark.parametrize("nonce", ["", "n" * 32])
async def test_signed_calls_do_what_the_key_may(autojump_clock: Clock, in_turns: bool, nonce: str) -> None:
    async with serving("write:default", "read:default", "delete:default/a", in_turns=in_turns) as api:
        assert (await api.signed("PUT", PATH, b"small", nonce=nonce))[0] == 201
        assert await api.signed("GET", PATH, nonce=nonce) == (200, b"small")
        assert await api.signed("GET", PATH, fields={"range": "bytes=1-2"}, nonce=nonce) == (206, b"ma")
        assert await api.signed("HEAD", PATH, nonce=nonce) == (200, b"")
        assert await api.signed("GET", PATH, payload=UNSIGNED, nonce="") == (200, b"small")
        assert (await api.signed("PUT", PATH + "b", LARGE, nonce=nonce))[0] == 201
        assert await api.signed("GET", PATH + "b", nonce=nonce) == (200, LARGE)
        assert await api.signed("GET", "/bucket/default", nonce=nonce) == (403, "Forbidden")
        assert await api.signed("GET", "/status", nonce=nonce) == (403, "Forbidden")
        assert await api.signed("DELETE", "/bucket/default/object/b", nonce=nonce) == (403, "Forbidden")
        assert (await api.signed("DELETE", PATH, nonce=nonce))[0] == 204
        assert await api.signed("GET", PATH, nonce=nonce) == (404, "NoSuchObject")


async def test_an_admin_key_may_see_the_cluster(autojump_clock: Clock) -> None:
    async with serving("admin") as api:
        assert (await api.signed("GET", "/status"))[0] == 200
        assert (await api.signed("PUT", "/bucket/photos", b'{"scheme":"replica:2"}'))[0] == 201


@pytest.mark.parametrize("body", [b"small", LARGE])
@pytest.mark.parametrize("nonce", ["", "n" * 32])
async def test_a_body_that_was_not_signed_leaves_nothing(autojump_clock: Clock, body: bytes, nonce: str) -> None:
    async with serving("admin") as api:
        head = signed("PUT", PATH, b"another body", now=api.now(), nonce=nonce)
        assert await api.call("PUT", PATH, body, head) == (400, "BadDigest")
        assert await api.call("PUT", PATH, Chunks([body], {}), head) == (400, "BadDigest")
        assert await api.signed("GET", PATH) == (404, "NoSuchObject")
        head = signed("PUT", "/bucket/photos", b"another body", now=api.now(), nonce=nonce)
        assert await api.call("PUT", "/bucket/photos", b"{}", head) == (400, "BadDigest")
        assert b"photos" not in (await api.signed("GET", "/bucket"))[1]  # type: ignore[operator]  # bytes


async def test_an_empty_body_must_be_signed_as_one(autojump_clock: Clock) -> None:
    async with serving("admin") as api:
        head = signed("PUT", PATH, b"another body", now=api.now())
        assert await api.call("PUT", PATH, b"", head) == (400, "BadDigest")
        assert await api.call("GET", PATH, b"", signed("GET", PATH, b"x", now=api.now())) == (400, "BadDigest")


async def test_a_body_takes_a_digest(autojump_clock: Clock) -> None:
    async with serving("admin") as api:
        for body in (b"small", LARGE, Chunks([LARGE], {})):
            head = signed("PUT", PATH, now=api.now(), nonce="", payload=UNSIGNED)
            assert await api.call("PUT", PATH, body, head) == (401, "BadSignature")
        assert await api.signed("GET", PATH) == (404, "NoSuchObject")


@pytest.mark.parametrize("parts", [[b"small"], [LARGE], [LARGE] * 5, []])
async def test_a_digest_may_follow_the_body(autojump_clock: Clock, parts: list[bytes]) -> None:
    async with serving("admin") as api:
        head = signed("PUT", PATH, now=api.now(), payload=IN_TRAILER)
        trailer = trailer_of(head, b"".join(parts))
        assert (await api.call("PUT", PATH, Chunks(parts, trailer), head))[0] == 201
        assert await api.signed("GET", PATH) == (200, b"".join(parts))


@pytest.mark.parametrize("parts", [[b"small"], [LARGE], [LARGE] * 5, [], [LARGE, b"x"]])
async def test_a_body_may_be_signed_by_the_digests_of_its_chunks(autojump_clock: Clock, parts: list[bytes]) -> None:
    async with serving("admin") as api:
        body, chunk_size, path, number = b"".join(parts), 1 << 20, "/bucket/photos/object/a", 0
        await api.signed("PUT", "/bucket/photos", b'{"chunk_size":%d}' % chunk_size)

        async def put(trailer: Callable[[Mapping[str, str]], Mapping[str, str]]) -> tuple[int, object]:
            nonlocal number
            number += 1
            head = signed("PUT", path, now=api.now(), payload=CHUNKS_IN_TRAILER, nonce=f"{number:032d}")
            return await api.call("PUT", path, Chunks(parts, trailer(head)), head)

        whole = sha256(body).hexdigest()
        wrongs: list[Callable[[Mapping[str, str]], Mapping[str, str]]] = [
            lambda head: {},
            lambda head: chunk_trailer_of(head, body + b"x", chunk_size),
            lambda head: trailer_of({**head, "x-fs-content-sha256": IN_TRAILER}, body),
            lambda head: chunk_trailer_of(head, body, chunk_size) | {"x-fs-content-sha256": whole},
        ]
        for wrong in wrongs if body else wrongs[:-1]:  # of no chunks and of no bytes it is the same
            assert await put(wrong) == (400, "BadDigest")
        if len(body) > chunk_size:
            assert await put(lambda head: chunk_trailer_of(head, body, chunk_size // 2)) == (400, "BadDigest")
        assert await api.signed("GET", path) == (404, "NoSuchObject")
        assert (await put(lambda head: chunk_trailer_of(head, body, chunk_size)))[0] == 201
        assert await api.signed("GET", path) == (200, body)


async def test_other_bodies_than_objects_are_not_signed_by_chunks(autojump_clock: Clock) -> None:
    async with serving("admin") as api:
        settings = b'{"scheme":"replica:2"}'
        head = signed("PUT", "/bucket/photos", now=api.now(), payload=CHUNKS_IN_TRAILER)
        trailer = chunk_trailer_of(head, settings, 1 << 20)
        assert await api.call("PUT", "/bucket/photos", Chunks([settings], trailer), head) == (401, "BadSignature")
        head = signed("PUT", PATH, now=api.now(), payload=CHUNKS_IN_TRAILER)
        assert await api.call("PUT", PATH, b"small", head) == (401, "BadSignature")


@pytest.mark.parametrize("parts", [[b"small"], [LARGE] * 5, []])
async def test_a_trailer_that_is_wrong_leaves_nothing(autojump_clock: Clock, parts: list[bytes]) -> None:
    async with serving("admin") as api:
        head = signed("PUT", PATH, now=api.now(), payload=IN_TRAILER)
        other = signed("PUT", PATH, now=api.now(), payload=IN_TRAILER, nonce="m" * 32)
        right = trailer_of(head, b"".join(parts))
        wrongs: list[dict[str, str]] = [
            {},
            trailer_of(head, b"another body"),
            trailer_of(other, b"".join(parts)),
            trailer_of(head, b"".join(parts), secret="t" * 40),
            right | {"x-fs-content-sha256": "0" * 64},
        ]
        for number, wrong in enumerate(wrongs):
            head = signed("PUT", PATH, now=api.now(), payload=IN_TRAILER, nonce=f"{number:032d}")
            if wrong == right:
                continue
            assert await api.call("PUT", PATH, Chunks(parts, wrong), head) == (400, "BadDigest")
        assert await api.call("PUT", PATH, b"".join(parts) or b"x", head) == (401, "BadSignature")
        assert await api.signed("GET", PATH) == (404, "NoSuchObject")


@pytest.mark.parametrize("in_turns", [True, False])
@pytest.mark.parametrize("nonce", ["", "n" * 32])
@pytest.mark.parametrize("body", [b"small", LARGE])
async def test_a_write_is_carried_out_once(autojump_clock: Clock, in_turns: bool, nonce: str, body: bytes) -> None:
    async with serving("admin", in_turns=in_turns) as api:
        head = signed("PUT", PATH, body, now=api.now(), nonce=nonce)
        assert (await api.call("PUT", PATH, body, head))[0] == 201
        assert await api.call("PUT", PATH, body, head) == (403, "Replayed")
        gone = signed("DELETE", PATH, now=api.now(), nonce=nonce)
        assert (await api.call("DELETE", PATH, b"", gone))[0] == 204
        assert await api.call("PUT", PATH, body, head) == (403, "Replayed")
        assert await api.call("DELETE", PATH, b"", gone) == (403, "Replayed")
        assert api.entry.counts.describe()["refused"] == {"Replayed": 3}
        assert await api.signed("GET", PATH) == (404, "NoSuchObject")


async def test_one_of_two_at_once_is_carried_out(autojump_clock: Clock) -> None:
    async with serving("admin") as api:
        head = signed("PUT", PATH, b"small", now=api.now())
        found: list[tuple[int, object]] = []

        async def put() -> None:
            found.append(await api.call("PUT", PATH, b"small", head))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(put)
        assert sorted(status for status, _ in found) == [201, 403, 403, 403, 403]


async def test_reads_may_be_repeated(autojump_clock: Clock) -> None:
    async with serving("admin") as api:
        await api.signed("PUT", PATH, b"small")
        head = signed("GET", PATH, now=api.now())
        assert await api.call("GET", PATH, b"", head) == await api.call("GET", PATH, b"", head) == (200, b"small")


async def test_a_write_that_was_refused_may_be_sent_again(autojump_clock: Clock) -> None:
    async with serving("admin") as api:
        head = signed("PUT", "/bucket/late/object/a", b"small", now=api.now())
        assert await api.call("PUT", "/bucket/late/object/a", b"small", head) == (404, "NoSuchBucket")
        await api.signed("PUT", "/bucket/late")
        assert (await api.call("PUT", "/bucket/late/object/a", b"small", head))[0] == 201


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"key_id": "FLAAAAAAAAAAAAAAAAAA"}, "BadSignature"),
        ({"key_id": "x"}, "BadSignature"),
        ({"secret": "t" * 40}, "BadSignature"),
        ({"host": "other:8000"}, "BadSignature"),
        ({"nonce": "short"}, "BadSignature"),
        ({"payload": "x"}, "BadSignature"),
    ],
)
async def test_what_is_not_signed_right_is_refused(autojump_clock: Clock, change: dict[str, str], code: str) -> None:
    async with serving("admin") as api:
        for target in (PATH, "/nowhere", "/status", "/bucket/No/object/a"):
            assert await api.signed("PUT", target, b"small", **change) == (401, code)


async def test_a_clock_that_differs_is_named(autojump_clock: Clock) -> None:
    async with serving("admin") as api:
        for seconds in (-301, 302):
            head = signed("PUT", PATH, b"small", now=api.now() + seconds)
            assert await api.call("PUT", PATH, b"small", head) == (401, "ClockSkewed")
        head = signed("PUT", PATH, b"small", now=api.now() - 299)
        assert (await api.call("PUT", PATH, b"small", head))[0] == 201


async def test_a_signature_and_the_secret_of_the_cluster_do_not_go_together(autojump_clock: Clock) -> None:
    async with serving("admin") as api:
        assert await api.signed("GET", PATH, fields=PROOF) == (400, "BadRequest")


async def test_a_key_that_has_expired_opens_nothing(autojump_clock: Clock) -> None:
    async with serving("admin", expires_ms=1) as api:
        assert await api.signed("GET", PATH) == (401, "BadSignature")
        query = link_query(KEY_SECRET, ShareLink(KEY_ID, int(api.now()) + 60, "GET"), PATH)
        assert await api.call("GET", f"{PATH}?{query}") == (401, "BadSignature")


async def test_a_copy_takes_a_signature_that_covers_its_source(autojump_clock: Clock) -> None:
    async with serving("admin") as api:
        await api.signed("PUT", PATH, b"small")
        source = {"x-flare-copy-source": PATH}
        assert (await api.signed("PUT", PATH + "copy", fields=source))[0] == 201
        assert await api.signed("PUT", PATH + "2", fields=source, nonce="") == (401, "BadSignature")
        query = link_query(KEY_SECRET, ShareLink(KEY_ID, int(api.now()) + 60, "PUT"), PATH + "3")
        assert await api.call("PUT", f"{PATH}3?{query}", b"", source) == (401, "BadSignature")


async def test_a_copy_takes_a_grant_to_read_its_source(autojump_clock: Clock) -> None:
    async with serving("write:default", "read:default/public/") as api:
        await api.signed("PUT", PATH, b"small")
        await api.signed("PUT", "/bucket/default/object/public/a", b"small")
        source = {"x-flare-copy-source": "/bucket/default/object/public/a"}
        assert (await api.signed("PUT", PATH + "2", fields=source))[0] == 201
        assert await api.signed("PUT", PATH + "3", fields={"x-flare-copy-source": PATH}) == (403, "Forbidden")


async def test_a_listing_takes_a_grant_for_its_prefix(autojump_clock: Clock) -> None:
    async with serving("list:default/logs/") as api:
        for query in ("prefix=logs/", "prefix=logs%2F2026&limit=1", "limit=1&prefix=logs/a"):
            assert (await api.signed("GET", f"/bucket/default?{query}"))[0] == 200
        for query in ("prefix=log", "prefix=", "limit=1", "prefix=logs/&prefix=", "after=logs/"):
            assert await api.signed("GET", f"/bucket/default?{query}") == (403, "Forbidden")


async def test_a_key_sees_the_buckets_it_may_use(autojump_clock: Clock) -> None:
    async with serving("read:photos") as api:
        for bucket in ("photos", "secrets"):
            assert (await api.call("PUT", f"/bucket/{bucket}", fields=PROOF))[0] == 201
        _, content = await api.signed("GET", "/bucket")
        assert isinstance(content, bytes)
        assert [bucket["name"] for bucket in json.loads(content)["buckets"]] == ["photos"]


async def test_links_open_one_object_for_a_while(autojump_clock: Clock) -> None:
    async with serving("read:default", "write:default") as api:
        put = link_query(KEY_SECRET, ShareLink(KEY_ID, int(api.now()) + 60, "PUT"), PATH)
        get = link_query(KEY_SECRET, ShareLink(KEY_ID, int(api.now()) + 60, "GET"), PATH)
        assert (await api.call("PUT", f"{PATH}?{put}", b"by a link"))[0] == 201
        assert (await api.call("PUT", f"{PATH}?{put}", b"once more"))[0] == 200
        assert await api.call("GET", f"{PATH}?{get}") == (200, b"once more")
        assert await api.call("GET", f"{PATH}?{get}", b"", {"range": "bytes=0-3"}) == (206, b"once")
        assert await api.call("HEAD", f"{PATH}?{get}") == (200, b"")
        assert await api.call("DELETE", f"{PATH}?{put}") == (401, "BadSignature")
        assert await api.call("GET", f"{PATH}?{put}") == (401, "BadSignature")
        assert await api.call("GET", f"{PATH}b?{get}") == (401, "BadSignature")
        assert await api.call("GET", f"{PATH}?{get}&chunks") == (401, "BadSignature")
        await trio.sleep(61)
        assert await api.call("GET", f"{PATH}?{get}") == (401, "BadSignature")


async def test_a_link_may_no_more_than_its_key(autojump_clock: Clock) -> None:
    async with serving("read:default/public/") as api:
        query = link_query(KEY_SECRET, ShareLink(KEY_ID, int(api.now()) + 60, "GET"), PATH)
        assert await api.call("GET", f"{PATH}?{query}") == (403, "Forbidden")


async def test_a_page_of_another_site_may_use_a_link(autojump_clock: Clock) -> None:
    async with serving("read:default", "write:default") as api:
        page = {"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"}
        query = link_query(KEY_SECRET, ShareLink(KEY_ID, int(api.now()) + 60, "PUT"), PATH)
        assert (await api.call("PUT", f"{PATH}?{query}", b"x", page))[0] == 201


async def test_a_page_of_another_site_may_read_the_answer_to_a_link_only(autojump_clock: Clock) -> None:
    async with serving("read:default", "write:default") as api:
        page = {"origin": "https://elsewhere.example"}

        async def lines_of(method: str, target: str, fields: Mapping[str, str] = page) -> tuple[int, dict[str, str]]:
            async with api.pool.request(method, target, encode_fields(list(fields.items()))) as response:
                await response.body.read_all(1 << 16)
                found = {name: value for name, value in response.fields.items() if name.startswith("access-control")}
                return response.status, found

        def link(method: str) -> str:
            return f"{PATH}?{link_query(KEY_SECRET, ShareLink(KEY_ID, int(api.now()) + 60, method), PATH)}"

        await api.signed("PUT", PATH, b"small")
        for target, status in ((link("GET"), 200), (link("GET")[:-1] + "0", 401)):
            found, lines = await lines_of("GET", target)
            assert (found, lines["access-control-allow-origin"]) == (status, "*")
        for method, allowed in (("PUT", "PUT"), ("GET", "GET, HEAD")):
            status, lines = await lines_of("OPTIONS", link(method), page | {"access-control-request-method": method})
            assert (status, lines["access-control-allow-methods"]) == (204, allowed)
        assert await lines_of("GET", link("GET"), {}) == (200, {})
        signed_call = signed("GET", PATH, now=api.now(), fields=page)
        others = [("GET", PATH, signed_call), ("GET", PATH, page), ("OPTIONS", PATH, page)]
        for method, target, fields in (*others, ("OPTIONS", f"{PATH}?chunks", page)):
            assert not (await lines_of(method, target, fields))[1]


async def test_the_sweep_forgets_what_is_too_old_to_come_again(autojump_clock: Clock) -> None:
    async with serving("admin") as api:
        head = signed("PUT", PATH, b"small", now=api.now())
        await api.call("PUT", PATH, b"small", head)
        await trio.sleep(290)
        assert await api.call("PUT", PATH, b"small", head) == (403, "Replayed")
        await trio.sleep(1800)
        assert not await api.cluster.store.kv.scan(*keys.under(b"signed/"), 9)
        assert await api.call("PUT", PATH, b"small", head) == (401, "ClockSkewed")


async def test_what_was_carried_out_is_forgotten_when_it_has_expired() -> None:
    kv = MemoryKV()
    old, young = make_once("a" * 64, 1000), make_once("b" * 64, 2000)
    for once in (old, young):
        await claim(kv, once)
        with pytest.raises(Replayed):
            await claim(kv, once)
    assert not await forget_expired(kv, 999)
    assert not await forget_expired(kv, 1000)
    await claim(kv, old)
    with pytest.raises(Replayed):
        await claim(kv, young)
    for number in range(FORGOTTEN_AT_ONCE):
        await claim(kv, make_once(f"{number:064d}"[::-1], 3000))
    assert await forget_expired(kv, 9000)
    assert not await forget_expired(kv, 9000)
    assert not await kv.scan(b"", b"\xff", 1)
