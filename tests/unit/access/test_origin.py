"""The origin of a request: a program, a page of ours, or a page of another site."""

from __future__ import annotations

import pytest

from flared.access.origin import foreign_reason, is_own_host

NAMES = frozenset({"storage.example.com", "box"})
HOST = "localhost:8000"
LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("", True),
        ("localhost", True),
        ("LocalHost:8000", True),
        ("localhost.:8000", True),
        ("a.localhost:1", True),
        ("127.0.0.1", True),
        ("10.0.0.5:8000", True),
        ("[::1]:8000", True),
        ("[2001:db8::1]", True),
        ("storage.example.com", True),
        ("STORAGE.example.com:443", True),
        ("storage.example.com.:443", True),
        ("box:8000", True),
        ("box:", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("notlocalhost", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:8000", False),
        ("box.evil.example", False),
        ("storage.example.com.evil.example", False),
        ("2130706433", False),
        ("0x7f.1", False),
        ("[::1].evil.example", False),
        ("[storage.example.com]", False),
        ("a@box", False),
        ("box, evil.example", False),
        ("box evil", False),
        ("::1", False),
        ("[]", False),
        (":8000", False),
    ],
)
def test_hosts(host: str, ours: bool) -> None:
    assert is_own_host(host, NAMES) is ours


@pytest.mark.parametrize(
    ("method", "fields", "word"),
    [
        # programs
        ("PUT", {}, ""),
        ("PUT", {"host": HOST}, ""),
        ("POST", {"host": "127.0.0.1:8000", "content-type": "text/plain"}, ""),
        # our own pages, and addresses that somebody typed
        ("POST", {"host": HOST, "origin": "http://localhost:8000"}, ""),
        ("POST", {"host": "BOX", "origin": "https://box"}, ""),
        ("GET", {"host": HOST, "sec-fetch-site": "none", **LINK}, ""),
        ("PUT", {"host": HOST, "origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}, ""),
        # a link that somebody followed
        ("GET", {"host": HOST, "sec-fetch-site": "cross-site", **LINK}, ""),
        # names made to lead to us
        ("GET", {"host": "evil.example:8000"}, "'hosts'"),
        ("PUT", {"host": "evil.example:8000", "origin": "http://evil.example:8000"}, "'hosts'"),
        # forms and scripts of other pages
        ("POST", {"host": HOST, "origin": "http://evil.example"}, "evil.example"),
        ("POST", {"host": HOST, "origin": "null"}, "null"),
        ("POST", {"host": HOST, "origin": ""}, "web page"),
        ("POST", {"host": HOST, "origin": "http://localhost:3000"}, "localhost:3000"),
        ("POST", {"host": HOST, "origin": "http://localhost"}, "http://localhost"),
        ("POST", {"host": HOST, "origin": "file://localhost:8000"}, "file:"),
        ("POST", {"host": HOST, "origin": "http://localhost:8000.evil.example"}, "evil.example"),
        ("GET", {"host": HOST, "origin": "http://evil.example"}, "evil.example"),
        ("POST", {"origin": "http://evil.example"}, "evil.example"),
        ("GET", {"host": HOST, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "cross-site"),
        ("GET", {"host": HOST, "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, "same-site"),
        ("GET", {"host": HOST, "sec-fetch-site": "cross-site", **LINK, "sec-fetch-dest": "iframe"}, "cross-site"),
        ("POST", {"host": HOST, "sec-fetch-site": "cross-site", **LINK}, "cross-site"),
        ("DELETE", {"host": HOST, "sec-fetch-site": "other"}, "other"),
    ],
)
def test_calls(method: str, fields: dict[str, str], word: str) -> None:
    reason = foreign_reason(method, fields, NAMES)
    assert word in reason
    assert bool(reason) is bool(word)
