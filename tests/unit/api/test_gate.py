"""What every caller passes beside authorize: limits on requests, the audit of changes and refusals."""

from __future__ import annotations

import json
import logging
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from flared.access.access_key import AccessKey
from flared.access.authorize import Action, Context
from flared.access.bucket_access import CLOSED
from flared.access.grants import parse_grants
from flared.access.identity import ANONYMOUS, CLUSTER, LOCAL, Identity, key_identity
from flared.access.limits import RateLimit
from flared.api.audit import audit, set_up_audit
from flared.api.callers import Caller
from flared.api.gate import FAILURES_BURST, LINES_BURST, Gate, GateSettings, claimed_key
from flared.api.router import Call
from flared.errors import ConfigError, Forbidden, SlowDown, Unauthenticated
from flared.http.messages import EMPTY_BODY, Request
from flared.names import BucketName, ObjectKey, ObjectName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = ObjectName(BucketName("photos"), ObjectKey("a\nb"))
KEY_ID = "FL" + "A" * 18
REMOVE = Call("native", "remove_bucket", Action.REMOVE_BUCKET)
PUT = Call("native", "put_object", Action.WRITE)
SHOW_KEYS = Call("admin", "show_keys", Action.KEYS)


def key_of(name: str) -> Identity:
    return key_identity(AccessKey(KEY_ID, name, "s" * 40, parse_grants(["read:*"])))


def caller(identity: Identity, peer: str = "10.0.0.7:4711") -> Caller:
    return Caller(identity, Context(False, "", frozenset(), True, lambda _: CLOSED), peer, ())


def request(
    identity: Identity | None, method: str = "PUT", peer: str = "10.0.0.7:4711", query: str = "", **fields: str
) -> Request:
    made = Request(method, "/bucket/photos/object/a", query, fields, EMPTY_BODY, peer)
    made.caller = caller(identity, peer) if identity else None
    return made


class Scene:
    def __init__(self, **settings: int) -> None:
        self.seconds = 100.0
        self.gate = Gate(GateSettings(**settings), lambda: self.seconds)  # type: ignore[arg-type]  # bool is int

    def admitted(self, identity: Identity, peer: str = "10.0.0.7:4711", count: int = 10) -> int:
        """How many of so many requests are let in."""
        for number in range(count):
            try:
                self.gate.admit(caller(identity, peer))
            except SlowDown:
                return number
        return count


def test_without_settings_nothing_is_counted() -> None:
    scene = Scene()
    assert not scene.gate.limits
    assert scene.admitted(key_of("laptop"), count=1000) == 1000


def test_requests_of_a_key_are_limited_wherever_they_come_from() -> None:
    scene = Scene(requests_per_key=3)
    assert scene.gate.limits
    assert scene.admitted(key_of("laptop")) == 3
    assert scene.admitted(key_of("laptop"), "10.0.0.8:1") == 0
    assert scene.admitted(key_of("desktop")) == 3
    assert scene.admitted(ANONYMOUS) == 10
    scene.seconds += 1
    assert scene.admitted(key_of("laptop")) == 3
    with pytest.raises(SlowDown, match="this access key") as refused:
        scene.gate.admit(caller(key_of("laptop")))
    assert refused.value.retry_after == 1


def test_requests_of_an_address_are_limited_but_not_the_clusters_own() -> None:
    scene = Scene(requests_per_address=4)
    assert scene.admitted(ANONYMOUS) == 4
    assert scene.admitted(key_of("laptop"), "10.0.0.7:99") == 0
    assert scene.admitted(ANONYMOUS, "10.0.0.8:1") == 4
    assert scene.admitted(ANONYMOUS, "[2001:db8::1]:1") == 4
    assert scene.admitted(ANONYMOUS, "[2001:db8::ffff]:1") == 0, "one host has all of a /64"
    assert scene.admitted(CLUSTER) == scene.admitted(LOCAL, "127.0.0.1:1") == 10


def test_limits_change_while_the_node_runs() -> None:
    scene = Scene(requests_per_key=1)
    assert scene.admitted(key_of("laptop")) == 1
    scene.gate.change(GateSettings())
    assert scene.admitted(key_of("laptop")) == 10


def test_what_is_handed_over_is_counted_once() -> None:
    scene = Scene(requests_per_key=2, requests_per_address=2)
    for _ in range(5):
        scene.gate.admit(caller(key_of("laptop")))
        scene.gate.give_back(caller(key_of("laptop")))
    assert scene.admitted(key_of("laptop")) == 2


def refuse(scene: Scene, identity: Identity | None, peer: str, error: Unauthenticated | Forbidden) -> bool:
    """Whether the answer is SlowDown."""
    return isinstance(scene.gate.refuse(request(identity, peer=peer), PUT, None, error, 403), SlowDown)


def test_a_hundred_wrong_keys_a_second_slow_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene, wrong = Scene(), Unauthenticated("wrong")
    late = 0
    for number in range(1000):
        scene.seconds = 100 + number / 100
        late += refuse(scene, None, "10.0.0.66:1", wrong)
    assert 1000 - late == pytest.approx(FAILURES_BURST + 100, abs=2)
    assert len(caplog.messages) == pytest.approx(LINES_BURST + 10, abs=2), "nor fill the log"
    assert "left_out=" in caplog.messages[-1]
    assert not refuse(scene, None, "10.0.0.7:1", wrong)
    assert scene.admitted(key_of("laptop"), "10.0.0.66:1") == 10, "who has a right key behind that address goes on"
    assert not any(refuse(scene, key_of("laptop"), "10.0.0.66:1", Forbidden("no")) for _ in range(1000))
    assert not any(refuse(scene, None, "127.0.0.1:1", wrong) for _ in range(1000))


def test_state_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flared.api.gate.NAMES_MAX", 10)
    scene = Scene()
    scene.gate._lines = RateLimit(1, 1, names_max=10)
    for number in range(100):
        for _ in range(2):
            refuse(scene, None, f"10.0.1.{number}:1", Unauthenticated("wrong"))
    assert len(scene.gate._left_out) <= 10


@contextmanager
def auditing_to(file: Path | None, form: str = "text") -> Iterator[None]:
    set_up_audit(file, form)
    try:
        yield
    finally:
        set_up_audit(None, "text")


def test_a_refusal_says_who_what_from_where_and_what_was_lacking(tmp_path: Path) -> None:
    scene, file = Scene(), tmp_path / "audit"
    with auditing_to(file):
        scene.gate.refuse(request(key_of("laptop")), PUT, NAME, Forbidden("denied", lacking="write:photos/a b"), 403)
        claims = {"x-fs-access-key": KEY_ID}
        scene.gate.refuse(request(None, "GET", **claims), None, None, Unauthenticated("denied"), 401)
    first, second = file.read_text().splitlines()
    assert "event=audit who=key:laptop peer=10.0.0.7:4711 action=object:write call=native.put_object" in first
    assert first.endswith(r"on='photos/a\nb' allowed=no status=403 reason=Forbidden lacking='write:photos/a b'")
    assert "who=unproved peer=10.0.0.7:4711 action=- call=GET on='/bucket/photos/object/a' allowed=no" in second
    assert second.endswith(f"status=401 reason=Unauthenticated key={KEY_ID}")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_changes_are_audited_and_writes_of_objects_if_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    with auditing_to(file, "json"):
        for objects in (0, 1):
            scene = Scene(audit_objects=objects)
            scene.gate.done(request(key_of("laptop"), "DELETE"), REMOVE, NAME.bucket, 204)
            scene.gate.done(request(CLUSTER, "PUT"), PUT, NAME, 201)
            scene.gate.done(request(CLUSTER, "GET", query="name=laptop"), SHOW_KEYS, None, 200)
            created = request(CLUSTER, "POST")
            created.about = "name=laptop"
            scene.gate.done(created, SHOW_KEYS, None, 201)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["who"], line["call"], line["on"], line["allowed"], line["status"]) for line in lines] == [
        ("key:laptop", "native.remove_bucket", "photos", "yes", "204"),
        ("cluster", "admin.show_keys", "name=laptop", "yes", "201"),
        ("key:laptop", "native.remove_bucket", "photos", "yes", "204"),
        ("cluster", "native.put_object", "photos/a\\nb", "yes", "201"),
        ("cluster", "admin.show_keys", "name=laptop", "yes", "201"),
    ]


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    with auditing_to(file):
        audit.info("event=audit number=1")
        os.rename(file, tmp_path / "audit.1")
        audit.info("event=audit number=2")
        set_up_audit(file, "text")
        audit.info("event=audit number=3")
    assert (tmp_path / "audit.1").read_text().count("\n") == 2
    assert file.read_text().endswith("number=3\n")


def test_a_file_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    with auditing_to(tmp_path / "audit"):
        with pytest.raises(ConfigError, match=r"audit\.file"):
            set_up_audit(tmp_path / "nowhere" / "audit", "text")
        audit.info("event=audit number=1")
    assert (tmp_path / "audit").read_text().endswith("number=1\n")


def test_a_full_disk_stops_no_request(caplog: pytest.LogCaptureFixture) -> None:
    from pathlib import Path

    with auditing_to(Path("/dev/full")):
        for _ in range(3):
            audit.info("event=audit number=1")
    assert caplog.text.count("event=audit_not_written") == 1


def test_without_a_file_lines_go_to_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "level", logging.ERROR)
    set_up_audit(None, "text")
    audit.info("event=audit number=1")
    assert caplog.messages == ["event=audit number=1"], "whatever its level is"


@pytest.mark.parametrize(
    ("fields", "query", "found"),
    [
        ({}, "", ""),
        ({"x-fs-access-key": KEY_ID}, "", KEY_ID),
        ({"x-fs-access-key": "FL1\nforged"}, "", ""),
        ({"authorization": f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request, x"}, "", KEY_ID),
        ({}, f"X-Amz-Credential={KEY_ID}%2F20260101", KEY_ID),
        ({}, f"X-Amz-Credential={KEY_ID}Z", ""),
    ],
)
def test_the_key_that_a_request_claims_to_have(fields: dict[str, str], query: str, found: str) -> None:
    assert claimed_key(request(None, query=query, **fields)) == found
