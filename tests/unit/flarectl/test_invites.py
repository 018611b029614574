from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from flarectl import invites
from flarectl.answers import Invite, parse_invite
from flarectl.errors import Refusal, Usage
from flared.access.invites import is_of_cluster, parse_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = b"0123456789abcdef"
LOCAL = "http://127.0.0.1:8000"


def made(listen: str, node: str = "") -> Invite:
    return Invite("0" * 32, 1.0, node, "c", listen)


@pytest.mark.parametrize(
    ("listen", "endpoint", "named", "apis"),
    [
        ("10.0.0.1:8000", LOCAL, (), ["http://10.0.0.1:8000"]),
        ("api.example.net:8000", "http://10.0.0.9:8000", (), ["http://api.example.net:8000"]),
        ("0.0.0.0:8000", "http://10.0.0.9:8001", (), ["http://10.0.0.9:8001"]),
        ("[::]:8000", "http://[fd00::1]:8000", (), ["http://[fd00::1]:8000"]),
        ("0.0.0.0:8000", LOCAL, (), ["http://192.0.2.7:8000"]),
        ("[::]:8000", "http://localhost:8000", (), ["http://[2001:db8::7]:8000"]),
        ("127.0.0.1:8000", LOCAL, ("http://a:1", "http://b:2"), ["http://a:1", "http://b:2"]),
    ],
)
def test_a_token_names_what_other_hosts_reach(
    monkeypatch: pytest.MonkeyPatch, listen: str, endpoint: str, named: tuple[str, ...], apis: list[str]
) -> None:
    def own(name: str, port: None, family: int, kind: int) -> list[tuple[object, ...]]:
        six = family == socket.AF_INET6
        addresses = ("fe80::1%eth0", "2001:db8::7") if six else ("127.0.1.1", "192.0.2.7")
        return [(family, kind, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(invites.socket, "getaddrinfo", own)
    word, listed = invites.make_token(made(listen, "data1"), SECRET, endpoint, invites.parse_apis(named))
    token = parse_token(word)
    assert (list(token.apis), list(listed), token.node) == (apis, apis, "data1")
    assert is_of_cluster(token, [SECRET])


@pytest.mark.parametrize("listen", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_an_address_that_is_each_host_itself_is_refused(listen: str) -> None:
    with pytest.raises(Refusal, match="no other host reaches it"):
        invites.make_token(made(listen), SECRET, "http://10.0.0.9:8000", ())
    assert invites.is_local(f"http://{listen}")


def test_times_have_units_and_an_end() -> None:
    assert [invites.parse_valid(text) for text in ("90s", "30min", "1h", "7d")] == [90, 1800, 3600, 604800]
    for text in ("", "1", "0h", "8d", "1.5h", "h", "-1h", "1 week", "9999999999d"):
        with pytest.raises(Usage, match="--valid"):
            invites.parse_valid(text)


def test_the_secret_of_this_host_is_found_when_nothing_else_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., object]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(invites, "OUR_SECRET", str(tmp_path / "ours"))
    with pytest.raises(Usage, match="as root on the api node's host"):
        invites.find_secret()
    for name, text in (("ours", "0123456789abcdef\n"), ("said", "said-secret-0123\nits-next-one-0123\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    assert invites.find_secret() == SECRET
    monkeypatch.setenv("FLARE_SECRET_FILE", str(tmp_path / "said"))
    assert invites.find_secret() == b"said-secret-0123"


def test_what_is_no_invite_is_refused() -> None:
    good = {"invite": "0" * 32, "expires": 1.5, "node": "", "cluster": "c", "listen": "h:1"}
    assert parse_invite(good) == Invite("0" * 32, 1.5, "", "c", "h:1")
    for answer in (None, {}, {**good, "invite": "x"}, {**good, "expires": "soon"}):
        with pytest.raises(Refusal):
            parse_invite(answer)
