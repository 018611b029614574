"""flarectl key: what it asks of the api node, and where a secret goes."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flarectl import access
from flarectl.answers import Key, parse_key, parse_keys
from flarectl.credentials import new_credentials_file
from flarectl.errors import NotFound, Refusal, Usage

if TYPE_CHECKING:
    from tests.support.fake_api import FakeApi
    from tests.unit.flarectl.conftest import Run

SECRET = "s" * 40
KEY: dict[str, object] = {
    "name": "laptop", "id": "FL" + "A" * 18, "state": "works", "grants": ["read:photos", "admin"], "created": 1.5,
    "expires": None, "used": 100.0, "replaced": [{"id": "FL" + "B" * 18, "created": 1, "until": 9.0}],
}  # fmt: skip


def test_a_new_key_is_asked_for_with_its_grants_and_shown_with_its_secret(api: FakeApi, run: Run) -> None:
    api.key = {**KEY, "secret": SECRET}
    done = run(
        "key", "create", "laptop", "--read", "photos", "--read", "logs-*/a b", "--write", "photos/2024/", "--create",
        "*", "--admin",
    )  # fmt: skip
    assert done.code == 0
    assert done.out.splitlines() == ["name    laptop", f"id      {KEY['id']}", f"secret  {SECRET}"]
    assert "shown this once" in done.err
    assert SECRET not in done.err
    assert api.bodies == [
        {
            "name": "laptop",
            "grants": ["admin", "read:photos", "read:logs-*/a b", "write:photos/2024/", "create:*"],
            "expires": None,
        }
    ]


def test_a_file_gets_the_secret_and_the_terminal_does_not(api: FakeApi, run: Run) -> None:
    api.key = {**KEY, "secret": SECRET}
    for command in (["key", "create", "laptop", "-o", "one"], ["key", "rotate", "laptop", "-o", "two", "--json"]):
        done = run(*command)
        assert done.code == 0
        assert SECRET not in done.out + done.err
    for name in ("one", "two"):
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
        assert SECRET in Path(name).read_text()
    done = run("key", "create", "laptop", "-o", "one")
    assert (done.code, "exists already" in done.err) == (6, True)
    assert len(api.bodies) == 2, "no key was made"


def test_a_file_that_got_no_secret_is_gone(run: Run) -> None:
    with pytest.raises(ValueError, match="refused"), new_credentials_file("here"):
        raise ValueError("refused")
    assert not Path("here").exists()
    with pytest.raises(NotFound), new_credentials_file("nowhere/here"):
        pass


def test_keys_are_listed_and_shown(api: FakeApi, run: Run) -> None:
    api.key = KEY
    head, line = run("key", "ls").out.splitlines()
    assert head.split() == ["NAME", "ID", "STATE", "USED", "GRANTS"]
    assert line.split()[:3] == ["laptop", KEY["id"], "works"]
    assert line.endswith(" d ago  read:photos, admin")
    assert json.loads(run("key", "ls", "--json").out)["grants"] == ["read:photos", "admin"]
    shown = run("key", "show", "laptop").out
    assert "read:photos" in shown
    assert "FL" + "B" * 18 in shown
    assert run("key", "rm", "laptop").out == "key laptop removed\n"


def test_a_missing_key_is_not_found(api: FakeApi, run: Run) -> None:
    done = run("key", "show", "laptop")
    assert (done.code, "there is no key named laptop" in done.err) == (4, True)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--read", "Photos"], "--read"),
        (["--create", "a-b/c"], "--create"),
        (["--write", "photos/*"], "--write"),
        (["--expires", "soon"], "--expires"),
        (["--expires", "2020-01-31"], "has passed"),
        (["--expires", "2027-02-31"], "no such date"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    api: FakeApi, run: Run, options: list[str], word: str
) -> None:
    done = run("key", "create", "laptop", *options)
    assert (done.code, word in done.err) == (2, True)
    assert run("key", "rotate", "laptop", "--grace", "soon").code == 2
    assert api.requests == []


def test_an_expiry_is_a_span_or_a_date() -> None:
    now = time.time()
    assert access.parse_expires("12h", now) == now + 43200
    assert access.parse_expires("2100-01-31T12:00Z", now) == 4105080000.0
    assert access.parse_expires("2100-01-31 12:00:00+01:00", now) == 4105076400.0
    assert 0 <= access.parse_grace("0") < access.parse_grace("1s")


def test_only_what_is_a_key_is_taken_for_one() -> None:
    assert parse_key(KEY) == Key(
        "laptop", "FL" + "A" * 18, "works", ("read:photos", "admin"), 1.5, None, (("FL" + "B" * 18, 9.0),), "", 100.0
    )
    for answer in (None, [], {}, {**KEY, "id": 5}, {**KEY, "replaced": [5]}):
        with pytest.raises(Refusal):
            parse_key(answer)
        with pytest.raises(Refusal):
            parse_keys({"keys": [answer]})


def test_where_a_secret_can_be_overheard() -> None:
    assert access.is_overheard("http://10.0.0.1:8000")
    assert not access.is_overheard("https://10.0.0.1:8000")
    assert not access.is_overheard("http://127.0.0.1:8000")
    with pytest.raises(Usage):
        access.parse_grace("-1s")


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (["--public"], {"public": True}),
        (["--public", "--public-list", "--owner", "laptop"], {"public": True, "acl": "public-read", "owner": "laptop"}),
        (["--private", "--owner", "-"], {"public": False, "acl": "private", "owner": ""}),
    ],
)
def test_a_bucket_is_opened_and_closed(
    api: FakeApi, run: Run, arguments: list[str], changes: dict[str, object]
) -> None:
    assert run("bucket", "set", "default", *arguments).out == "bucket default changed\n"
    assert api.bodies == [changes]
    assert run("bucket", "set", "default").code == 2
    assert run("bucket", "set", "default", "--private", "--public").code == 2
    assert len(api.bodies) == 1
