from __future__ import annotations

import pytest

from flared.access.door import ANONYMOUS, Door
from flared.access.keys import API_AUDIENCE, Keyring, authorization, node_token

AWAY = "10.0.0.7:4711"
KEYRING = Keyring([b"the secret"])
TOKEN = node_token(b"the secret", API_AUDIENCE)


@pytest.mark.parametrize(
    ("word", "methods"),
    [("none", ()), ("read", ("GET", "HEAD")), ("read-write", ("GET", "HEAD", "PUT", "POST", "DELETE"))],
)
def test_everybody_else_may_do_what_the_setting_says(word: str, methods: tuple[str, ...]) -> None:
    door = Door(KEYRING, ANONYMOUS[word])
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        assert door.admits(method, "/object/a", AWAY, None) is (method in methods)


def test_this_machine_and_whoever_has_the_secret_may_do_everything() -> None:
    door = Door(KEYRING, ANONYMOUS["none"])
    for peer in ("127.0.0.1:5", "127.8.8.8:5", "[::1]:5"):
        assert door.admits("PUT", "/object/a", peer, None)
    assert door.admits("PUT", "/object/a", AWAY, authorization(TOKEN))
    for wrong in (None, "", TOKEN, authorization("0" * 64), authorization(TOKEN) + " "):
        assert not door.admits("PUT", "/object/a", AWAY, wrong)
    for peer in ("[::1:2]:5", "[::ffff:127.0.0.1]:5", "1127.0.0.1:5"):
        assert not door.admits("GET", "/object/a", peer, None)


def test_health_and_heartbeats_pass() -> None:
    door = Door(KEYRING, ANONYMOUS["none"])
    assert door.admits("GET", "/healthz", AWAY, None)
    assert door.admits("POST", "/cluster/heartbeat", AWAY, None)
    assert door.admits("POST", "/cluster/join", AWAY, None)
    assert not door.admits("POST", "/cluster/invite", AWAY, None)
    assert not door.admits("GET", "/status", AWAY, None)
    assert not door.admits("GET", "/metrics", AWAY, None)
