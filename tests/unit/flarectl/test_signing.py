"""Every call is signed when an access key is set: bodies too, whether their digest is known before or not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from flarectl import settings
from flared.access.signing import (
    CHUNKS_IN_TRAILER,
    IN_TRAILER,
    is_link_signed_by,
    is_signed_by,
    is_trailer_signed_by,
    parse_claim,
    parse_link,
)
from tests.unit.flarectl.conftest import KIB, Run

if TYPE_CHECKING:
    from tests.support.fake_api import FakeApi

ID = "FLABCDEFGHIJKLMNOPQR"
SECRET = "S3cret-" + "x" * 33


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLARE_ACCESS_KEY", ID)
    monkeypatch.setenv("FLARE_SECRET_KEY", SECRET)


def test_every_call_is_signed_and_none_twice(api: FakeApi, run: Run, tree: Path) -> None:
    large = Path("large")
    large.write_bytes(bytes(3000 * KIB))
    for words in (
        ["put", "-r", "tree", "large", ":"], ["ls", "-l"], ["stat", "large", "--chunks"], ["cp", "large", "copy"],
        ["get", "large", "out"], ["cat", "large"], ["mv", "copy", "other"], ["rm", "large"], ["bucket", "ls"],
        ["bucket", "create", "photos"], ["status"],
    ):  # fmt: skip
        assert run(*words).code == 0, words
    assert len(api.requests) > 15
    for method, target, fields in api.requests:
        path, _, query = target.partition("?")
        claim = parse_claim(fields)
        assert claim.access_key == ID
        assert is_signed_by(SECRET, claim, method, path, query, fields), (method, target, fields)
        assert "authorization" not in fields
    assert len({fields["x-fs-signature"] for _, _, fields in api.requests}) == len(api.requests)


def test_the_digest_of_a_large_body_follows_it(api: FakeApi, run: Run) -> None:
    large, small = Path("large"), Path("small")
    large.write_bytes(bytes(range(256)) * 8 * KIB)
    small.write_bytes(b"small")
    assert run("put", "large", "small", ":").code == 0
    assert api.read("large") == large.read_bytes()
    heads = {target.rpartition("/")[2]: fields for method, target, fields in api.requests if method == "PUT"}
    assert heads["small"]["x-fs-content-sha256"] == hashlib.sha256(b"small").hexdigest()
    assert heads["large"]["x-fs-content-sha256"] == CHUNKS_IN_TRAILER
    [trailer] = api.trailers
    digest = hashlib.sha256(b"".join(api.objects["default", "large"].digests)).hexdigest()
    assert is_trailer_signed_by(SECRET, heads["large"]["x-fs-signature"], trailer, digest, by_chunks=True)


def test_where_the_chunk_size_is_not_known_the_whole_is_signed(api: FakeApi, run: Run) -> None:
    large = Path("large")
    large.write_bytes(bytes(range(256)) * 8 * KIB)
    api.hidden.add("default")
    assert run("put", "large", ":").code == 0
    [head] = [fields for method, _, fields in api.requests if method == "PUT"]
    assert head["x-fs-content-sha256"] == IN_TRAILER
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    assert is_trailer_signed_by(SECRET, head["x-fs-signature"], api.trailers[0], digest)


def test_without_a_key_bodies_have_a_length(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLARE_ACCESS_KEY", "FLARE_SECRET_KEY"):
        monkeypatch.delenv(name)
    Path("large").write_bytes(bytes(2048 * KIB))
    assert run("put", "large", ":").code == 0
    [fields] = [fields for method, _, fields in api.requests if method == "PUT"]
    assert fields["content-length"] == str(2048 * KIB)


def test_a_refusal_says_what_to_do(api: FakeApi, run: Run) -> None:
    message = "the clock that signed this call is 8 minutes behind the clock of the api node"
    api.answer_with("GET", "/bucket", 401, "ClockSkewed", message=message)
    done = run("bucket", "ls")
    assert done.code == 6
    assert message in done.err
    assert "timedatectl" in done.err


def opened(url: str, method: str) -> bool:
    parts = urlsplit(url)
    link = parse_link(parts.query)
    assert link.access_key == ID
    return is_link_signed_by(SECRET, link, method, parts.path)


def test_a_link_opens_its_object(api: FakeApi, run: Run) -> None:
    api.store("a b/ü", b"x")
    done = run("share", "a b/ü")
    assert done.code == 0
    url = done.out.strip()
    assert url.startswith(f"{api.endpoint}/bucket/default/object/a%20b/%C3%BC?x-fs-access-key={ID}&")
    assert opened(url, "GET")
    assert not opened(url, "PUT")
    assert "leads to this machine only" in done.err


def test_a_link_names_the_api_node_as_others_reach_it(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api.store("a", b"x")
    monkeypatch.setenv("FLARE_PUBLIC_ENDPOINT", "https://files.example")
    done = run("share", "a")
    assert done.out.startswith("https://files.example/bucket/default/object/a?")
    assert not done.err
    assert opened(done.out.strip(), "GET")
    monkeypatch.setenv("FLARE_PUBLIC_ENDPOINT", "files")
    assert run("share", "a").code == 2


def test_a_link_to_put_needs_no_object(api: FakeApi, run: Run) -> None:
    done = run("share", "--put", "new", "--json", "--expires", "7d")
    record = json.loads(done.out)
    assert opened(record["url"], "PUT")
    assert (record["method"], record["key"]) == ("PUT", "new")
    assert not api.requests


def test_what_cannot_be_shared_is_refused(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("share", "none").code == 4
    api.store("photos/a", b"x")
    assert run("share", "photos").code == 2
    assert run("share", "photos/a", "--expires", "8d").code == 2
    assert run("share", "photos/a", "--expires", "soon").code == 2
    assert run("share", "default:").code == 2
    assert run("share", "--put", "a/../b").code == 6
    monkeypatch.delenv("FLARE_ACCESS_KEY")
    monkeypatch.delenv("FLARE_SECRET_KEY")
    done = run("share", "photos/a")
    assert done.code == 2
    assert "flarectl config set access_key" in done.err
    assert settings.find_setting("access_key") is None
