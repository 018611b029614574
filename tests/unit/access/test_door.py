from __future__ import annotations

import pytest

from flared.access.door import ANONYMOUS, Door
from flared.access.keys import API_AUDIENCE, Keyring, authorization, node_token
from flared.errors import Forbidden, Unauthenticated
from flared.http.eviction import Standing

HERE = "127.0.0.1:5"
AWAY = "10.0.0.7:4711"
KEYRING = Keyring([b"the secret"])
TOKEN = node_token(b"the secret", API_AUDIENCE)
FOREIGN = ({"host": "evil.example"}, {"host": "localhost:8000", "origin": "http://evil.example"})


def admits(door: Door, method: str, path: str, peer: str, proof: str | None) -> bool:
    try:
        door.check(method, path, peer, {"host": "10.0.0.1:8000"} | ({"authorization": proof} if proof else {}))
    except Unauthenticated:
        return False
    return True


@pytest.mark.parametrize(
    ("word", "methods"),
    [("none", ()), ("read", ("GET", "HEAD")), ("read-write", ("GET", "HEAD", "PUT", "POST", "DELETE"))],
)
def test_everybody_else_may_do_what_the_setting_says(word: str, methods: tuple[str, ...]) -> None:
    door = Door(KEYRING, ANONYMOUS[word])
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        assert admits(door, method, "/object/a", AWAY, None) is (method in methods)


def test_this_machine_and_whoever_has_the_secret_may_do_everything() -> None:
    door = Door(KEYRING, ANONYMOUS["none"])
    for peer in ("127.0.0.1:5", "127.8.8.8:5", "[::1]:5"):
        assert admits(door, "PUT", "/object/a", peer, None)
    assert admits(door, "PUT", "/object/a", AWAY, authorization(TOKEN))
    for wrong in (None, "", TOKEN, authorization("0" * 64), authorization(TOKEN) + " "):
        assert not admits(door, "PUT", "/object/a", AWAY, wrong)
    for peer in ("[::1:2]:5", "[::ffff:127.0.0.1]:5", "1127.0.0.1:5"):
        assert not admits(door, "GET", "/object/a", peer, None)


def test_health_and_heartbeats_pass() -> None:
    door = Door(KEYRING, ANONYMOUS["none"])
    assert admits(door, "GET", "/healthz", AWAY, None)
    assert admits(door, "POST", "/cluster/heartbeat", AWAY, None)
    assert admits(door, "POST", "/cluster/join", AWAY, None)
    assert not admits(door, "POST", "/cluster/invite", AWAY, None)
    assert not admits(door, "GET", "/status", AWAY, None)
    assert not admits(door, "GET", "/metrics", AWAY, None)


@pytest.mark.parametrize("fields", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
def test_a_foreign_page_may_do_nothing_that_needs_no_secret(method: str, fields: dict[str, str]) -> None:
    for keyring in (KEYRING, Keyring()):
        door = Door(keyring, ANONYMOUS["read-write"], frozenset({"storage.example"}))
        for path in ("/object/a", "/status", "/cluster/heartbeat", "/cluster/node", "/metrics"):
            for peer in (HERE, AWAY) if keyring.secrets and path != "/cluster/node" else (HERE,):
                with pytest.raises(Forbidden):
                    door.check(method, path, peer, fields)
                door.check(method, path, peer, {"host": "storage.example:8000"})
        door.check(method, "/cluster/join", HERE, fields)
        door.check(method, "/healthz", HERE, fields)


def test_who_brings_the_secret_may_call_us_by_any_name() -> None:
    door = Door(KEYRING, ANONYMOUS["read-write"])
    for fields in FOREIGN:
        for peer in (HERE, AWAY):
            door.check("PUT", "/object/a", peer, fields | {"authorization": authorization(TOKEN)})
            with pytest.raises(Forbidden):
                door.check("PUT", "/object/a", peer, fields | {"authorization": authorization("0" * 64)})
    with pytest.raises(Forbidden):  # no secret proves nothing
        Door(Keyring(), ANONYMOUS["none"]).check("PUT", "/object/a", HERE, FOREIGN[0] | {"authorization": "Flare 0"})


def test_what_a_call_proves() -> None:
    door = Door(KEYRING, ANONYMOUS["read"])
    proof = {"host": "10.0.0.1", "authorization": authorization(TOKEN)}
    assert door.check("GET", "/object/a", HERE, {}) is Standing.TRUSTED
    assert door.check("PUT", "/object/a", AWAY, proof) is Standing.TRUSTED
    assert door.check("GET", "/object/a", AWAY, {}) is Standing.GUEST
    for path in ("/healthz", "/cluster/join", "/cluster/heartbeat"):
        assert door.check("POST", path, AWAY, {}) is Standing.STRANGER
