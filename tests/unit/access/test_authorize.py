"""The whole table: identity x action x setting; then what a context changes; then action x grant of access keys."""

from __future__ import annotations

import json
from itertools import product
from urllib.parse import quote

import pytest

from flared.access.access_key import AccessKey
from flared.access.authorize import (
    ANY_ORIGIN,
    EVERYTHING,
    GRANTS,
    KEY_REFUSED,
    METRICS_ELSEWHERE,
    PROVED,
    SHUT,
    Action,
    Context,
    Policy,
    authorize,
    listed_prefix,
    may_see,
)
from flared.access.authorize import WRONG_SECRET as WRONG_SECRET_SENTENCE
from flared.access.bucket_access import CLOSED, Acl, BucketAccess
from flared.access.facts import ObjectAccess
from flared.access.grants import parse_grants
from flared.access.identity import ANONYMOUS, CLUSTER, LOCAL, WRONG_SECRET, Identity, key_identity
from flared.access.keys import Keyring
from flared.access.policy import parse_policy
from flared.errors import Forbidden, Unauthenticated
from flared.http.eviction import Standing
from flared.names import BucketName, ObjectKey, ObjectName

NAME = ObjectName(BucketName("photos"), ObjectKey("a"))
KEYRING = Keyring([b"the secret of it"])

OBJECT_READS = {Action.READ, Action.LIST, Action.LIST_BUCKETS, Action.SHOW_BUCKET}
OBJECT_WRITES = {Action.WRITE, Action.DELETE, Action.CREATE_BUCKET, Action.REMOVE_BUCKET}
# What a stranger of another machine gets, by setting: written out, not derived from the tables under test.
ALLOWED: dict[str, set[Action]] = {
    "none": {Action.HEALTH, Action.PREFLIGHT, Action.POST_FORM, Action.JOIN, Action.UNKNOWN_OPEN},
    "read": {
        Action.HEALTH,
        Action.PREFLIGHT,
        Action.POST_FORM,
        Action.JOIN,
        Action.UNKNOWN_OPEN,
        Action.STATUS,
        Action.UNKNOWN_READ,
    }
    | OBJECT_READS,
}
ALLOWED["read-write"] = ALLOWED["read"] | OBJECT_WRITES | {Action.UNKNOWN_WRITE}


def closed(_: BucketName) -> BucketAccess:
    return CLOSED


def context(
    word: str, *, local: bool = False, foreign: str = "", guarded: bool = True, access: BucketAccess = CLOSED
) -> Context:
    return Context(local, foreign, GRANTS[word] if guarded else EVERYTHING, guarded, lambda _: access)


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
    open_call = action in {
        Action.HEALTH,
        Action.PREFLIGHT,
        Action.POST_FORM,
        Action.JOIN,
        Action.HEARTBEAT,
        Action.UNKNOWN_OPEN,
    }
    found = verdict(ANONYMOUS, action, context("none", guarded=False))
    if action is Action.METRICS:
        assert found == f"Unauthenticated: {METRICS_ELSEWHERE}"
    else:
        assert found == ("STRANGER" if open_call else "GUEST")
    assert verdict(LOCAL, action, context("none", local=True, guarded=False)) == "TRUSTED"
    if action not in ANY_ORIGIN:
        assert verdict(ANONYMOUS, action, context("none", foreign="a page asks", guarded=False)).startswith("Forbidden")


def test_a_policy_makes_the_context() -> None:
    policy = Policy(KEYRING, GRANTS["read"], closed, frozenset({"storage.example"}))
    named = policy.context("GET", "10.0.0.7:1", {"host": "storage.example:8000"})
    assert (named.local, named.foreign, named.granted, named.guarded) == (False, "", GRANTS["read"], True)
    assert (named.find_bucket, named.peer, named.secure) == (closed, "10.0.0.7:1", False)
    assert "is not a name of this node" in policy.context("GET", "10.0.0.7:1", {"host": "evil.example"}).foreign
    page = {"host": "localhost:8000", "origin": "http://evil.example"}
    assert "a web page of" in policy.context("PUT", "127.0.0.1:1", page).foreign
    assert policy.context("GET", "127.0.0.1:1", {}).local
    empty = Policy(Keyring(), GRANTS["none"], closed).context("GET", "127.0.0.1:1", {})
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


# Access keys: what a grant allows, each action once. The resource is the object photos/a, or what stands with it.
ANY = {Action.LIST_BUCKETS, Action.HEALTH, Action.PREFLIGHT, Action.POST_FORM, Action.JOIN} | {
    Action.UNKNOWN_OPEN, Action.UNKNOWN_READ, Action.UNKNOWN_WRITE, Action.UNKNOWN,
}  # fmt: skip
BY_GRANT: dict[str, set[Action]] = {
    "": ANY,
    "read:photos": ANY | {Action.READ, Action.SHOW_BUCKET},
    "write:photos/a": ANY | {Action.WRITE, Action.SHOW_BUCKET},
    "delete:pho*": ANY | {Action.DELETE, Action.SHOW_BUCKET},
    "list:*": ANY | {Action.LIST, Action.SHOW_BUCKET},
    "create:*": ANY | {Action.CREATE_BUCKET},
    "create:photos": ANY | {Action.CREATE_BUCKET},
    "create:logs-*": ANY,
    "read:others": ANY,
    "read:photos/b": ANY | {Action.SHOW_BUCKET},
    "admin": set(Action) - {Action.HEARTBEAT, Action.INVITE},
}
BUCKET_ACTIONS = {
    Action.LIST, Action.CREATE_BUCKET, Action.REMOVE_BUCKET, Action.SHOW_BUCKET, Action.CONFIGURE_BUCKET,
}  # fmt: skip


def key_of(*grants: str) -> Identity:
    return key_identity(AccessKey("FL" + "A" * 18, "laptop", "s" * 40, parse_grants(grants)))


@pytest.mark.parametrize(("grant", "action"), list(product(BY_GRANT, Action)))
def test_what_a_grant_allows(grant: str, action: Action) -> None:
    identity = key_of(*filter(None, [grant]))
    resource = NAME.bucket if action in BUCKET_ACTIONS else NAME
    # From elsewhere, and from a page: a signature is nothing that a page can borrow. Metrics are of this machine only.
    where = context("none", local=action is Action.METRICS, foreign="" if action in ANY_ORIGIN else "a page asks")
    if action in BY_GRANT[grant]:
        assert authorize(identity, action, resource, where) is (
            Standing.TRUSTED if grant == "admin" else Standing.GUEST
        )
    else:
        with pytest.raises(Forbidden) as refused:
            authorize(identity, action, resource, context("none", local=action is Action.METRICS))
        assert str(refused.value) == KEY_REFUSED
        assert refused.value.lacking


@pytest.mark.parametrize(
    ("grant", "prefix", "allowed"),
    [
        ("list:photos", "", True),
        ("list:photos", "2024/", True),
        ("list:photos/2024/", "", False),
        ("list:photos/2024/", "20", False),
        ("list:photos/2024/", "2024/", True),
        ("list:photos/2024/", "2024/05", True),
        ("read:photos", "", False),
    ],
)
def test_a_listing_is_of_the_prefix_that_it_asks_for(grant: str, prefix: str, allowed: bool) -> None:
    query = f"delimiter=%2F&prefix={quote(prefix)}"
    if allowed:
        authorize(key_of(grant), Action.LIST, NAME.bucket, context("none"), query)
        return
    with pytest.raises(Forbidden) as refused:
        authorize(key_of(grant), Action.LIST, NAME.bucket, context("none"), query)
    assert refused.value.lacking == f"list:photos/{prefix}".removesuffix("/" if not prefix else "")


@pytest.mark.parametrize(
    ("query", "prefix"),
    [
        ("", ""),
        ("prefix=a", "a"),
        ("x=1&prefix=a%2Fb+c%2B&y", "a/b c+"),
        ("prefix=a&prefix=b", ""),
        ("prefix=a&prefix=a", ""),
        ("prefix=%zz", ""),
        ("prefix=%ff", ""),
        ("Prefix=a", ""),
        ("prefix", ""),
        ("xprefix=a", ""),
    ],
)
def test_what_a_listing_asks_for(query: str, prefix: str) -> None:
    assert listed_prefix(query) == prefix


def test_a_form_into_a_bucket_takes_the_whole_bucket() -> None:
    authorize(key_of("write:photos"), Action.WRITE, NAME.bucket, context("none"))
    with pytest.raises(Forbidden):
        authorize(key_of("write:photos/a"), Action.WRITE, NAME.bucket, context("none"))


def test_a_name_that_breaks_the_rules_is_explained_to_who_may_do_this_somewhere() -> None:
    authorize(key_of("write:photos/a"), Action.WRITE, None, context("none"))
    with pytest.raises(Forbidden):
        authorize(key_of("read:photos"), Action.WRITE, None, context("none"))


def test_a_key_may_do_what_everybody_may() -> None:
    authorize(key_of(), Action.READ, NAME, context("read"))
    with pytest.raises(Forbidden, match="a page asks"):
        authorize(key_of(), Action.READ, NAME, context("read", foreign="a page asks"))
    with pytest.raises(Forbidden) as refused:
        authorize(key_of(), Action.WRITE, NAME, context("read"))
    assert refused.value.lacking == "write:photos/a"


def test_a_key_sees_the_buckets_in_which_it_may_do_something() -> None:
    where, other = context("none"), BucketName("others")
    assert may_see(key_of("write:photos/a/b"), NAME.bucket, CLOSED, where)
    assert not may_see(key_of("write:photos/a/b"), other, CLOSED, where)
    assert may_see(key_of(), other, BucketAccess("laptop"), where)
    assert not may_see(key_of(), other, BucketAccess("desktop", public=True), where)
    assert may_see(key_of("admin"), other, CLOSED, where)
    assert may_see(CLUSTER, other, CLOSED, where)
    assert may_see(key_of(), other, CLOSED, context("read"))


# What a bucket itself allows: to everybody, to any key, to its owner. From a foreign page, too.
WRITES_OF_OBJECTS = {Action.WRITE, Action.DELETE}
PUBLIC: dict[BucketAccess, tuple[set[Action], set[Action]]] = {
    CLOSED: (set(), set()),
    BucketAccess("someone"): (set(), set()),
    BucketAccess(public=True): ({Action.READ, Action.SHOW_BUCKET}, set()),
    BucketAccess(acl=Acl.PUBLIC_READ): ({Action.LIST, Action.SHOW_BUCKET}, set()),
    BucketAccess(acl=Acl.AUTHENTICATED_READ): (set(), {Action.LIST, Action.SHOW_BUCKET}),
    BucketAccess(acl=Acl.PUBLIC_READ_WRITE): ({Action.LIST, Action.SHOW_BUCKET} | WRITES_OF_OBJECTS, set()),
}


def is_let_in(identity: Identity, action: Action, where: Context) -> bool:
    try:
        authorize(identity, action, NAME.bucket if action in BUCKET_ACTIONS else NAME, where)
    except (Unauthenticated, Forbidden):
        return False
    return True


@pytest.mark.parametrize(("access", "action"), list(product(PUBLIC, Action)))
def test_what_a_bucket_allows_to_everybody(access: BucketAccess, action: Action) -> None:
    to_all, to_keys = PUBLIC[access]
    where = context("none", foreign="a page asks", access=access)
    open_call = action in ANY_ORIGIN
    assert is_let_in(ANONYMOUS, action, where) == (action in to_all or open_call)
    assert is_let_in(WRONG_SECRET, action, where) == (action in to_all or open_call)
    local = context("none", local=True, foreign="a page asks", access=access)
    assert is_let_in(LOCAL, action, local) == (action in to_all or open_call), "a page in a browser of this machine"
    assert is_let_in(key_of(), action, where) == (action in to_all | to_keys | ANY)


@pytest.mark.parametrize("action", list(Action))
def test_the_owner_of_a_bucket_may_do_everything_in_it(action: Action) -> None:
    owned = {
        Action.READ, Action.WRITE, Action.DELETE, Action.LIST, Action.SHOW_BUCKET, Action.CONFIGURE_BUCKET,
        Action.REMOVE_BUCKET,
    }  # fmt: skip
    where = context("none", access=BucketAccess("laptop"))
    assert is_let_in(key_of(), action, where) == (action in owned | ANY)
    assert not is_let_in(ANONYMOUS, action, where) or action in ANY_ORIGIN | {Action.UNKNOWN_OPEN}
    assert is_let_in(key_of(), action, context("none", access=BucketAccess("desktop"))) == (action in ANY)


def test_a_bucket_of_the_cluster_is_owned_by_no_key() -> None:
    assert not CLOSED.is_owned_by("")


def test_the_secret_and_this_machine_do_not_ask_what_the_bucket_says() -> None:
    def ask(_: BucketName) -> BucketAccess:
        raise AssertionError("the bucket was looked up")

    for identity in (CLUSTER, LOCAL):
        authorize(identity, Action.READ, NAME, Context(True, "", GRANTS["none"], True, ask))


def policy_of(effect: str, action: str, principal: str = "*") -> BucketAccess:
    resources = ["arn:aws:s3:::photos", "arn:aws:s3:::photos/*"]
    one = {"Effect": effect, "Principal": {"AWS": principal}, "Action": action, "Resource": resources}
    body = json.dumps({"Version": "2012-10-17", "Statement": one}).encode()
    return BucketAccess("desktop", policy=parse_policy(body, "photos"))


@pytest.mark.parametrize("action", list(Action))
def test_a_policy_allows_and_denies_what_a_bucket_has(action: Action) -> None:
    of_bucket = {
        Action.READ, Action.WRITE, Action.DELETE, Action.LIST, Action.SHOW_BUCKET, Action.CONFIGURE_BUCKET,
        Action.REMOVE_BUCKET,
    }  # fmt: skip
    allow, deny = context("none", access=policy_of("Allow", "s3:*")), context("none", access=policy_of("Deny", "s3:*"))
    named = context("none", access=policy_of("Allow", "s3:*", "laptop"))
    assert is_let_in(key_of(), action, allow) == (action in of_bucket | ANY)
    assert is_let_in(key_of(), action, named) == (action in of_bucket | ANY)
    assert is_let_in(ANONYMOUS, action, allow) == (action in of_bucket | ANY_ORIGIN | {Action.UNKNOWN_OPEN})
    assert not is_let_in(ANONYMOUS, action, named) or action in ANY_ORIGIN | {Action.UNKNOWN_OPEN}
    for identity in (key_of("admin"), key_of("read:*", "write:*", "list:*", "delete:*", "create:*")):
        if action in of_bucket:
            assert not is_let_in(identity, action, deny)
    everything = Context(False, "", EVERYTHING, True, lambda _: policy_of("Deny", "s3:*"))
    assert is_let_in(ANONYMOUS, action, everything) == (action not in of_bucket and action not in PROVED_OR_LOCAL)
    for identity in (CLUSTER, LOCAL):  # who else would put it right
        assert is_let_in(identity, action, context("none", local=True, access=policy_of("Deny", "s3:*"))) == (
            identity is CLUSTER or action not in PROVED
        )


PROVED_OR_LOCAL = {*PROVED, Action.METRICS}


def test_no_policy_takes_itself_from_the_owner() -> None:
    owner = key_identity(AccessKey("FL" + "B" * 18, "desktop", "s" * 40, ()))
    where = context("none", access=policy_of("Deny", "s3:*"))
    for call in ("GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"):
        authorize(owner, Action.CONFIGURE_BUCKET, NAME.bucket, where, "", call)
        authorize(key_of("admin"), Action.CONFIGURE_BUCKET, NAME.bucket, where, "", call)
        with pytest.raises(Forbidden):
            authorize(key_of(), Action.CONFIGURE_BUCKET, NAME.bucket, where, "", call)
    with pytest.raises(Forbidden) as refused:
        authorize(owner, Action.CONFIGURE_BUCKET, NAME.bucket, where, "", "PutBucketCors")
    assert refused.value.lacking == "the policy of bucket photos denies s3:PutBucketCORS"
    with pytest.raises(Unauthenticated):
        authorize(ANONYMOUS, Action.READ, NAME, where)


def test_a_page_reads_what_a_policy_opens() -> None:
    where = context("none", foreign="a page asks", access=policy_of("Allow", "s3:GetObject"))
    authorize(ANONYMOUS, Action.READ, NAME, where)
    with pytest.raises(Forbidden, match="a page asks"):
        authorize(LOCAL, Action.WRITE, NAME, where)


@pytest.mark.parametrize(
    ("acl", "everybody", "any_key"),
    [
        (Acl.PRIVATE, False, False),
        (Acl.PUBLIC_READ, True, True),
        (Acl.PUBLIC_READ_WRITE, True, True),
        (Acl.AUTHENTICATED_READ, False, True),
    ],
)
def test_an_object_says_who_may_read_it(acl: Acl, everybody: bool, any_key: bool) -> None:
    where = Context(False, "", GRANTS["none"], True, closed, lambda _: ObjectAccess(acl))
    assert is_let_in(ANONYMOUS, Action.READ, where) is everybody
    assert is_let_in(key_of(), Action.READ, where) is any_key
    assert not is_let_in(ANONYMOUS, Action.WRITE, where)
    for query in ("versionId=5", "version%49d=5", "versionId=5&versionId=6", "a=%zz", "version=5"):
        with pytest.raises(Unauthenticated):  # another version may have another ACL
            authorize(ANONYMOUS, Action.READ, NAME, where, query, "GetObject")
    with pytest.raises(Unauthenticated):
        authorize(ANONYMOUS, Action.READ, NAME, where, "tagging", "GetObjectTagging")


@pytest.mark.parametrize(
    ("call", "action", "query", "allowed"),
    [
        ("PutObject", Action.WRITE, "", True),
        ("UploadPart", Action.WRITE, "partNumber=1&uploadId=x", True),
        ("AbortMultipartUpload", Action.WRITE, "uploadId=x", True),
        ("put_object", Action.WRITE, "", True),
        ("DeleteObject", Action.DELETE, "", True),
        ("DeleteObject", Action.DELETE, "versionId=5", False),
        ("delete_object", Action.DELETE, "version=5", False),
        ("PutObjectTagging", Action.WRITE, "tagging", False),
        ("PutObjectRetention", Action.WRITE, "retention", False),
        ("PutObjectLegalHold", Action.WRITE, "legal-hold", False),
    ],
)
def test_what_everybody_may_write(call: str, action: Action, query: str, allowed: bool) -> None:
    where = context("none", access=BucketAccess(acl=Acl.PUBLIC_READ_WRITE))
    if allowed:
        authorize(ANONYMOUS, action, NAME, where, query, call)
        return
    with pytest.raises(Unauthenticated):
        authorize(ANONYMOUS, action, NAME, where, query, call)
