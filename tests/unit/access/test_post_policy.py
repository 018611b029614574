"""POST policies: what they allow, and that nothing else passes."""

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.access.post_policy import CONDITIONS_MAX, PostPolicy, parse_post_policy
from flared.errors import BadRequest, Forbidden, TooLarge, TooSmall

EXPIRES = "2030-01-01T12:00:00Z"
BEFORE = 1893499199.0
AFTER = 1893499200.0

FORM = {
    "bucket": "photos",
    "key": "user/alice/cat.jpg",
    "content-type": "image/jpeg",
    "x-amz-credential": "FLX/20300101/us-east-1/s3/aws4_request",
    "policy": "e30=",
    "x-amz-signature": "00",
}
CONDITIONS = [
    {"bucket": "photos"},
    ["starts-with", "$key", "user/alice/"],
    ["starts-with", "$Content-Type", "image/"],
    ["eq", "$x-amz-credential", FORM["x-amz-credential"]],
]


def encode(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def policy(*conditions: object, expiration: object = EXPIRES) -> PostPolicy:
    return parse_post_policy(encode({"expiration": expiration, "conditions": list(conditions)}))


def test_a_form_that_meets_every_condition_passes() -> None:
    policy(*CONDITIONS).check(FORM, BEFORE)


def test_a_policy_expires() -> None:
    with pytest.raises(Forbidden, match="expired"):
        policy(*CONDITIONS).check(FORM, AFTER)


@pytest.mark.parametrize("name", ["bucket", "key", "content-type", "x-amz-credential"])
def test_a_field_with_another_value_is_refused(name: str) -> None:
    with pytest.raises(Forbidden, match=f"{name}"):
        policy(*CONDITIONS).check({**FORM, name: "other"}, BEFORE)


@pytest.mark.parametrize("name", ["bucket", "key", "content-type", "x-amz-credential"])
def test_a_field_that_is_lacking_is_refused(name: str) -> None:
    with pytest.raises(Forbidden, match=f"{name}"):
        policy(*CONDITIONS).check({field: value for field, value in FORM.items() if field != name}, BEFORE)


def test_a_field_without_condition_is_refused() -> None:
    with pytest.raises(Forbidden, match="no condition for 'acl'"):
        policy(*CONDITIONS).check({**FORM, "acl": "public-read"}, BEFORE)


def test_ignored_fields_need_no_condition() -> None:
    policy(*CONDITIONS).check({**FORM, "x-ignore-token": "1"}, BEFORE)


def test_names_of_fields_compare_without_regard_to_case() -> None:
    policy({"bUcKeT": "photos"}, ["StArTs-WiTh", "$KeY", "user/"]).check({"bucket": "photos", "key": "user/x"}, BEFORE)


def test_each_type_of_a_list_must_begin_as_the_policy_says() -> None:
    one = policy(["starts-with", "$Content-Type", "image/"])
    one.check({"content-type": "image/jpeg, image/png"}, BEFORE)
    with pytest.raises(Forbidden):
        one.check({"content-type": "image/jpeg, text/html"}, BEFORE)


def test_sizes() -> None:
    one = policy(*CONDITIONS, ["content-length-range", 5, 10], ["content-length-range", "0", "9"])
    one.check_size(5)
    one.check_size(9)
    with pytest.raises(TooSmall):
        one.check_size(4)
    with pytest.raises(TooLarge):
        one.check_size(10)
    policy(*CONDITIONS).check_size(1 << 40)


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"expiration": EXPIRES},
        {"conditions": CONDITIONS},
        {"expiration": EXPIRES, "conditions": []},
        {"expiration": EXPIRES, "conditions": {}},
        {"expiration": EXPIRES, "conditions": CONDITIONS, "Statement": []},
        {"expiration": "tomorrow", "conditions": CONDITIONS},
        {"expiration": 1893499200, "conditions": CONDITIONS},
        *(
            {"expiration": EXPIRES, "conditions": [condition]}
            for condition in (
                {},
                [],
                "eq",
                1,
                ["eq", "$key"],
                ["eq", "key", "x"],
                ["ends-with", "$key", "x"],
                ["eq", "$key", 1],
                {"key": None},
                ["content-length-range", 0],
                ["content-length-range", -1, 0],
                ["content-length-range", 0, True],
                ["content-length-range", 0, 1, 2],
            )
        ),
    ],
)
def test_what_is_not_a_policy_is_refused(document: object) -> None:
    with pytest.raises(BadRequest):
        parse_post_policy(encode(document))


@pytest.mark.parametrize("text", ["", "%%%", "e30", base64.b64encode(b"\xff").decode(), encode("[" * 100_00)[:8000]])
def test_what_is_not_base64_of_json_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_post_policy(text)


def test_a_policy_is_bounded() -> None:
    with pytest.raises(TooLarge):
        policy(*[{"key": "x"}] * (CONDITIONS_MAX + 1))
    with pytest.raises(TooLarge):
        parse_post_policy("A" * 30_000)


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(st.text() | st.builds(encode, documents | st.builds(dict, expiration=documents, conditions=documents)))
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    with suppress(BadRequest, TooLarge):
        parse_post_policy(text)


@given(st.dictionaries(st.sampled_from(["key", "acl", "content-type", "success_action_status"]), st.text(max_size=4)))
def test_nothing_passes_that_no_condition_speaks_of(form: dict[str, str]) -> None:
    one = policy({"key": "a"})
    try:
        one.check(form, BEFORE)
    except Forbidden:
        assert form != {"key": "a"}
    else:
        assert form == {"key": "a"}
