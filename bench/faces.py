"""The faces measured against each other: ``python -m bench --faces``.

One cluster serves them all; each row puts the same load on two of them in turns, for about a second each, and only
ratios within such a pair are compared. Requests are signed before the run begins, and no write is sent twice: a signed
write is carried out once.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import small
from bench.against import BATCH, HEADING, MANY, MIB, SECONDS, SMALL, Result, daemon_pids, describe, write_json
from bench.pairs import Pair, Run
from bench.processes import cpu_seconds_between, memory_of, thread_times
from flared.access.access_key import AccessKey
from flared.access.keys import API_AUDIENCE, authorization, node_token
from flared.access.sigv4 import UNSIGNED_PAYLOAD
from flared.api.s3.xml import parse_xml
from tests.support.bodies import body
from tests.support.client import Client
from tests.support.daemons import API, Cluster, free_ports, running
from tests.support.filler import fill, put_requests
from tests.support.s3 import sign_request
from tests.support.signing import signed

PUTS = 10_000
"""More than are put in a second."""
GETS = 4_000
PARTS = 8
PAIRS = 8
PAIRS_QUICK = 3
KEY_PATTERN = "all-%05d"
BUFFER_SIZE = 8 * MIB
UNIT_SIZE = 64 * 1024
HOST = "localhost"

Sign = Callable[[str, str, bytes, bool], Mapping[str, str]]
"""Method, target, body, and whether the body goes without its digest -> the fields that let the request in."""


@dataclass(frozen=True, slots=True)
class Side:
    """A face as a client uses it."""

    name: str
    port: int
    objects: str
    """What the path of an object begins with."""
    sign: Sign


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    load: Callable[[Cluster, Side], Run]
    first: Side
    then: Side


def run_faces(directory: Path, *, pairs: int | None, quick: bool, json_path: Path) -> None:
    """Measure every row, print the table as it grows, write ``json_path``."""
    count = pairs or (PAIRS_QUICK if quick else PAIRS)
    print("ratios are of the second face to the first: the median over pairs of runs (and its quartiles)")
    print(HEADING.replace("theirs", " first").replace("  ours", "second"))
    results: list[Result] = []
    with faces_running(directory) as (cluster, sides):
        for row in list_rows(*sides, size=(256 if quick else 1024) * MIB):
            title = f"{row.title}: {row.first.name}>{row.then.name}"
            result = Result(title, title)
            for number in range(count + 1):
                pair = Pair(row.load(cluster, row.first), row.load(cluster, row.then))
                if number:  # the first pair warms up
                    result.pairs.append(pair)
            cluster.check_alive()
            results.append(result)
            print(describe(result), flush=True)
        memory = memory_of(daemon_pids(cluster))
    versions = {"theirs": "the first face of a row", "ours": "the second"}
    write_json(json_path, versions, results, {"all": (memory, memory)})


def list_rows(plain: Side, native: Side, s3: Side, *, size: int) -> list[Row]:
    def put_large(cluster: Cluster, side: Side) -> Run:
        return load_large(cluster, side, lambda: put_whole(side, size))

    def put_large_or_parts(cluster: Cluster, side: Side) -> Run:
        return load_large(cluster, side, lambda: put_parts(side, size) if side is s3 else put_whole(side, size))

    return [
        Row("PUT 4 KiB", load_puts, plain, native),
        Row("GET 4 KiB", load_gets, plain, native),
        Row("PUT 4 KiB", load_puts, native, s3),
        Row("GET 4 KiB", load_gets, native, s3),
        Row("PUT large", put_large, plain, s3),
        Row(f"PUT in {PARTS} parts", put_large_or_parts, plain, s3),
    ]


@contextmanager
def faces_running(directory: Path) -> Iterator[tuple[Cluster, tuple[Side, Side, Side]]]:
    """A cluster that holds ``MANY`` objects, and its sides: without a key, with one, and S3."""
    s3_port = free_ports(1)[0]
    with running(Cluster(directory / "faces", api={"s3_listen": f"127.0.0.1:{s3_port}"})) as cluster:
        port = cluster.daemons[API].port
        keys = (KEY_PATTERN % number for number in range(MANY))
        fill(port, put_requests("default", keys, body("get", SMALL - len(KEY_PATTERN % 0))))
        key = make_key(cluster)

        def sign_native(method: str, target: str, content: bytes, unhashed: bool) -> Mapping[str, str]:
            nonce = secrets.token_urlsafe(16)
            return signed(
                method, target, content, now=time.time(), nonce=nonce, host=HOST, key_id=key.id, secret=key.secret
            )

        def sign_s3(method: str, target: str, content: bytes, unhashed: bool) -> Mapping[str, str]:
            payload = UNSIGNED_PAYLOAD if unhashed else ""
            return sign_request(key, time.time(), method, target, content, payload=payload, host=HOST)

        yield (
            cluster,
            (
                Side("plain", port, "/object/", lambda *_: {}),
                Side("signed", port, "/object/", sign_native),
                Side("s3", s3_port, "/default/", sign_s3),
            ),
        )


def make_key(cluster: Cluster) -> AccessKey:
    proof = {"authorization": authorization(node_token(cluster.secret.encode(), API_AUDIENCE))}
    wanted = json.dumps({"name": "bench", "grants": ["admin"]}).encode()
    answer = Client(cluster.daemons[API].port).call("POST", "/cluster/key", wanted, proof)
    assert answer.status == 201, answer.body
    made = answer.json()
    return AccessKey(str(made["id"]), "bench", str(made["secret"]), ())


# Small requests, by wrk


def load_puts(cluster: Cluster, side: Side) -> Run:
    content = os.urandom(SMALL)
    seed = secrets.token_hex(4)

    def make() -> Iterator[bytes]:
        for number in range(PUTS):
            unique = b"%b%012x" % (seed.encode(), number) + content[20:]
            yield pack("PUT", f"{side.objects}put-{seed}-{number}", side, unique)

    return load_small(cluster, side, make())


def load_gets(cluster: Cluster, side: Side) -> Run:
    step = MANY // GETS
    return load_small(
        cluster, side, (pack("GET", side.objects + KEY_PATTERN % (number * step), side) for number in range(GETS))
    )


def load_small(cluster: Cluster, side: Side, requests: Iterable[bytes]) -> Run:
    with tempfile.NamedTemporaryFile(suffix=".requests") as file:
        for request in requests:
            file.write(b"%08d%b" % (len(request), request))
        file.flush()
        pids = daemon_pids(cluster)
        measured = small.measure(side.port, "raw.lua", [file.name], seconds=SECONDS, pids=pids, policy=BATCH)
    assert not measured.failed, f"{side.name}: {measured.failed} requests failed\n{cluster.log_tail(API)}"
    api, *data = measured.server_cpu
    return Run(measured.rate, measured.p50, measured.p99, api, sum(data), measured.client_cpu)


def pack(method: str, target: str, side: Side, content: bytes = b"", *, length: int | None = None) -> bytes:
    """A whole request; with ``length`` its head, for a body of so many bytes that goes without its digest."""
    fields = {"host": HOST, "content-length": str(len(content) if length is None else length)}
    fields |= side.sign(method, target, content, length is not None)
    return (
        "".join(
            [f"{method} {target} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in fields.items()), "\r\n"]
        ).encode()
        + content
    )


# Large bodies, by the thinnest client there is


def load_large(cluster: Cluster, side: Side, transfer: Callable[[], int]) -> Run:
    """``transfer`` returns how many bytes it has moved; an operation is all of them."""
    pids = daemon_pids(cluster)
    before = [thread_times(pid) for pid in pids]
    started = time.perf_counter()
    transfer()
    seconds = time.perf_counter() - started
    api, *data = [cpu_seconds_between(start, thread_times(pid)) for pid, start in zip(pids, before, strict=True)]
    return Run(1 / seconds, api_cpu=api * 1e6, data_cpu=sum(data) * 1e6)


def put_whole(side: Side, size: int) -> int:
    send_noise(side, f"{side.objects}large", size)
    return size


def put_parts(side: Side, size: int) -> int:
    """An upload in parts, all of them at once."""
    target = f"{side.objects}parts"
    answer = call(side, "POST", f"{target}?uploads")
    upload = parse_xml(answer, "InitiateMultipartUploadResult").text_of("UploadId")
    tags: dict[int, str] = {}

    def send(number: int) -> None:
        tags[number] = send_noise(side, f"{target}?partNumber={number}&uploadId={upload}", size // PARTS)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(1, PARTS + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{tags[number]}</ETag></Part>" for number in range(1, PARTS + 1)
    )
    document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    assert b"CompleteMultipartUploadResult" in call(side, "POST", f"{target}?uploadId={upload}", document)
    return size


def send_noise(side: Side, target: str, size: int) -> str:
    """PUT a body that was never seen before; return its ETag."""
    noise = bytearray(os.urandom(BUFFER_SIZE))
    with socket.create_connection(("127.0.0.1", side.port)) as connection:
        connection.sendall(pack("PUT", target, side, length=size))
        for start in range(0, size, BUFFER_SIZE):
            for unit in range(0, BUFFER_SIZE, UNIT_SIZE):
                noise[unit : unit + 8] = (start + unit).to_bytes(8, "big")
            connection.sendall(memoryview(noise)[: size - start])
        answer = connection.recv(65536)
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")), answer[:500]
    return answer.lower().partition(b"\r\netag: ")[2].partition(b"\r\n")[0].decode()


def call(side: Side, method: str, target: str, content: bytes = b"") -> bytes:
    """Return the body of the answer, which is a 200."""
    with socket.create_connection(("127.0.0.1", side.port)) as connection:
        connection.sendall(
            pack(method, target, side, content).replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
        )
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 200"), received[:500]
    return received.partition(b"\r\n\r\n")[2]
