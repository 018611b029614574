"""The whole table: identity x action x setting; then what a context changes."""

from __future__ import annotations

from itertools import product

import pytest

from flared.access.authorize import (
    ANY_ORIGIN,
    EVERYTHING,
    GRANTS,
    METRICS_ELSEWHERE,
    PROVED,
    SHUT,
    Action,
    Context,
    Policy,
    authorize,
)
from flared.access.authorize import WRONG_SECRET as WRONG_SECRET_SENTENCE
from flared.access.identity import ANONYMOUS, CLUSTER, LOCAL, WRONG_SECRET, Identity
from flared.access.keys import Keyring
from flared.errors import Forbidden, Unauthenticated
from flared.http.eviction import Standing
from flared.names import BucketName, ObjectKey, ObjectName

NAME = ObjectName(BucketName("photos"), ObjectKey("a"))
KEYRING = Keyring([b"the secret of it"])

OBJECT_READS = {Action.READ, Action.LIST, Action.LIST_BUCKETS}
OBJECT_WRITES = {Action.WRITE, Action.DELETE, Action.CREATE_BUCKET, Action.REMOVE_BUCKET}
# What a stranger of another machine gets, by setting: written out, not derived from the tables under test.
ALLOWED: dict[str, set[Action]] = {
    "none": {Action.HEALTH, Action.JOIN, Action.UNKNOWN_OPEN},
    "read": {Action.HEALTH, Action.JOIN, Action.UNKNOWN_OPEN, Action.STATUS, Action.UNKNOWN_READ} | OBJECT_READS,
}
ALLOWED["read-write"] = ALLOWED["read"] | OBJECT_WRITES | {Action.UNKNOWN_WRITE}


def context(word: str, *, local: bool = False, foreign: str = "", guarded: bool = True) -> Context:
    return Context(local, foreign, GRANTS[word] if guarded else EVERYTHING, guarded)


def verdict(identity: Identity, action: Action, where: Context) -> str:
    try:
        return authorize(identity, action, NAME, where).name
    except (Unauthenticated, Forbidden) as error:
        return f"{error.code}: {error}"


@pytest.mark.parametrize(("word", "action"), list(product(GRANTS, Action)))
def test_what_a_stranger_may_do_is_the_setting(word: str, action: Action) -> None:
    where = context(word)
    found, claimed = verdict(ANONYMOUS, action, where), verdict(WRONG_SECRET, action, where)
    if action in ALLOWED[word]:
        open_call = action in ALLOWED["none"]
        assert found == claimed == ("STRANGER" if open_call else "GUEST")
    elif action is Action.HEARTBEAT or (action is Action.INVITE and word == "read-write"):
        assert found == claimed == f"Unauthenticated: {PROVED[action]}"
    elif action is Action.METRICS and word != "none":
        assert found == claimed == f"Unauthenticated: {METRICS_ELSEWHERE}"
    else:
        assert found == f"Unauthenticated: {SHUT}"
        assert claimed == f"Unauthenticated: {WRONG_SECRET_SENTENCE}"


@pytest.mark.parametrize(("word", "action"), list(product(GRANTS, Action)))
def test_this_machine_may_do_all_but_what_takes_the_secret(word: str, action: Action) -> None:
    found = verdict(LOCAL, action, context(word, local=True))
    assert found == (f"Unauthenticated: {PROVED[action]}" if action in PROVED else "TRUSTED")


@pytest.mark.parametrize(("word", "action"), list(product(GRANTS, Action)))
def test_a_holder_of_the_secret_may_do_everything_from_everywhere(word: str, action: Action) -> None:
    assert verdict(CLUSTER, action, context(word, local=True, foreign="a page asks")) == "TRUSTED"
    away = verdict(CLUSTER, action, context(word, foreign="a page asks"))
    assert away == (f"Unauthenticated: {METRICS_ELSEWHERE}" if action is Action.METRICS else "TRUSTED")


@pytest.mark.parametrize(("word", "action"), list(product(GRANTS, Action)))
def test_a_foreign_page_may_do_nothing_that_needs_no_secret(word: str, action: Action) -> None:
    for identity, local in ((LOCAL, True), (ANONYMOUS, False), (WRONG_SECRET, False)):
        found = verdict(identity, action, context(word, local=local, foreign="a page asks"))
        if action in ANY_ORIGIN:
            assert found in ("TRUSTED", "STRANGER")
        else:
            assert found.startswith(("Forbidden: a page asks", "Unauthenticated"))
            assert found.startswith("Forbidden") or not local


@pytest.mark.parametrize("action", list(Action))
def test_without_a_secret_everything_is_granted_but_not_to_pages(action: Action) -> None:
    open_call = action in {Action.HEALTH, Action.JOIN, Action.HEARTBEAT, Action.UNKNOWN_OPEN}
    found = verdict(ANONYMOUS, action, context("none", guarded=False))
    if action is Action.METRICS:
        assert found == f"Unauthenticated: {METRICS_ELSEWHERE}"
    else:
        assert found == ("STRANGER" if open_call else "GUEST")
    assert verdict(LOCAL, action, context("none", local=True, guarded=False)) == "TRUSTED"
    if action not in ANY_ORIGIN:
        assert verdict(ANONYMOUS, action, context("none", foreign="a page asks", guarded=False)).startswith("Forbidden")


def test_a_policy_makes_the_context() -> None:
    policy = Policy(KEYRING, GRANTS["read"], frozenset({"storage.example"}))
    named = policy.context("GET", "10.0.0.7:1", {"host": "storage.example:8000"})
    assert named == Context(local=False, foreign="", granted=GRANTS["read"], guarded=True)
    assert "is not a name of this node" in policy.context("GET", "10.0.0.7:1", {"host": "evil.example"}).foreign
    page = {"host": "localhost:8000", "origin": "http://evil.example"}
    assert "a web page of" in policy.context("PUT", "127.0.0.1:1", page).foreign
    assert policy.context("GET", "127.0.0.1:1", {}).local
    empty = Policy(Keyring(), GRANTS["none"]).context("GET", "127.0.0.1:1", {})
    assert (empty.granted, empty.guarded) == (EVERYTHING, False)


def test_the_operators_calls_are_never_granted() -> None:
    assert all(Action.OPERATE not in granted and Action.HEARTBEAT not in granted for granted in GRANTS.values())
    assert authorize(CLUSTER, Action.OPERATE, None, context("none")) is Standing.TRUSTED


def test_a_refusal_names_the_grant_that_was_lacking() -> None:
    with pytest.raises(Unauthenticated) as shut:
        authorize(ANONYMOUS, Action.WRITE, NAME, context("read"))
    with pytest.raises(Forbidden) as foreign:
        authorize(LOCAL, Action.DELETE, NAME, context("none", local=True, foreign="a page asks"))
    assert (shut.value.lacking, foreign.value.lacking) == ("object:write", "object:delete")
