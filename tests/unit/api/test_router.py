"""Every method and path has exactly one meaning, and it is the one that it always had."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.access.authorize import Action
from flared.api.admin.routes import ROUTES as ADMIN
from flared.api.native.routes import ROUTES as NATIVE
from flared.api.router import Methods, Refusal, Route, Router, Routes
from flared.errors import BadMethod, BadName, NoSuchPath

ROUTER = Router([NATIVE, ADMIN])
OBJECT_METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS")
PLAIN = {
    "/bucket": ("GET", "HEAD"),
    "/status": ("GET", "HEAD"),
    "/healthz": ("GET", "HEAD"),
    "/readyz": ("GET", "HEAD"),
    "/metrics": ("GET", "HEAD"),
    "/cluster/failure": ("GET",),
    "/cluster/node": ("GET", "DELETE", "PUT"),
    "/cluster/heartbeat": ("POST",),
    "/cluster/invite": ("POST",),
    "/cluster/join": ("POST",),
    "/cluster/certificate": ("POST",),
    "/cluster/ca": ("GET", "HEAD"),
    "/cluster/key": ("GET", "POST", "PUT", "DELETE"),
    "/cluster/orphans": ("GET", "DELETE"),
    "/cluster/metadata": ("GET", "PUT"),
}


def meaning(method: str, path: str) -> tuple[object, ...]:
    """The routing when the rules were in the api node's handler, copied from there: kind, raw bucket, raw key."""
    if path.startswith("/object/") and len(path) > len("/object/"):
        return by_method(method, OBJECT_METHODS, "", path[len("/object/") :])
    if path == "/object/":
        return by_method(method, ("GET", "HEAD", "POST"), "", "")
    if path.startswith("/bucket/") and len(path) > len("/bucket/"):
        raw_bucket, slash, rest = path[len("/bucket/") :].partition("/")
        if slash and rest and not rest.startswith("object/"):
            return (NoSuchPath,)
        if not raw_bucket:
            return (BadName,)
        raw_key = rest.removeprefix("object/")
        if raw_key:
            return by_method(method, OBJECT_METHODS, raw_bucket, raw_key)
        return by_method(
            method, ("GET", "HEAD", "POST") if rest else ("GET", "HEAD", "PUT", "POST", "DELETE"), raw_bucket, ""
        )
    if path in PLAIN:
        return by_method(method, PLAIN[path], None, "")
    return (NoSuchPath,)


def by_method(method: str, allowed: tuple[str, ...], raw_bucket: str | None, raw_key: str) -> tuple[object, ...]:
    return (Route, raw_bucket, raw_key) if method in allowed else (BadMethod, *allowed)


def check(method: str, path: str) -> None:
    found, expected = ROUTER.find(method, path), meaning(method, path)
    if isinstance(found, Route):
        assert expected == (Route, found.raw_bucket, found.raw_key)
    elif isinstance(found.error, BadMethod):
        assert expected == (BadMethod, *found.error.allowed)
    else:
        assert expected == (type(found.error),)
        assert str(found.error)


methods = st.sampled_from([*OBJECT_METHODS, "PATCH", "OPTIONS", "BREW", "get", ""])
words = st.sampled_from(
    ["", "/", "object", "bucket", "default", "a", "..", "%2F", "\xe4", "cluster", "node", "healthz", "status", "?", "*"]
)
paths = st.one_of(
    st.text(max_size=30),
    st.lists(words, max_size=7).map("/".join).map("/".__add__),
    st.sampled_from(sorted(PLAIN)),
    st.tuples(st.sampled_from(["/object/", "/bucket/", "/bucket/b/object/", "/bucket/b/"]), st.text(max_size=8)).map(
        "".join
    ),
)


@given(methods, paths)
def test_every_path_means_what_it_always_did(method: str, path: str) -> None:
    check(method, path)


@pytest.mark.parametrize(
    "path",
    [
        *PLAIN, "/", "*", "", "/object", "/object/", "/object//", "/object/a", "/objects/a", "//object/a", "/bucket/",
        "/bucket/b", "/bucket/b/", "/bucket//", "/bucket//object/a", "/bucket/b/object", "/bucket/b/object/",
        "/bucket/b/object/a", "/bucket/b/object/a/object/c", "/bucket/b/x", "/bucket/b//object/a", "/status/",
        "/object/../status", "/bucket/b%2Fobject%2Fa", "/cluster", "/cluster/", "/Object/a",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [*OBJECT_METHODS, "PATCH", "OPTIONS", "BREW"])
def test_a_corpus_of_paths(method: str, path: str) -> None:
    check(method, path)


@pytest.mark.parametrize(
    ("method", "path", "name", "action"),
    [
        ("GET", "/object/a", "get_object", Action.READ),
        ("HEAD", "/object/a", "head_object", Action.READ),
        ("PUT", "/object/a", "put_object", Action.WRITE),
        ("POST", "/object/a", "post_object", Action.WRITE),
        ("DELETE", "/bucket/b/object/a", "delete_object", Action.DELETE),
        ("POST", "/object/", "post_form", Action.WRITE),
        ("GET", "/object/", "list_objects", Action.LIST),
        ("GET", "/bucket/b", "list_objects", Action.LIST),
        ("PUT", "/bucket/b", "create_bucket", Action.CREATE_BUCKET),
        ("DELETE", "/bucket/b", "remove_bucket", Action.REMOVE_BUCKET),
        ("GET", "/bucket", "list_buckets", Action.LIST_BUCKETS),
        ("GET", "/status", "status", Action.STATUS),
        ("GET", "/healthz", "health", Action.HEALTH),
        ("GET", "/readyz", "ready", Action.STATUS),
        ("GET", "/metrics", "metrics", Action.METRICS),
        ("GET", "/cluster/failure", "failure_cost", Action.STATUS),
        ("GET", "/cluster/node", "removal_cost", Action.STATUS),
        ("DELETE", "/cluster/node", "remove_node", Action.OPERATE),
        ("PUT", "/cluster/node", "readmit_node", Action.OPERATE),
        ("GET", "/cluster/orphans", "show_orphans", Action.STATUS),
        ("DELETE", "/cluster/orphans", "allow_orphans", Action.OPERATE),
        ("GET", "/cluster/metadata", "show_metadata", Action.STATUS),
        ("PUT", "/cluster/metadata", "accept_metadata", Action.OPERATE),
        ("POST", "/cluster/invite", "invite", Action.INVITE),
        ("POST", "/cluster/join", "join", Action.JOIN),
        ("POST", "/cluster/certificate", "issue_certificate", Action.JOIN),
        ("GET", "/cluster/ca", "show_authority", Action.JOIN),
        ("POST", "/cluster/heartbeat", "heartbeat", Action.HEARTBEAT),
    ],
)
def test_each_call_has_its_action(method: str, path: str, name: str, action: Action) -> None:
    found = ROUTER.find(method, path)
    assert isinstance(found, Route)
    assert (found.call.name, found.call.action) == (name, action)


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("GET", "/nowhere", Action.UNKNOWN_READ),
        ("DELETE", "/nowhere", Action.UNKNOWN_WRITE),
        ("PATCH", "/nowhere", Action.UNKNOWN),
        ("PATCH", "/object/a", Action.UNKNOWN),
        ("PUT", "/object/", Action.UNKNOWN_WRITE),
        ("HEAD", "/cluster/failure", Action.UNKNOWN_READ),
        ("POST", "/cluster/node", Action.UNKNOWN),  # the operator's path
        ("HEAD", "/cluster/node", Action.UNKNOWN_READ),
        ("GET", "/cluster/heartbeat", Action.UNKNOWN_OPEN),
        ("GET", "/cluster/join", Action.JOIN),
        ("POST", "/healthz", Action.HEALTH),
        ("GET", "/cluster/invite", Action.UNKNOWN_READ),
    ],
)
def test_who_may_hear_that_there_is_no_such_call(method: str, path: str, action: Action) -> None:
    found = ROUTER.find(method, path)
    assert isinstance(found, Refusal)
    assert found.action is action


def test_two_faces_cannot_have_one_path() -> None:
    with pytest.raises(ValueError, match="/bucket/"):
        Router([NATIVE, Routes(trees={"/bucket/": lambda _: (Methods(), None, "")})])
