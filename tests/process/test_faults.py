"""Clients that misbehave, nodes that die at the wrong moment, and orderly stops: nothing half-made is ever seen."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.process.kill_rounds import API_TOML, check_all
from tests.support.bodies import Stream, body
from tests.support.client import object_path
from tests.support.daemons import API, Cluster, Start
from tests.support.ledger import Ledger
from tests.support.load import Load
from tests.support.pieces import piece_count, wait_for_no_pieces

MIB = 1024 * 1024


def begin_upload(cluster: Cluster, key: str, *, promised: int, sent: bytes) -> socket.socket:
    """A PUT of ``promised`` bytes of which only ``sent`` have gone out."""
    connection = socket.create_connection(("127.0.0.1", cluster.daemons[API].port), timeout=30)
    head = f"PUT {object_path(key)} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {promised}\r\n\r\n"
    connection.sendall(head.encode() + sent)
    return connection


@pytest.mark.parametrize("sent", [0, 1000, 300 * 1024, 20 * MIB])
def test_a_client_that_vanishes_changes_nothing(start: Start, sent: int) -> None:
    cluster = start(api=API_TOML)
    client = cluster.client()
    assert client.put("kept", b"as it was").status == 201
    pieces = piece_count(cluster, "data1")

    connection = begin_upload(cluster, "kept", promised=40 * MIB, sent=body("vanishing", sent))
    time.sleep(0.3)
    # A reset, as from a machine that lost its power, not an orderly end.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()

    assert client.get("kept").body == b"as it was"
    cluster.wait_until(lambda: piece_count(cluster, "data1") == pieces, "pieces of a dead upload stay")


def test_a_body_shorter_than_its_length_changes_nothing(start: Start) -> None:
    cluster = start(api=API_TOML)
    connection = begin_upload(cluster, "short", promised=3 * MIB, sent=body("short", 2 * MIB))
    connection.shutdown(socket.SHUT_WR)
    answer = connection.recv(65536)
    assert not answer.startswith(b"HTTP/1.1 2"), answer
    connection.close()
    assert cluster.client().get("short").status == 404
    wait_for_no_pieces(cluster)


def test_a_data_node_that_dies_in_the_middle_of_an_upload_spoils_nothing(start: Start) -> None:
    cluster = start(nodes=3, scheme="replica:2")
    stream = Stream("long upload", 400 * MIB)
    statuses: list[int] = []
    upload = threading.Thread(target=lambda: statuses.append(cluster.client().put_stream("long", stream).status))
    upload.start()
    time.sleep(0.25)
    cluster.kill("data2")
    upload.join(60)
    cluster.check_alive()
    assert len(statuses) == 1, "the upload was neither answered nor refused"
    client = cluster.client()
    if statuses == [201]:
        assert client.get_stream("long", stream)
    else:
        assert 500 <= statuses[0] < 600
        assert client.get("long").status == 404
    cluster.start()
    assert client.put_stream("long", stream).status in (200, 201)
    assert client.get_stream("long", stream)


@pytest.mark.parametrize("count", [32, 150])
def test_downloads_that_stand_still_do_not_stop_others(start: Start, count: int) -> None:
    """Neither a few, nor more than there are buffers for."""
    cluster = start()
    stream = Stream("fetched by many", 40 * MIB)
    client = cluster.client(timeout=10.0)
    assert client.put_stream("popular", stream).status == 201
    with contextlib.ExitStack() as waiting:
        for _ in range(count):
            waiting.enter_context(begin_download(cluster, "popular"))
        time.sleep(1)
        assert client.get_stream("popular", stream)
        assert client.put_stream("another", stream).status == 201
    cluster.check_alive()


def begin_download(cluster: Cluster, key: str) -> socket.socket:
    """Send a GET and do not read its body."""
    connection = socket.create_connection(("127.0.0.1", cluster.daemons[API].port), timeout=30)
    connection.sendall(f"GET {object_path(key)} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    return connection


def test_a_replica_that_died_is_not_missed(start: Start) -> None:
    cluster = start(nodes=3, scheme="replica:2")
    client = cluster.client()
    contents = {f"object-{number}": body(number, 200_000) for number in range(30)}
    for key, content in contents.items():
        assert client.put(key, content).status == 201
    cluster.kill("data1")
    for key, content in contents.items():
        assert client.get(key).body == content
    assert client.put("while it is down", b"x").status == 201
    cluster.start()


def test_sigterm_under_load_loses_nothing(start: Start) -> None:
    cluster = start(nodes=3, scheme="replica:2", api=API_TOML)
    ledger = Ledger()
    load = Load(cluster, ledger, seed=7)
    for name in (API, "data1"):
        load.start()
        time.sleep(0.5)
        assert cluster.terminate(name) == 0, cluster.log_tail(name)
        cluster.launch(name)
        load.stop()
        cluster.wait_ready()
        check_all(cluster, ledger, ledger.keys())


def test_sigterm_finishes_what_runs(start: Start) -> None:
    cluster = start()
    content = body("slow but sure", 2 * MIB)
    connection = begin_upload(cluster, "slow", promised=len(content), sent=content[:MIB])
    time.sleep(0.3)
    process = cluster.daemons[API].process
    assert process is not None
    process.terminate()
    time.sleep(0.3)
    connection.sendall(content[MIB:])
    assert connection.recv(65536).startswith(b"HTTP/1.1 201")
    connection.close()
    assert process.wait(20) == 0
    cluster.daemons[API].process = None
    cluster.start()
    assert cluster.client().get("slow").body == content


@pytest.mark.parametrize("name", ["data1", API])
def test_a_second_process_on_the_same_files_is_refused_with_their_holder(start: Start, name: str) -> None:
    cluster = start()
    holder = cluster.daemons[name]
    second = holder.config.with_name("second.toml")
    text = holder.config.read_text().replace(f"127.0.0.1:{holder.port}", "127.0.0.1:0", 1)
    second.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "flared", "--config", str(second)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert str(holder.pid) in done.stdout + done.stderr
    assert cluster.client().put("still served", b"x").status == 201
