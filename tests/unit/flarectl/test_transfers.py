"""Bodies when something goes wrong on the way: nothing wrong is written, nothing half-made is left."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.support.fake_api import FakeApi, Handler, Stored
from tests.unit.flarectl.conftest import Run

CHUNK = 64 * 1024
BODY = os.urandom(5 * CHUNK + 100)


def damaged(handler: Handler) -> bool:
    """Answer a range with one bit flipped."""
    first, last = (int(n) for n in handler.headers["range"].removeprefix("bytes=").split("-"))
    stored = handler.api.objects["default", "x"]
    part = bytearray(stored.data[first : last + 1])
    part[7] ^= 1
    fields = {"etag": f'"{stored.etag}"', "content-range": f"bytes {first}-{last}/{len(stored.data)}"}
    handler.reply(206, bytes(part), fields)
    return True


def replace(data: bytes) -> object:
    def act(handler: Handler) -> bool:
        handler.api.store("x", data)
        return False

    return act


def test_a_damaged_chunk_is_fetched_again(api: FakeApi, run: Run) -> None:
    api.store("x", BODY)
    api.fail("GET", "/object/x", lambda handler: "range" in handler.headers and damaged(handler), times=3)
    assert run("get", "x", "out").code == 0
    assert Path("out").read_bytes() == BODY


@pytest.mark.parametrize("command", [("get", "x", "out"), ("cat", "x")])
def test_a_chunk_that_stays_damaged_is_never_shown(api: FakeApi, run: Run, command: tuple[str, ...]) -> None:
    api.store("x", BODY)
    act = lambda handler: f"bytes={CHUNK}-" in handler.headers.get("range", "") and damaged(handler)  # noqa: E731
    api.fail("GET", "/object/x", act, times=1000)
    done = run(*command)
    assert done.code == 7
    assert "chunk 1 arrived with other bytes" in done.err
    assert not os.listdir()
    assert len(done.out.encode("utf-8", "replace")) < 3 * CHUNK  # at most the good chunk before it


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("by_s3", [True, False])
def test_a_small_object_is_verified_too(api: FakeApi, run: Run, described: bool, by_s3: bool) -> None:
    stored = api.store("x", b"right")
    stored.by_s3 = by_s3

    def wrong(handler: Handler) -> bool:
        if "?chunks" in handler.path:
            return False
        fields = {"x-flare-content-sha256": stored.digests[0].hex()} if described else {}
        handler.reply(200, b"wrong", {"etag": f'"{stored.etag}"'} | fields)
        return True

    api.fail("GET", "/object/x", wrong, times=100)
    assert run("get", "x", "out").code == 7
    assert not os.listdir()


@pytest.mark.parametrize("size", [0, 5, 2 * CHUNK, 5 * CHUNK + 100])
@pytest.mark.parametrize("command", [("get", "x", "out"), ("get", "-r", ":", "out"), ("cat", "x")])
def test_what_s3_wrote_is_got_by_the_digests_of_its_chunks(
    api: FakeApi, run: Run, size: int, command: tuple[str, ...]
) -> None:
    api.store("x", BODY[:size]).by_s3 = True
    done = run(*command)
    assert done.code == 0
    if command[0] == "get":
        assert Path("out/x" if "-r" in command else "out").read_bytes() == BODY[:size]
    ranges = [asked for asked in api.requests if "range" in str(asked)]
    assert len(ranges) <= 6


def test_a_damaged_chunk_of_what_s3_wrote_is_never_shown(api: FakeApi, run: Run) -> None:
    api.store("x", BODY).by_s3 = True
    api.fail("GET", "/object/x", lambda handler: "range" in handler.headers and damaged(handler), times=1000)
    assert run("get", "x", "out").code == 7
    assert not os.listdir()


@pytest.mark.parametrize("status", [503, 500, 429])
def test_what_fails_for_now_is_tried_again(api: FakeApi, run: Run, status: int) -> None:
    api.store("x", BODY)
    Path("in").write_bytes(BODY)
    api.answer_with("GET", "/object/x", status, "Busy", times=2)
    api.answer_with("PUT", "/object/y", status, "Busy", times=2)
    assert run("get", "x", "out").code == 0
    assert run("put", "in", "y").code == 0
    assert api.read("y") == BODY


def test_a_connection_that_breaks_is_tried_again(api: FakeApi, run: Run) -> None:
    api.store("x", BODY)
    Path("in").write_bytes(BODY)
    api.fail("GET", "/object/x", Handler.cut, times=3)
    api.fail("PUT", "/object/y", Handler.cut, times=1)
    assert run("get", "x", "out").code == 0
    assert Path("out").read_bytes() == BODY
    assert run("put", "in", "y").code == 0
    assert api.read("y") == BODY


def test_what_goes_on_failing_ends(api: FakeApi, run: Run) -> None:
    Path("in").write_bytes(b"x")
    api.answer_with("PUT", "/object/y", 503, "QuorumNotReached", times=1000, message="1 of the 2 nodes needed")
    done = run("put", "in", "y")
    assert done.code == 5
    assert "1 of the 2 nodes needed" in done.err
    assert "(request r-1)" in done.err


def test_an_object_replaced_meanwhile_is_got_whole_in_its_new_version(api: FakeApi, run: Run) -> None:
    new = os.urandom(3 * CHUNK)
    api.store("x", BODY)

    def act(handler: Handler) -> bool:
        if "range" not in handler.headers:
            return False
        handler.api.faults.clear()
        handler.api.store("x", new)
        return False

    api.fail("GET", "/object/x", act, times=1000)
    assert run("get", "x", "out").code == 0
    assert Path("out").read_bytes() == new
    assert os.listdir() == ["out"]


def test_an_object_replaced_all_the_time_is_given_up(api: FakeApi, run: Run) -> None:
    api.store("x", BODY)

    def act(handler: Handler) -> bool:
        handler.api.store("x", os.urandom(3 * CHUNK))
        return False

    api.fail("GET", "/object/x", act, times=1000)
    done = run("get", "x", "out")
    assert done.code == 6
    assert "replaced faster than it can be read" in done.err
    assert not os.listdir()


def test_what_the_server_stored_wrongly_is_noticed(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in").write_bytes(BODY * 4)
    right = FakeApi.store

    def wrong(self: FakeApi, key: str, data: bytes, bucket: str = "default", **user: str) -> Stored:
        return right(self, key, data[:CHUNK] + b"!" + data[CHUNK + 1 :], bucket, **user)

    monkeypatch.setattr(FakeApi, "store", wrong)
    done = run("put", "in", "x")
    assert done.code == 7
    assert "chunk 1 was stored with other bytes" in done.err


def test_a_wrong_guess_of_the_chunk_size_is_no_damage(api: FakeApi, run: Run) -> None:
    data = BODY * 4
    Path("in").write_bytes(data)
    api.answer_with("GET", "/bucket", 404, "NoSuchObject", times=0)

    def other_size(handler: Handler) -> bool:
        handler.reply_json(200, {"buckets": []})
        return True

    api.fail("GET", "/bucket", other_size)
    assert run("put", "in", "x") == (0, "", "")
    assert api.read("x") == data


def test_a_put_overtaken_by_another_client_is_not_called_damage(api: FakeApi, run: Run) -> None:
    Path("in").write_bytes(BODY * 4)
    api.fail("GET", "/bucket", lambda handler: handler.reply_json(200, {"buckets": []}) is None)
    api.fail("GET", "?chunks", replace(b"another"))  # type: ignore[arg-type]
    done = run("put", "in", "x")
    assert done.code == 6
    assert "another client replaced it" in done.err


def test_a_put_whose_answer_was_lost_is_known_again(api: FakeApi, run: Run) -> None:
    Path("in").write_bytes(BODY * 4)

    def store_and_cut(handler: Handler) -> bool:
        handler.api.store("x", handler.take_body())
        return handler.cut()

    api.fail("PUT", "/object/x", store_and_cut)
    assert run("put", "in", "x", "--if-not-exists") == (0, "", "")


def test_a_file_that_changes_while_it_is_read_is_reported(api: FakeApi, run: Run) -> None:
    Path("in").write_bytes(BODY)

    def change(_: Handler) -> bool:
        Path("in").write_bytes(b"!" * len(BODY))
        return False

    api.fail("PUT", "/object/x", change)
    done = run("put", "in", "x")
    assert done.code == 6
    assert "changed while it was read" in done.err


def test_a_refusal_in_the_middle_of_a_large_body_is_heard(api: FakeApi, run: Run) -> None:
    with open("in", "wb") as file:
        file.truncate(50_000_000)

    def refuse(handler: Handler) -> bool:
        handler.rfile.read(100_000)
        handler.refuse(507, "VolumeFull", "no volume has room")
        handler.wfile.flush()
        while handler.rfile.read1(1 << 20):
            pass
        return handler.cut()

    api.fail("PUT", "/object/x", refuse, times=100)
    done = run("put", "in", "x")
    assert done.code == 5
    assert "no volume has room" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_half_made_and_says_how_to_go_on(
    api: FakeApi, run: Run, number: signal.Signals
) -> None:
    api.store("x", BODY)
    released = threading.Event()

    def hang(handler: Handler) -> bool:
        if f"bytes={2 * CHUNK}-" in handler.headers.get("range", ""):
            os.kill(os.getpid(), number)
            released.wait(20)
        return False

    api.fail("GET", "/object/x", hang, times=1000)
    done = run("get", "x", "out")
    released.set()
    assert done.code == 130
    assert "run the same command again" in done.err
    assert not os.listdir()


def test_parts_are_fetched_at_once_up_to_the_limit(api: FakeApi, run: Run) -> None:
    api.store("x", BODY * 2)
    now, most, lock = 0, 0, threading.Lock()
    barrier = threading.Barrier(3)

    def count(handler: Handler) -> bool:
        nonlocal now, most
        if "range" not in handler.headers:
            return False
        with lock:
            now += 1
            most = max(most, now)
        if not barrier.broken:
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(5)
        damage = handler.do_GET()  # answered here, so that the count ends after it
        with lock:
            now -= 1
        return damage is None

    api.fail("GET", "/object/x", count, times=1000)
    threading.Timer(0.5, barrier.abort).start()
    assert run("get", "x", "out", "--parallel", "3").code == 0
    assert Path("out").read_bytes() == BODY * 2
    assert most == 3
