"""The calls of docs/http-api.md as a foreign client sees them; one test for each thing a user may rely on."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import socket
from collections.abc import Iterator

import pytest

from tests.support.bodies import body
from tests.support.client import Answer, Client
from tests.support.daemons import Cluster

MIB = 1024 * 1024
CHUNK_SIZE = 8 * MIB
CONTENT = body("http table", 1_000_000)

numbers = itertools.count()


@pytest.fixture
def client(shared: Cluster) -> Iterator[Client]:
    client = shared.client()
    yield client
    client.close()


@pytest.fixture
def bucket(client: Client) -> str:
    name = f"bucket-{next(numbers)}"
    assert client.call("PUT", f"/bucket/{name}").status == 201
    return name


def keys_of(answer: Answer) -> list[str]:
    objects = answer.json()["objects"]
    assert isinstance(objects, list)
    return [entry["key"] for entry in objects]


def test_put_says_what_was_stored(client: Client) -> None:
    first = client.put("said", CONTENT)
    assert first.status == 201
    assert first.json()["size"] == len(CONTENT)
    assert first.fields["etag"].strip('"') == str(first.json()["etag"]).strip('"')
    second = client.put("said", b"other")
    assert second.status == 200
    assert int(str(second.json()["version"])) > int(str(first.json()["version"]))


def test_a_bucket_in_the_path_and_the_default_one_are_the_same_place(client: Client) -> None:
    client.call("PUT", "/object/same/place", CONTENT)
    assert client.call("GET", "/bucket/default/object/same/place").body == CONTENT


def test_get_and_head_carry_the_fields(client: Client) -> None:
    fields = {"content-type": "text/x-flare", "x-flare-meta-mtime": "2024-01-01T00:00:00Z"}
    put = client.put("fields", CONTENT, fields=fields)
    for method in ("GET", "HEAD"):
        answer = client.call(method, "/object/fields")
        assert answer.status == 200
        assert answer.body == (CONTENT if method == "GET" else b"")
        assert answer.fields["content-length"] == str(len(CONTENT))
        assert answer.fields["content-type"] == "text/x-flare"
        assert answer.fields["x-flare-meta-mtime"] == "2024-01-01T00:00:00Z"
        assert answer.fields["etag"] == put.fields["etag"]
        assert answer.fields["x-flare-version"] == str(put.json()["version"])
        assert "last-modified" in answer.fields


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299999", 100, 300_000),
        ("bytes=999999-", 999_999, 1_000_000),
        ("bytes=-5", 999_995, 1_000_000),
        ("bytes=500000-9999999", 500_000, 1_000_000),
    ],
)
def test_ranges(client: Client, asked: str, start: int, end: int) -> None:
    client.put("ranged", CONTENT)
    answer = client.get("ranged", fields={"range": asked})
    assert answer.status == 206
    assert answer.fields["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert answer.body == CONTENT[start:end]


def test_a_range_over_chunk_boundaries(client: Client) -> None:
    content = body("two chunks", 2 * CHUNK_SIZE + 77)
    client.put("long", content)
    answer = client.get("long", fields={"range": f"bytes={CHUNK_SIZE - 10}-{2 * CHUNK_SIZE + 10}"})
    assert answer.status == 206
    assert answer.body == content[CHUNK_SIZE - 10 : 2 * CHUNK_SIZE + 11]


def test_a_range_outside_is_refused(client: Client) -> None:
    client.put("ranged", CONTENT)
    answer = client.get("ranged", fields={"range": "bytes=1000000-"})
    assert answer.status == 416
    assert answer.fields["content-range"] == "bytes */1000000"


def test_conditional_reads(client: Client) -> None:
    etag = client.put("conditional", CONTENT).fields["etag"]
    date = client.get("conditional").fields["last-modified"]
    assert client.get("conditional", fields={"if-none-match": etag}).status == 304
    assert client.get("conditional", fields={"if-none-match": '"other"'}).status == 200
    assert client.get("conditional", fields={"if-match": etag}).status == 200
    assert client.get("conditional", fields={"if-match": '"other"'}).status == 412
    assert client.get("conditional", fields={"if-modified-since": date}).status == 304
    assert client.get("conditional", fields={"if-unmodified-since": "Mon, 01 Jan 2001 00:00:00 GMT"}).status == 412
    assert client.get("conditional", fields={"if-range": etag, "range": "bytes=0-9"}).status == 206
    assert client.get("conditional", fields={"if-range": '"other"', "range": "bytes=0-9"}).status == 200


def test_conditional_writes(client: Client) -> None:
    assert client.put("once", b"first", fields={"if-none-match": "*"}).status == 201
    assert client.put("once", b"second", fields={"if-none-match": "*"}).status == 412
    etag = client.get("once").fields["etag"]
    assert client.put("once", b"third", fields={"if-match": '"other"'}).status == 412
    assert client.put("once", b"third", fields={"if-match": etag}).status == 200
    assert client.get("once").body == b"third"


def test_delete_is_204_also_for_what_is_not_there(client: Client) -> None:
    client.put("deleted", CONTENT)
    assert client.delete("deleted").status == 204
    assert client.delete("deleted").status == 204
    answer = client.get("deleted")
    assert answer.status == 404
    error = answer.json()["error"]
    assert isinstance(error, dict)
    assert error["code"] == "NoSuchObject"
    assert error["message"]
    assert error["request_id"]


def test_an_upload_that_does_not_match_its_digest_is_refused(client: Client) -> None:
    md5 = base64.b64encode(hashlib.md5(CONTENT, usedforsecurity=False).digest()).decode()
    wrong = base64.b64encode(bytes(16)).decode()
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert client.put("digest", CONTENT, fields={"content-md5": wrong}).status == 400
    assert client.put("digest", CONTENT, fields={"x-flare-content-sha256": "0" * 64}).status == 400
    assert client.get("digest").status == 404
    assert client.put("digest", CONTENT, fields={"content-md5": md5, "x-flare-content-sha256": sha256}).status == 201


def test_an_empty_object(client: Client) -> None:
    assert client.put("empty", b"").status == 201
    answer = client.get("empty")
    assert (answer.status, answer.body, answer.fields["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize("path", ["a+b", "a/./b/../c", "a//b", "%C3%BC", "a%2Fb", "a%252Fb", "%20", "x" * 1024])
def test_keys_are_decoded_exactly_once(client: Client, bucket: str, path: str) -> None:
    content = body(path, 100)
    assert client.call("PUT", f"/bucket/{bucket}/object/{path}", content).status == 201
    assert client.call("GET", f"/bucket/{bucket}/object/{path}").body == content
    decoded = {"%C3%BC": "ü", "a%2Fb": "a/b", "a%252Fb": "a%2Fb", "%20": " "}.get(path, path)
    assert keys_of(client.call("GET", f"/bucket/{bucket}")) == [decoded]


@pytest.mark.parametrize("path", ["%00", "a%00b", "%ff", "%C3", "x" * 1025])
def test_bad_keys_are_refused(client: Client, path: str) -> None:
    assert client.call("PUT", f"/object/{path}", b"x").status == 400


def test_a_listing_is_paged_in_utf8_order(client: Client, bucket: str) -> None:
    keys = ["Z", "a", "a/1", "a/2", "b/x/1", "b/x/2", "z", "ä", "￿", "\U0001f600"]
    for key in reversed(keys):
        client.put(key, b"x", bucket=bucket)
    assert keys_of(client.call("GET", f"/bucket/{bucket}")) == keys
    seen: list[str] = []
    after: object = ""
    while True:
        page = client.call("GET", f"/bucket/{bucket}?limit=3&after={quoted(after)}")
        seen += keys_of(page)
        after = page.json().get("next")
        if not after:
            break
    assert seen == keys


def test_a_listing_with_prefix_and_delimiter(client: Client, bucket: str) -> None:
    for key in ("a/1", "a/2", "a/b/3", "c"):
        client.put(key, b"x", bucket=bucket)
    page = client.call("GET", f"/bucket/{bucket}?delimiter=/")
    assert (keys_of(page), page.json()["prefixes"]) == (["c"], ["a/"])
    page = client.call("GET", f"/bucket/{bucket}?delimiter=/&prefix=a/")
    assert (keys_of(page), page.json()["prefixes"]) == (["a/1", "a/2"], ["a/b/"])


def quoted(text: object) -> str:
    return "".join(f"%{byte:02X}" for byte in str(text).encode())


def test_buckets(client: Client) -> None:
    assert client.call("PUT", "/bucket/made-twice").status == 201
    assert client.call("PUT", "/bucket/made-twice").status == 200
    client.put("inside", b"x", bucket="made-twice")
    assert client.call("DELETE", "/bucket/made-twice").status == 409
    assert b"made-twice" in client.call("GET", "/bucket").body
    client.delete("inside", bucket="made-twice")
    assert client.call("DELETE", "/bucket/made-twice").status == 204
    assert client.put("inside", b"x", bucket="made-twice").status == 404


def test_the_chunks_of_an_object(client: Client) -> None:
    content = body("chunks", CHUNK_SIZE + 1)
    client.put("in chunks", content)
    answer = client.call("GET", "/object/in%20chunks?chunks")
    assert answer.status == 200
    for part in (content[:CHUNK_SIZE], content[CHUNK_SIZE:]):
        assert hashlib.sha256(part).hexdigest().encode() in answer.body


def test_health(client: Client) -> None:
    assert client.call("GET", "/healthz").status == 200
    assert client.call("GET", "/readyz").status == 200
    assert client.call("GET", "/status").json()["health"] == "ok"


HOST = b"Host: 127.0.0.1\r\n"
PUT_HALF = b"PUT /object/half HTTP/1.1\r\n" + HOST


@pytest.mark.parametrize(
    ("sent", "status", "word"),
    [
        # where the body ends, said twice or wrongly
        (PUT_HALF + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "Content-Length"),
        (PUT_HALF + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, "Content-Length"),
        (PUT_HALF + b"Content-Length: 3, 3\r\n\r\nabc", 400, "Content-Length"),
        (PUT_HALF + b"Content-Length: -1\r\n\r\n", 400, "Content-Length"),
        (PUT_HALF + b"Content-Length: 1e3\r\n\r\n", 400, "Content-Length"),
        (PUT_HALF + b"Content-Length: 99999999999999999\r\n\r\n", 413, "object"),
        (PUT_HALF + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "'chunked'"),
        (PUT_HALF + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, "field line"),
        (b"PUT /object/half HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "HTTP/1.0"),
        # chunks that are none
        (PUT_HALF + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400, "chunk"),
        (PUT_HALF + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 400, "chunk size"),
        (PUT_HALF + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 400, "chunk"),
        (PUT_HALF + b"Transfer-Encoding: chunked\r\n\r\n3;" + b"x" * 5000 + b"\r\nabc\r\n0\r\n\r\n", 400, "chunk"),
        (PUT_HALF + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" + b"T: t\r\n" * 20_000, 400, "trailers"),
        (PUT_HALF + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", 400, "CRLF"),
        # heads
        (PUT_HALF + b"X: a\r\n folded\r\nContent-Length: 0\r\n\r\n", 400, "folded"),
        (PUT_HALF + b"X: a\0b\r\nContent-Length: 0\r\n\r\n", 400, "control character"),
        (PUT_HALF + b"X: a\nContent-Length: 0\r\n\r\n", 400, "CRLF"),
        (PUT_HALF + b"X: " + b"x" * 40_000 + b"\r\n\r\n", 431, "longer than"),
        (PUT_HALF + b"X: y\r\n" * 200 + b"\r\n", 431, "more than 100 fields"),
        (PUT_HALF + HOST + b"Content-Length: 0\r\n\r\n", 400, "more than one Host"),
        (b"PUT /object/half HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400, "needs a Host"),
        (b"PUT /object/" + b"x" * 10_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "request line is longer"),
        (b"PUT /object/half HTTP/2.0\r\n" + HOST + b"\r\n", 400, "request line"),
        (b"PUT /object/ha lf HTTP/1.1\r\n" + HOST + b"\r\n", 400, "request line"),
        (
            b"PUT http://other.example/object/half HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
            400,
            "another host",
        ),
        (b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "request line"),
        (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400, "OPTIONS"),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 404, "no call at"),
        (b"BREW /object/half HTTP/1.1\r\n" + HOST + b"\r\n", 405, "not possible"),
        (b"PROPFIND /bucket HTTP/1.1\r\n" + HOST + b"\r\n", 405, "not possible"),
        # what is expected
        (PUT_HALF + b"Expect: 200-ok\r\nContent-Length: 3\r\n\r\n", 417, "100-continue"),
        (PUT_HALF + b"Expect: 100-continue, tea\r\nContent-Length: 3\r\n\r\n", 417, "100-continue"),
        (PUT_HALF + b"Expect: 100-continue\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\n", 400, "whole"),
        # paths and queries
        (b"PUT /object/half%zz HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 400, "two hex digits"),
        (b"PUT /object/half%00 HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 400, "NUL"),
        (b"PUT /bucket/ha%6 HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 400, "two hex digits"),
        (b"GET /bucket/default?prefix=%f HTTP/1.1\r\n" + HOST + b"\r\n", 400, "two hex digits"),
        (b"GET /bucket/default?prefix=a&prefix=b HTTP/1.1\r\n" + HOST + b"\r\n", 400, "twice"),
        (b"GET /status?pretty HTTP/1.1\r\n" + HOST + b"\r\n", 400, "unknown query parameter 'pretty'"),
        # bodies that are JSON
        (b"PUT /bucket/half HTTP/1.1\r\n" + HOST + b"Content-Length: 4096\r\n\r\n" + b"[" * 4096, 400, "brackets"),
        (b"POST /cluster/join HTTP/1.1\r\n" + HOST + b'Content-Length: 9\r\n\r\n{"a":NaN}', 400, "NaN"),
    ],
    ids=range(42),
)
def test_what_is_broken_or_ambiguous_is_refused_in_plain_words(
    shared: Cluster, client: Client, sent: bytes, status: int, word: str
) -> None:
    with socket.create_connection(("127.0.0.1", shared.daemons["api"].port), timeout=20) as raw:
        with contextlib.suppress(OSError):  # it may be refused before it is sent to its end
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: raw.recv(65536), b""))
    head, _, content = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), said[:300]
    error = json.loads(content)["error"]
    assert word in error["message"]
    assert error["code"]
    assert client.get("half").status == 404
    assert client.call("GET", "/bucket/half").status == 404
    log = shared.daemons["api"].log.read_text()
    assert "Traceback" not in log


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /object/asked HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc",
        b"GET /object/asked HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        b"GET /object/asked HTTP/1.1\r\n" + HOST + b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET http://127.0.0.1/object/asked HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
        b"GET /object/asked HTTP/1.1\r\n" + HOST + b"Expect: 100-Continue\r\nConnection: close\r\n\r\n",
        b"GET /object/%61sked HTTP/1.0\r\n\r\n",
        b"GET /object/asked? HTTP/1.0\r\n\r\n",
    ],
    ids=range(7),
)
def test_what_is_unusual_and_clear_is_answered(shared: Cluster, client: Client, sent: bytes) -> None:
    client.put("asked", b"answer")
    with socket.create_connection(("127.0.0.1", shared.daemons["api"].port), timeout=20) as raw:
        raw.sendall(sent)
        said = b"".join(iter(lambda: raw.recv(65536), b""))
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(b"\r\n\r\nanswer")


def test_what_follows_a_body_on_a_get_is_the_next_request(shared: Cluster, client: Client) -> None:
    client.put("asked", b"answer")
    get = b"GET /object/asked HTTP/1.1\r\n" + HOST
    with socket.create_connection(("127.0.0.1", shared.daemons["api"].port), timeout=20) as raw:
        raw.sendall(get + b"Content-Length: 42\r\n\r\n" + b"DELETE /object/asked HTTP/1.1\r\nHost: h\r\n\r\n"[:42]
                    + get + b"Connection: close\r\n\r\n")  # fmt: skip
        said = b"".join(iter(lambda: raw.recv(65536), b""))
    assert said.count(b"HTTP/1.1 200 ") == 2
    assert client.get("asked").body == b"answer"
