"""The faces over real HTTP and real verbs, with network, metadata and data nodes in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import trio
import trio.testing

from flared.access.keys import API_AUDIENCE, Keyring, authorization, node_token
from flared.api.errors import status_of
from flared.catalog.bucket_documents import Kind
from flared.data.mark import SeenMark, parse_mark
from flared.errors import FlareError
from flared.http.messages import encode_fields
from flared.http.pool import Pool, PoolSettings
from flared.http.server import Server
from flared.meta import keys
from flared.names import BucketName
from flared.objects.bucket_documents import put_document
from flared.upkeep.deletion import brake
from tests.support.cluster import CHUNK, GRACE, REPAIR_AFTER, Cluster
from tests.support.entry import make_entry
from tests.support.memory_net import MemoryNetwork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flared.names import NodeName
    from flared.upkeep.removal.cost import RemovalCost

Clock = trio.testing.MockClock
KEYRING = Keyring([b"the cluster's secret"])
TOKEN = node_token(KEYRING.secrets[0], API_AUDIENCE)


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes
    json: dict[str, object] = field(default_factory=dict)

    @property
    def code(self) -> object:
        error = self.json["error"]
        assert isinstance(error, dict)
        assert error["message"]
        assert error["request_id"]
        return error["code"]


class Caller:
    def __init__(self, pool: Pool, cluster: Cluster) -> None:
        self._pool = pool
        self.cluster = cluster

    async def __call__(
        self, method: str, target: str, body: bytes = b"", fields: dict[str, str] | None = None
    ) -> Answer:
        lines = encode_fields(list((fields or {}).items()))
        async with self._pool.request(method, target, lines, (body,)) as response:
            content = await response.body.read_all(1 << 30)
            answer = Answer(response.status, dict(response.fields), content)
        if answer.fields.get("content-type") == "application/json" and content:
            answer.json = json.loads(content)
        return answer


@asynccontextmanager
async def serving(
    cluster: Cluster | None = None, *, anonymous: str = "none", host: str = "127.0.0.1"
) -> AsyncIterator[Caller]:
    cluster = cluster or Cluster()
    entry = make_entry(cluster, KEYRING, anonymous)
    network = MemoryNetwork()
    network.host = host
    server = Server(entry.answer)
    async with cluster.running(), trio.open_nursery() as nursery:
        await nursery.start(server.serve, [network.listen("api:8000")])
        yield Caller(Pool("api:8000", PoolSettings(), network.connect), cluster)
        nursery.cancel_scope.cancel()


async def test_who_is_not_of_this_machine_needs_the_secret(autojump_clock: Clock) -> None:
    token = {"authorization": authorization(TOKEN)}
    async with serving(anonymous="read", host="10.0.0.9") as call:
        refused = await call("PUT", "/object/a", b"x")
        assert refused.status == 401
        assert refused.json["error"]["code"] == "Unauthenticated"  # type: ignore[index]
        assert "needs the secret" in str(refused.json)
        assert refused.fields["www-authenticate"] == "Flare"
        wrong = await call("PUT", "/object/a", b"x", {"authorization": authorization("f" * 64)})
        assert (wrong.status, wrong.code) == (401, "Unauthenticated")
        assert "is not this cluster's" in str(wrong.json)
        assert (await call("GET", "/object/a")).status == 404
        assert (await call("PUT", "/object/a", b"x", token)).status == 201
        assert (await call("GET", "/object/a")).body == b"x"


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 4096, CHUNK, 3 * CHUNK + 5])
async def test_what_is_put_is_got(autojump_clock: Clock, size: int) -> None:
    async with serving() as call:
        put = await call("PUT", "/object/a", noise(size), {"x-flare-meta-mtime": "1.5", "content-type": "text/x"})
        assert put.status == 201
        assert put.fields["etag"] == f'"{put.json["etag"]}"'
        assert put.json["size"] == size
        for path in ("/object/a", "/bucket/default/object/a"):
            got = await call("GET", path)
            assert (got.status, got.body) == (200, noise(size))
            head = await call("HEAD", path)
            assert (head.status, head.body, head.fields) == (200, b"", got.fields)
        assert got.fields["etag"] == put.fields["etag"]
        assert got.fields["content-length"] == str(size)
        assert got.fields["content-type"] == "text/x"
        assert got.fields["x-flare-meta-mtime"] == "1.5"
        assert got.fields["x-flare-version"] == str(put.json["version"])
        assert (await call("PUT", "/object/a", b"")).status == 200


async def test_keys_are_decoded_once_and_dots_kept(autojump_clock: Clock) -> None:
    async with serving() as call:
        for raw, key in (
            ("a+b", "a+b"),
            ("a%2Bb%20c", "a+b c"),
            ("a%252Fb", "a%2Fb"),
            ("../x/./y//z/", "../x/./y//z/"),
            ("%C3%BC", "ü"),
            ("%2F", "/"),
        ):
            assert (await call("PUT", f"/object/{raw}", key.encode())).status == 201
            assert (await call("GET", f"/object/{raw}")).body == key.encode()
            listing = await call("GET", "/object/")
            assert [entry["key"] for entry in listing.json["objects"]] == [key]  # type: ignore[attr-defined]
            assert (await call("DELETE", f"/object/{raw}")).status == 204


@pytest.mark.parametrize("raw", ["%00", "a%00", "%FF", "%C3", "%zz", "%2", "x" * 1025])
async def test_bad_keys_are_refused(autojump_clock: Clock, raw: str) -> None:
    async with serving() as call:
        assert (await call("PUT", f"/object/{raw}", b"x")).status == 400
        assert (await call("GET", f"/object/{raw}")).status == 400


async def test_ranges(autojump_clock: Clock) -> None:
    async with serving() as call:
        data = noise(2 * CHUNK + 7)
        etag = (await call("PUT", "/object/a", data)).fields["etag"]

        async def check(value: str, status: int, start: int, end: int, **fields: str) -> None:
            named = {name.replace("_", "-"): text for name, text in fields.items()}
            answer = await call("GET", "/object/a", fields={"range": value, **named})
            assert (answer.status, answer.body) == (status, data[start:end])
            if status == 206:
                assert answer.fields["content-range"] == f"bytes {start}-{end - 1}/{len(data)}"

        size = len(data)
        await check("bytes=0-0", 206, 0, 1)
        await check("bytes=0-", 206, 0, size)
        await check(f"bytes={CHUNK - 1}-{CHUNK}", 206, CHUNK - 1, CHUNK + 1)
        await check("bytes=-5", 206, size - 5, size)
        await check("bytes=5-99999999", 206, 5, size)
        await check("bytes=0-1,4-5", 200, 0, size)
        await check("bytes=0-1", 206, 0, 2, if_range=etag)
        await check("bytes=0-1", 200, 0, size, if_range='"other"')
        refused = await call("GET", "/object/a", fields={"range": f"bytes={size}-"})
        assert (refused.status, refused.code) == (416, "BadRange")
        assert refused.fields["content-range"] == f"bytes */{size}"
        assert (await call("HEAD", "/object/a", fields={"range": "bytes=0-0"})).status == 200


async def test_conditional_reads(autojump_clock: Clock) -> None:
    async with serving() as call:
        etag = (await call("PUT", "/object/a", b"x")).fields["etag"]
        date = (await call("GET", "/object/a")).fields["last-modified"]
        for method in ("GET", "HEAD"):
            for fields, status in (
                ({"if-none-match": etag}, 304),
                ({"if-none-match": f"W/{etag}"}, 304),
                ({"if-none-match": '"other"'}, 200),
                ({"if-match": etag}, 200),
                ({"if-match": '"other"'}, 412),
                ({"if-modified-since": date}, 304),
                ({"if-unmodified-since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 412),
            ):
                answer = await call(method, "/object/a", fields=fields)
                assert answer.status == status, fields
                if status == 304:
                    assert answer.fields["etag"] == etag
                    assert answer.body == b""


async def test_conditional_writes(autojump_clock: Clock) -> None:
    async with serving() as call:
        etag = (await call("PUT", "/object/a", b"1", {"if-none-match": "*"})).fields["etag"]
        assert (await call("PUT", "/object/a", b"2", {"if-none-match": "*"})).code == "PreconditionFailed"
        assert (await call("PUT", "/object/a", b"2", {"if-match": '"other"'})).status == 412
        assert (await call("DELETE", "/object/a", fields={"if-match": '"other"'})).status == 412
        assert (await call("PUT", "/object/a", b"2", {"if-match": etag})).status == 200
        assert (await call("DELETE", "/object/a")).status == 204
        assert (await call("DELETE", "/object/a")).status == 204
        assert (await call("GET", "/object/a")).code == "NoSuchObject"
        assert (await call("GET", "/bucket/missing/object/a")).code == "NoSuchBucket"


async def test_promised_digests_are_kept(autojump_clock: Clock) -> None:
    async with serving() as call:
        data = noise(CHUNK + 1)
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        good = {"content-md5": md5, "x-flare-content-sha256": hashlib.sha256(data).hexdigest()}
        assert (await call("PUT", "/object/a", data + b"x", good)).code == "BadDigest"
        assert (await call("PUT", "/object/a", data, {"x-flare-content-sha256": "0" * 64})).status == 400
        assert (await call("GET", "/object/a")).status == 404
        assert (await call("PUT", "/object/a", data, good)).status == 201


FORM = b'--b\r\nContent-Disposition: form-data; filename="dir x"\r\nContent-Type: a/b\r\n\r\n%b\r\n--b--\r\n'
FORM_TYPE = {"content-type": "multipart/form-data; boundary=b"}


async def test_forms(autojump_clock: Clock) -> None:
    async with serving() as call:
        data = noise(2 * CHUNK + 1)
        assert (await call("POST", "/object/named", FORM % data, FORM_TYPE)).status == 201
        got = await call("GET", "/object/named")
        assert (got.body, got.fields["content-type"]) == (data, "a/b")
        for path in ("/object/", "/bucket/default/object/"):
            assert (await call("POST", path, FORM % b"small", FORM_TYPE)).status in (200, 201)
        assert (await call("GET", "/object/dir%20x")).body == b"small"
        assert (await call("POST", "/object/cut", (FORM % data)[:-4], FORM_TYPE)).status == 400
        assert (await call("POST", "/object/cut", data)).status == 400
        assert (await call("GET", "/object/cut")).status == 404


async def test_a_form_is_answered_with_what_its_object_is_called(autojump_clock: Clock) -> None:
    async with serving() as call:
        for path, file_name, key in (
            ("/object/", b"a picture.jpg", "a picture.jpg"),
            ("/bucket/default/object/", "ä+ü".encode(), "ä+ü"),
            ("/object/x/../y%22", b"ignored", 'x/../y"'),
        ):
            done = await call("POST", path, FORM.replace(b"dir x", file_name) % b"small", FORM_TYPE)
            assert (done.status, done.json["bucket"], done.json["key"]) == (201, "default", key)
            assert done.json["version"] == int(done.fields["x-flare-version"])
            assert (await call("GET", done.fields["location"])).body == b"small"
        again = await call("POST", "/object/", FORM % b"small", FORM_TYPE)
        assert (again.status, again.fields["location"]) == (201, "/bucket/default/object/dir%20x")


async def test_listing(autojump_clock: Clock) -> None:
    async with serving() as call:
        for key in ("b", "a/1", "a/2", "ä"):
            await call("PUT", f"/object/{quote(key)}", b"x")
        page = await call("GET", "/bucket/default?delimiter=/&limit=2")
        assert page.json["prefixes"] == ["a/"]
        assert [entry["key"] for entry in page.json["objects"]] == ["b"]  # type: ignore[attr-defined]
        after = await call("GET", f"/bucket/default?delimiter=/&after={page.json['next']}")
        assert [entry["key"] for entry in after.json["objects"]] == ["ä"]  # type: ignore[attr-defined]
        assert after.json["next"] is None
        assert set((after.json["objects"])[0]) == {"key", "size", "etag", "version", "modified"}  # type: ignore[index]
        for query in ("limit=0", "limit=x", "limit=1001", "lmit=1", "prefix=%zz"):
            assert (await call("GET", f"/bucket/default?{query}")).status == 400


async def test_buckets(autojump_clock: Clock) -> None:
    async with serving() as call:
        assert (await call("PUT", "/bucket/two", b'{"scheme": "replica:2", "compression": "plain"}')).status == 201
        assert (await call("PUT", "/bucket/two")).status == 200
        for settings in (b"x", b"[]", b'{"shceme": "replica:2"}', b'{"scheme": "replica:99"}', b'{"chunk_size": 1}'):
            assert (await call("PUT", "/bucket/wrong", settings)).status == 400
        assert (await call("PUT", "/bucket/No")).code == "BadName"
        listing = await call("GET", "/bucket")
        assert [bucket["name"] for bucket in listing.json["buckets"]] == ["default", "two"]  # type: ignore[attr-defined]
        assert listing.json["buckets"][1]["scheme"] == "replica:2"  # type: ignore[index]
        await call("PUT", "/bucket/two/object/x", b"1")
        assert (await call("DELETE", "/bucket/two")).code == "BucketNotEmpty"
        await call("DELETE", "/bucket/two/object/x")
        assert (await call("DELETE", "/bucket/two")).status == 204
        assert (await call("GET", "/bucket/two")).status == 404


BAD_JSON = (b"[" * 4096, b"[" * 2000 + b"]" * 2000, b'{"a": NaN}', rb'{"a": "\ud800"}', b'{"a": 1, "a": 1}', b"\xff")


@pytest.mark.parametrize(
    ("method", "target"), [("PUT", "/bucket/made"), ("POST", "/cluster/join"), ("POST", "/cluster/heartbeat")]
)
async def test_json_that_is_not_safe_to_read_is_a_bad_request(
    method: str, target: str, autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as call:
        for body in BAD_JSON:
            answer = await call(method, target, body, {"authorization": authorization(TOKEN)})
            assert (answer.status, answer.code) == (400, "BadRequest"), body[:20]
        assert (await call("GET", "/bucket/made")).status == 404
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/status?verbose=1"),
        ("GET", "/metrics?name=a"),
        ("GET", "/healthz?a"),
        ("GET", "/readyz?with=data0"),
        ("GET", "/readyz?without=data0&without=data1"),
        ("GET", "/cluster/failure?node=data0&force=1"),
        ("GET", "/cluster/node?node=data0&a=b"),
        ("DELETE", "/cluster/node?node=data0&forced=1"),
        ("DELETE", "/cluster/node?node=data0&force=yes"),
        ("PUT", "/cluster/node?node=data0&force=1"),
        ("POST", "/cluster/heartbeat?a"),
        ("POST", "/cluster/join?a"),
        ("POST", "/cluster/invite?a"),
        ("GET", "/bucket?prefix=a"),
        ("PUT", "/bucket/made?scheme=replica:1"),
        ("PUT", "/object/a?append"),
        ("DELETE", "/object/a?revision=1"),
        ("GET", "/bucket/default?after=a&after=b"),
    ],
)
async def test_a_query_that_would_be_ignored_is_refused(method: str, target: str, autojump_clock: Clock) -> None:
    async with serving(host="127.0.0.1") as call:
        answer = await call(method, target, b"", {"authorization": authorization(TOKEN)})
        assert (answer.status, answer.code) == (400, "BadRequest")


async def test_a_wrong_method_is_answered_with_the_right_ones(autojump_clock: Clock) -> None:
    async with serving() as call:
        for method in ("BREW", "TRACE", "PATCH", "OPTIONS"):
            for target, allowed in (("/object/a", "GET, HEAD, PUT, POST, DELETE, OPTIONS"), ("/status", "GET, HEAD")):
                answer = await call(method, target)
                assert (answer.status, answer.code, answer.fields["allow"]) == (405, "BadMethod", allowed)
            assert (await call(method, "/nowhere")).code == "NoSuchPath"
        counted = (await call("GET", "/metrics")).body
        assert b'flare_requests_total{method="_other",status="405"} 4.0' in counted
        assert b"BREW" not in counted  # else a stranger makes a series of each word


async def test_the_chunks_of_an_object_are_paged(autojump_clock: Clock) -> None:
    async with serving() as call:
        data = noise(3 * CHUNK)
        etag = (await call("PUT", "/object/a", data)).fields["etag"]
        found = []
        after: object = 0
        while after is not None:
            page = await call("GET", f"/object/a?chunks&limit=2&after={after}", fields={"if-match": etag})
            found += page.json["chunks"]  # type: ignore[misc]
            after = page.json["next"]
        expected = [hashlib.sha256(data[at : at + CHUNK]).hexdigest() for at in range(0, len(data), CHUNK)]
        assert [chunk["digest"] for chunk in found] == expected
        assert all(len(chunk["nodes"]) == 3 and chunk["missing"] == [] for chunk in found)
        assert (await call("GET", "/object/a?chunks", fields={"if-match": '"other"'})).status == 412


@pytest.mark.parametrize("size", [0, 5, 3 * CHUNK])
async def test_response_fields_are_returned_and_copied(autojump_clock: Clock, size: int) -> None:
    chosen = {
        "cache-control": "max-age=60",
        "content-disposition": 'attachment; filename="a"',
        "content-encoding": "gzip",
        "content-language": "de",
        "expires": "Wed, 21 Oct 2026 07:28:00 GMT",
    }
    async with serving() as call:

        async def returned(key: str) -> dict[str, str]:
            answers = [await call(method, f"/object/{key}") for method in ("GET", "HEAD")]
            answers.append(await call("GET", f"/object/{key}", fields={"range": "bytes=0-"}))
            known = [{name: answer.fields[name] for name in chosen if name in answer.fields} for answer in answers]
            assert known[0] == known[1]
            assert known[0] == known[2] or not size
            return known[0]

        await call("PUT", "/object/a", noise(size), chosen)
        assert await returned("a") == chosen
        source = {"x-flare-copy-source": "/bucket/default/object/a"}
        await call("PUT", "/object/b", fields=source)
        assert await returned("b") == chosen
        await call("PUT", "/object/b", fields=source | {"content-language": "en"})
        assert await returned("b") == {"content-language": "en"}
        await call("PUT", "/object/a", noise(size))
        assert await returned("a") == {}


async def test_versions(autojump_clock: Clock) -> None:
    async with serving() as call:
        assert (await call("POST", "/bucket/default", b'{"versioning": "off"}')).status == 400
        changed = await call("POST", "/bucket/default", b'{"versioning": "enabled"}')
        assert (changed.status, changed.json["versioning"]) == (200, "enabled")
        numbers = [(await call("PUT", "/object/a", b"%d" % number)).json["version"] for number in range(3)]
        deleted = await call("DELETE", "/object/a")
        assert (deleted.status, deleted.fields["x-flare-delete-marker"]) == (204, "true")
        marker = deleted.fields["x-flare-version"]
        for number, version in enumerate(numbers):
            got = await call("GET", f"/object/a?version={version}")
            assert (got.status, got.body, got.fields["x-flare-version"]) == (200, b"%d" % number, str(version))
            assert (await call("HEAD", f"/object/a?version={version}")).fields["content-length"] == "1"
            chunks = await call("GET", f"/object/a?chunks&version={version}")
            assert chunks.json["version"] == version
        assert (await call("GET", f"/object/a?version={marker}")).code == "IsDeleteMarker"
        assert (await call("GET", "/object/a?version=1")).code == "NoSuchVersion"
        assert (await call("GET", "/object/a?version=x")).status == 400
        page = await call("GET", "/bucket/default?versions&limit=2")
        listed = page.json["versions"]
        assert isinstance(listed, list)
        assert [(each["version"], each["newest"], each.get("deleted", False)) for each in listed] == [
            (int(marker), True, True),
            (numbers[2], False, False),
        ]
        assert page.json["next"] == {"after": "a", "after_version": numbers[2]}
        rest = await call("GET", f"/bucket/default?versions&after=a&after_version={numbers[2]}")
        assert [each["version"] for each in rest.json["versions"]] == numbers[1::-1]  # type: ignore[attr-defined]
        assert (await call("GET", "/bucket/default?after_version=1")).status == 400
        status = (await call("GET", "/status")).json
        assert (status["objects"], status["old_versions"], status["old_version_bytes"]) == (0, 4, 3)
        assert (await call("DELETE", f"/object/a?version={marker}")).fields["x-flare-version"] == marker
        assert (await call("GET", "/object/a")).body == b"2"
        assert (await call("DELETE", f"/object/a?version={numbers[2]}")).status == 204
        assert (await call("GET", "/object/a")).body == b"1"


async def test_a_copy_moves_no_body(autojump_clock: Clock) -> None:
    async with serving() as call:
        data = noise(2 * CHUNK)
        await call("PUT", "/object/a%20b", data, {"x-flare-meta-x": "1"})
        before = call.cluster.piece_count()
        source = {"x-flare-copy-source": "/bucket/default/object/a%20b"}
        assert (await call("PUT", "/object/c", fields=source)).status == 201
        assert call.cluster.piece_count() == before
        got = await call("GET", "/object/c")
        assert (got.body, got.fields["x-flare-meta-x"]) == (data, "1")
        assert (await call("PUT", "/object/c", fields={**source, "if-none-match": "*"})).status == 412
        assert (await call("PUT", "/object/c", b"body", source)).status == 400
        assert (await call("PUT", "/object/c", fields={"x-flare-copy-source": "/a"})).status == 400
        missing = {"x-flare-copy-source": "/bucket/default/object/no"}
        assert (await call("PUT", "/object/c", fields=missing)).code == "NoSuchObject"


async def test_a_lost_quorum_is_a_503_and_never_a_404(autojump_clock: Clock) -> None:
    async with serving() as call:
        await call("PUT", "/object/a", b"kept")
        for member in call.cluster.members.values():
            member.down = True
        put = await call("PUT", "/object/b", b"x")
        assert (put.status, put.fields["retry-after"]) == (503, "3")
        assert (await call("GET", "/object/a")).status == 503
        await trio.sleep(30)
        assert (await call("GET", "/readyz")).status == 503
        assert (await call("GET", "/status")).json["health"] == "down"


async def test_status_health_and_metrics(autojump_clock: Clock) -> None:
    async with serving() as call:
        await call("PUT", "/object/a", b"x")
        status = (await call("GET", "/status")).json
        assert status["health"] == "ok"
        assert [node["name"] for node in status["nodes"]] == ["api", "data1", "data2", "data3"]  # type: ignore[attr-defined]
        assert (await call("GET", "/healthz")).status == 200
        assert (await call("GET", "/readyz")).status == 200
        assert status["advice"] == []
        assert [node.get("state_since_seconds") for node in status["nodes"]] == [None, 0.0, 0.0, 0.0]  # type: ignore[attr-defined]
        text = (await call("GET", "/metrics")).body.decode()
        assert 'flare_requests_total{method="PUT",status="201"} 1.0' in text
        assert 'flare_request_seconds_count{method="PUT"} 1.0' in text


async def test_whether_a_node_may_go_down(autojump_clock: Clock) -> None:
    async with serving(Cluster(4)) as call:
        await trio.sleep(1)
        assert (await call("GET", "/readyz?without=data1")).body == b"ready\n"
        unknown = await call("GET", "/readyz?without=data9")
        assert (unknown.status, unknown.body) == (503, b"there is no data node data9 in this cluster\n")
        assert (await call("GET", "/readyz?with=data1")).status == 400
        call.cluster.members["data2"].down = True
        await trio.sleep(15)
        away = await call("GET", "/readyz?without=data1")
        assert (away.status, away.body) == (503, b"node data2 is suspect\n")
        assert (await call("GET", "/readyz?without=data2")).status == 200  # it is down already
        reasons = (await call("GET", "/status")).json["reasons"]
        assert "node data2 is suspect: silent for 1" in str(reasons)
        call.cluster.members["data3"].down = True
        await trio.sleep(15)
        assert b" needs 2" in (await call("GET", "/readyz?without=data1")).body


async def test_no_node_may_go_down_while_chunks_wait_for_repair(autojump_clock: Clock) -> None:
    async with serving(Cluster(3)) as call:
        call.cluster.members["data2"].down = True
        await trio.sleep(15)
        assert (await call("PUT", "/object/a", b"x")).status == 201  # two copies
        call.cluster.members["data2"].full = True  # it answers again, and takes nothing
        call.cluster.members["data2"].down = False
        await trio.sleep(20)
        assert (await call("GET", "/readyz?without=data2")).body == b"chunks wait for repair: 1\n"
        assert "chunks that lack pieces and wait for repair: 1, for" in str(
            (await call("GET", "/status")).json["reasons"]
        )


async def test_too_few_nodes_want_another_one(autojump_clock: Clock) -> None:
    async with serving(Cluster(1)) as call:
        status = (await call("GET", "/status")).json
        assert status["health"] == "down"
        assert "flared init data" in str(status["advice"])


async def test_a_node_is_removed_when_nothing_counts_on_it(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with serving(cluster) as call:
        for number in range(20):
            await call("PUT", f"/object/{number}", b"x" * 5000)
        live = await call("DELETE", "/cluster/node?node=data1")
        assert (live.status, live.code) == (409, "Conflict")
        assert "stop it first" in str(live.json)
        assert (await call("DELETE", "/cluster/node?node=data9")).status == 400
        assert (await call("PUT", "/cluster/node?node=data9")).status == 400
        cluster.members["data1"].down = True
        await trio.sleep(30)
        assert "it may come back" in str((await call("DELETE", "/cluster/node?node=data1")).json)
        await trio.sleep(REPAIR_AFTER + 60)
        assert (await call("GET", "/cluster/node?node=data1")).json == {
            "node": "data1",
            "waiting": 0,
            "unreadable": 0,
            "complete": True,
        }
        begun = await call("DELETE", "/cluster/node?node=data1")
        assert (begun.status, begun.json) == (202, {"node": "data1", "state": "removing"})
        await trio.sleep(10)
        names = [node["name"] for node in (await call("GET", "/status")).json["nodes"]]  # type: ignore[attr-defined]
        assert names == ["api", "data2", "data3", "data4"]
        again = await call("DELETE", "/cluster/node?node=data1")
        assert (again.status, again.json) == (200, {"node": "data1", "state": "removed"})
        assert (await call("GET", "/readyz?without=data2")).status == 200
        assert (await call("PUT", "/cluster/node?node=data1")).json == {"node": "data1", "state": "welcome"}


async def test_a_node_that_returns_while_its_chunks_are_counted_stays(autojump_clock: Clock) -> None:
    cluster = Cluster(4)
    async with serving(cluster) as call:
        cluster.members["data1"].down = True
        await trio.sleep(REPAIR_AFTER + 60)
        count = cluster.upkeep.removal.cost

        async def count_slowly(node: NodeName) -> RemovalCost:
            cluster.members["data1"].down = False
            await trio.sleep(10)
            return await count(node)

        cluster.upkeep.removal.cost = count_slowly  # type: ignore[method-assign]
        assert "stop it first" in str((await call("DELETE", "/cluster/node?node=data1")).json)
        assert cluster.membership.members()[0].record.desired_state == "stay"


async def test_a_node_that_is_needed_is_not_removed_but_by_force(autojump_clock: Clock) -> None:
    cluster = Cluster(3)
    async with serving(cluster) as call:
        for number in range(20):
            await call("PUT", f"/object/{number}", b"x" * 5000)
        cluster.members["data1"].down = True
        await trio.sleep(REPAIR_AFTER + 60)
        refused = await call("DELETE", "/cluster/node?node=data1")
        assert refused.status == 409
        assert "20 chunks lack the copy that was on it" in str(refused.json)
        assert (await call("DELETE", "/cluster/node?node=data1&force=1")).status == 202
        nodes = (await call("GET", "/status")).json["nodes"]
        assert nodes[1]["state"] == "removing"  # type: ignore[index]
        assert nodes[1]["removal"] == {"share": 0.0, "waiting": 0}  # type: ignore[index]
        await trio.sleep(10)
        assert len((await call("GET", "/status")).json["nodes"]) == 3  # type: ignore[arg-type]


async def test_nodes_are_not_removed_by_everybody(autojump_clock: Clock) -> None:
    async with serving(anonymous="read-write", host="10.0.0.9") as call:
        assert (await call("PUT", "/object/a", b"x")).status == 201
        assert (await call("DELETE", "/cluster/node?node=data1&force=1")).status == 401
        assert (await call("PUT", "/cluster/node?node=data1")).status == 401
        token = {"authorization": authorization(TOKEN)}
        assert (await call("DELETE", "/cluster/node?node=data1", b"", token)).status == 409


async def test_what_a_failure_would_cost(autojump_clock: Clock) -> None:
    async with serving(Cluster(3)) as call:
        assert (await call("PUT", "/bucket/single", b'{"scheme": "replica:1"}')).status == 201
        for number in range(20):
            await call("PUT", f"/bucket/single/object/{number}", b"one copy %d" % number)
            await call("PUT", f"/object/{number}", b"three copies %d" % number)
        costs = [(await call("GET", f"/cluster/failure?node=data{number}")).json for number in (1, 2, 3)]
        assert all(cost["complete"] for cost in costs)
        assert sum(cost["chunks"] for cost in costs) == 80  # type: ignore[misc]
        assert sum(cost["unreadable"] for cost in costs) == 20  # type: ignore[misc]
        assert [cost["below_quorum"] for cost in costs] == [cost["unreadable"] for cost in costs]
        call.cluster.members["data3"].down = True
        await trio.sleep(15)
        cost = (await call("GET", "/cluster/failure?node=data1")).json
        assert cost["below_quorum"] == 20 + costs[0]["unreadable"]  # type: ignore[operator]
        assert (await call("GET", "/cluster/failure?node=data9")).status == 400


async def test_metrics_are_for_this_machine(autojump_clock: Clock) -> None:
    async with serving(host="10.0.0.9") as call:
        refused = await call("GET", "/metrics")
        assert (refused.status, refused.code) == (401, "Unauthenticated")


async def test_a_heartbeat_needs_the_secret(autojump_clock: Clock) -> None:
    async with serving() as call:
        beat = {
            "name": "data9", "address": "h:1", "zone": "z", "version": "0", "instance": "i",
            "volumes": [], "pieces": 0, "damage": [],
        }  # fmt: skip
        body = json.dumps(beat).encode()
        assert (await call("POST", "/cluster/heartbeat", body)).status == 401
        fields = {"authorization": authorization(TOKEN)}
        assert (await call("POST", "/cluster/heartbeat", b"{", fields)).status == 400
        call.cluster.members["data9"] = call.cluster.members["data1"]
        answer = (await call("POST", "/cluster/heartbeat", body, fields)).json
        assert isinstance(answer, dict)
        kept = parse_mark(answer.pop("mark"))
        assert answer == {"cluster": "c"}
        mark = call.cluster.kv.mark()
        assert (kept.opening, kept.number, kept.accepted_ms) == (mark.opening, mark.number, 0)


async def test_old_metadata_is_accepted_by_the_operators_word_alone(autojump_clock: Clock) -> None:
    async with serving() as call:
        fields = {"authorization": authorization(TOKEN)}
        path = "/cluster/metadata"
        assert (await call("PUT", path, b"", fields)).status == 409, "it is as new as it should be"
        member = call.cluster.members["data1"]
        newer = SeenMark("ff" * 16, 5, 0, 1_700_000_000_000)
        await call.cluster.membership.receive_heartbeat(replace(member.heartbeat(), marks=(newer,)))
        refused = await call("PUT", "/object/late", b"x", fields)
        assert refused.status == 503
        assert "retry-after" in refused.fields
        assert "the metadata is older than what was seen by node data1" in str(refused.json)
        assert (await call("GET", "/readyz")).status == 503
        answer = (await call("GET", path, b"", fields)).json
        assert isinstance(answer, dict)
        assert (answer["older"], answer["seen"]) == (True, [{"node": "data1", "time": 1_700_000_000.0}])
        assert (await call("PUT", path, b"", fields)).status == 200
        assert (await call("PUT", "/object/late", b"x", fields)).status == 201


async def test_what_is_copied_must_be_readable(autojump_clock: Clock) -> None:
    cluster, secret = Cluster(), {"authorization": authorization(TOKEN)}
    async with serving(cluster, host="10.0.0.9") as call:
        for bucket, changes in (("photos", b'{"acl": "public-read-write"}'), ("private", b'{"owner": "laptop"}')):
            await call("PUT", f"/bucket/{bucket}", fields=secret)
            await call("PUT", f"/bucket/{bucket}/object/a", b"a", secret)
            assert (await call("POST", f"/bucket/{bucket}", changes, secret)).status == 200
        head = {"x-flare-copy-source": "/bucket/private/object/a"}
        assert (await call("PUT", "/bucket/photos/object/b", fields=head)).status == 401
        assert (await call("GET", "/bucket/photos/object/b", fields=secret)).status == 404
        assert (await call("PUT", "/bucket/photos/object/b", fields=head | secret)).status == 201


async def test_a_form_is_put_only_under_a_name_that_its_sender_may_write(autojump_clock: Clock) -> None:
    cluster, secret = Cluster(), {"authorization": authorization(TOKEN)}
    everything = ["arn:aws:s3:::photos", "arn:aws:s3:::photos/*"]
    rules = [("Allow", everything), ("Deny", "arn:aws:s3:::photos/closed*")]
    statements = [
        {"Effect": effect, "Principal": "*", "Action": "s3:PutObject", "Resource": arn} for effect, arn in rules
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements}).encode()
    async with serving(cluster, host="10.0.0.9") as call:
        await call("PUT", "/bucket/photos", fields=secret)
        await put_document(cluster.store, BucketName("photos"), Kind.POLICY, policy)
        for name, status in (("open", 201), ("closed", 401)):
            disposition = f'Content-Disposition: form-data; name="f"; filename="{name}"'
            body = f"--b\r\n{disposition}\r\n\r\ncontent\r\n--b--\r\n".encode()
            head = {"content-type": "multipart/form-data; boundary=b"}
            assert (await call("POST", "/bucket/photos/object/", body, head)).status == status
            assert (await call("GET", f"/bucket/photos/object/{name}", fields=secret)).status == (
                200 if status == 201 else 404
            )


async def test_a_bucket_says_what_everybody_may(autojump_clock: Clock) -> None:
    cluster = Cluster()
    secret = {"authorization": authorization(TOKEN)}
    async with serving(cluster, host="10.0.0.9") as call:

        async def change(**changes: object) -> dict[str, object]:
            answer = await call("POST", "/bucket/photos", json.dumps(changes).encode(), secret)
            assert answer.status == 200, answer
            return answer.json

        async def allowed() -> list[str]:
            found = []
            for method, target in (
                ("GET", "/bucket/photos/object/a"), ("GET", "/bucket/photos"), ("PUT", "/bucket/photos/object/b"),
                ("DELETE", "/bucket/photos/object/b"), ("GET", "/bucket"), ("DELETE", "/bucket/photos"),
                ("POST", "/bucket/photos"), ("GET", "/bucket/default"), ("GET", "/bucket/nowhere"),
            ):  # fmt: skip
                status = (await call(method, target, b"x" if method == "PUT" else b"")).status
                if status != 401:
                    assert status < 300, (method, target, status)
                    found.append(f"{method} {target.removeprefix('/bucket/photos')}")
            return found

        assert (await call("PUT", "/bucket/photos", fields=secret)).status == 201
        assert (await call("PUT", "/bucket/photos/object/a", b"a", secret)).status == 201
        assert await allowed() == []
        shown = await change(public=True)
        assert (shown["name"], shown["owner"], shown["public"], shown["acl"]) == ("photos", "", True, "private")
        assert await allowed() == ["GET /object/a"]
        await change(acl="public-read")
        assert await allowed() == ["GET /object/a", "GET "]
        await change(public=False, acl="public-read-write")
        assert await allowed() == ["GET ", "PUT /object/b", "DELETE /object/b"]
        await change(acl="authenticated-read", owner="laptop")
        assert await allowed() == []
        listed = (await call("GET", "/bucket", fields=secret)).json["buckets"]
        assert isinstance(listed, list)
        assert [(one["owner"], one["acl"]) for one in listed] == [("", "private"), ("laptop", "authenticated-read")]

        for body in (b"{", b"[]", b'{"public": 1}', b'{"acl": "own"}', b'{"owner": "a b"}', b'{"scheme": "replica:1"}'):
            assert (await call("POST", "/bucket/photos", body, secret)).status == 400
        assert (await call("POST", "/bucket/nowhere", b'{"public": true}', secret)).status == 404


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("PATCH", "/object/a", "GET, HEAD, PUT, POST, DELETE, OPTIONS"),
        ("PUT", "/object/", "GET, HEAD, POST"),
        ("PATCH", "/bucket/default", "GET, HEAD, PUT, POST, DELETE"),
        ("DELETE", "/bucket", "GET, HEAD"),
        ("PUT", "/status", "GET, HEAD"),
        ("GET", "/cluster/heartbeat", "POST"),
    ],
)
async def test_other_methods_are_refused(autojump_clock: Clock, method: str, target: str, allow: str) -> None:
    async with serving() as call:
        answer = await call(method, target)
        assert (answer.status, answer.code, answer.fields["allow"]) == (405, "BadMethod", allow)


@pytest.mark.parametrize("target", ["/", "/objects/a", "/object", "/bucket/default/a", "/bucket//object/a"])
async def test_other_paths_are_refused(autojump_clock: Clock, target: str) -> None:
    async with serving() as call:
        assert (await call("GET", target)).status in (400, 404)


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        ("GET", "/object/a?x", {}),
        ("PUT", "/object/a?chunks", {}),
        ("DELETE", "/object/a?chunks", {}),
        ("PUT", "/object/a", {"content-range": "bytes 0-1/2"}),
        ("PUT", "/object/a", {"if-unmodified-since": "Mon, 01 Jan 2001 00:00:00 GMT"}),
        ("PUT", "/object/a", {"content-md5": "x"}),
    ],
)
async def test_what_would_not_be_heeded_is_refused(
    autojump_clock: Clock, method: str, target: str, fields: dict[str, str]
) -> None:
    async with serving() as call:
        assert (await call(method, target, fields=fields)).code == "BadRequest"


def test_every_error_has_a_status() -> None:
    def walk(kind: type[FlareError]) -> list[type[FlareError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in walk(child))]

    for kind in walk(FlareError):
        assert 300 <= status_of(kind.__new__(kind)) < 600


async def test_held_orphans_are_shown_and_go_by_the_operators_word_alone(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brake, "PIECES_MIN", 2)
    cluster = Cluster(1, scheme="replica:1")
    async with serving(cluster) as call:
        for number in range(5):
            await call("PUT", f"/object/{number}", bytes([number]) * 5000)
        nothing = await call("GET", "/cluster/orphans?node=data1")
        assert (nothing.status, nothing.json["held"], nothing.json["since"]) == (200, 0, None)
        assert (await call("DELETE", "/cluster/orphans?node=data1&pieces=5")).code == "Conflict"
        for table in (b"chunk/", b"object/"):
            rows = await cluster.kv.scan(*keys.under(table), 100)
            await cluster.kv.commit({}, {key: None for key, _ in rows})
        cluster.members["data1"].instance += 1
        await trio.sleep(5 * GRACE)
        shown = (await call("GET", "/cluster/orphans?node=data1")).json
        assert (shown["held"], shown["bytes"], len(shown["sample"])) == (5, 25_000, 5)  # type: ignore[arg-type]
        node = next(n for n in (await call("GET", "/status")).json["nodes"] if n["role"] == "data")  # type: ignore[attr-defined]
        assert (node["orphans_held"], node["orphans_held_bytes"]) == (5, 25_000)
        for query in ("node=data1", "node=data1&pieces=0", "node=data1&pieces=x", "node=data9", "node=data1&all=1"):
            assert (await call("DELETE", f"/cluster/orphans?{query}")).status == 400
        assert (await call("DELETE", "/cluster/orphans?node=data1&pieces=5")).json["allowed"] == 5
        await trio.sleep(2)
        assert not cluster.piece_count()
