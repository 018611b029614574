"""Bucket and key come from the path or from the Host field, as they were sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.api.router import Refusal, Route
from flared.api.s3.routes import S3Router
from flared.http.messages import EMPTY_BODY, Request

ROUTER, WITH_DOMAIN = S3Router(), S3Router("s3.Example.com")


def request(method: str, path: str, query: str = "", host: str = "h", **fields: str) -> Request:
    head = {name.replace("_", "-"): value for name, value in fields.items()} | {"host": host}
    return Request(method, path, query, head, EMPTY_BODY, "10.0.0.1:1")


@pytest.mark.parametrize(
    ("path", "host", "bucket", "key"),
    [
        ("/", "h", None, ""),
        ("/b", "h", "b", ""),
        ("/b/", "h", "b", ""),
        ("/b/k", "h", "b", "k"),
        ("/b//k", "h", "b", "/k"),
        ("/b/../k", "h", "b", "../k"),
        ("/b/%2Fk+", "h", "b", "%2Fk+"),
        ("/", "s3.example.com", None, ""),
        ("/b/k", "s3.example.com:8333", "b", "k"),
        ("/b/k", "10.0.0.1:8333", "b", "k"),
        ("/b/k", "[::1]:8333", "b", "k"),
        ("/", "b.s3.example.com", "b", ""),
        ("/k", "b.s3.example.com:8333", "b", "k"),
        ("//k/", "a.b.S3.example.COM", "a.b", "/k/"),
        ("/k", "bs3.example.com", "k", ""),
    ],
)
def test_bucket_and_key(path: str, host: str, bucket: str | None, key: str) -> None:
    found = WITH_DOMAIN.find_call(request("HEAD" if bucket else "GET", path, host=host))
    if isinstance(found, Route):
        assert (found.raw_bucket, found.raw_key) == (bucket, key)
    else:
        assert key, "objects may still be without a call of their own"


TEXTS = st.text(st.characters(max_codepoint=255), max_size=30)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_every_request_has_an_answer(method: str, path: str, query: str, host: str) -> None:
    for router in (ROUTER, WITH_DOMAIN):
        assert isinstance(router.find_call(request(method, f"/{path}", query, host)), Route | Refusal)
