"""How long what fails for now is tried again, and how many failures are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flarectl.errors import Damage, Failure, Temporary, Unreachable
from flarectl.progress import Bars
from flarectl.retry import SHORT_SECONDS, Retries

if TYPE_CHECKING:
    from tests.support.fake_api import FakeApi, Handler
    from tests.unit.flarectl.conftest import Run


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def attempts_of(retries: Retries, failure: Failure, clock: Clock, *, answers: bool = False) -> tuple[int, float]:
    """How many attempts one call has, and how long it rests in all."""
    attempts, waited = retries.begin(), 0.0
    while True:
        if answers:
            retries.replied()
        try:
            rest = attempts.rest_seconds(failure)
        except Failure:
            return attempts.number, waited
        clock.now += rest
        waited += rest


def patient(seconds: float, clock: Clock, said: list[str] | None = None) -> Retries:
    retries = Retries(seconds, patient=True, clock=clock, notice=(said if said is not None else []).append)
    retries.reached()
    return retries


@pytest.mark.parametrize("seconds", [0.0, 30.0, 120.0])
def test_a_call_is_tried_again_for_as_long_as_was_said(seconds: float) -> None:
    clock, said = Clock(), []
    number, waited = attempts_of(patient(seconds, clock, said), Temporary("", code="ConnectionLost"), clock)
    assert seconds <= waited <= seconds + 10
    assert said[:2] == [f"the api node does not answer, trying again ({n})" for n in (1, 2)][: number - 1]


@pytest.mark.parametrize(
    "failure", [Damage("wrong bytes"), Temporary("no room", code="VolumeFull"), Temporary("cut", code="BodyTruncated")]
)
def test_what_waiting_does_not_mend_is_given_up_soon(failure: Failure) -> None:
    clock = Clock()
    _, waited = attempts_of(patient(120, clock), failure, clock, answers=True)
    assert SHORT_SECONDS <= waited < 20


def test_while_nothing_succeeds_all_calls_share_the_time() -> None:
    clock = Clock()
    retries = patient(60, clock)
    busy = Temporary("1 of the 2 nodes needed", code="QuorumNotReached")
    assert attempts_of(retries, busy, clock)[0] > 5
    assert attempts_of(retries, busy, clock) == (1, 0.0)
    retries.succeeded()
    assert attempts_of(retries, busy, clock)[0] > 5


def test_an_endpoint_that_was_never_reached_is_waited_for_only_if_asked() -> None:
    clock = Clock()
    gone = Unreachable("refused")
    assert attempts_of(Retries(60, patient=True, clock=clock), gone, clock) == (1, 0.0)
    assert attempts_of(Retries(60, patient=True, stubborn=True, clock=clock), gone, clock)[0] > 5
    assert attempts_of(Retries(clock=clock, stubborn=True), gone, clock) == (1, 0.0)


def test_an_endpoint_that_stopped_to_answer_is_the_end_of_all() -> None:
    clock = Clock()
    retries = patient(60, clock)
    attempts_of(retries, Temporary("lost", code="ConnectionLost"), clock)
    with pytest.raises(Unreachable):
        retries.begin().rest_seconds(Temporary("lost", code="ConnectionLost"))


def test_a_time_that_makes_no_sense_is_said(api: FakeApi, run: Run) -> None:
    for words in (["rm", "x"], ["put", "x"], ["get", "x"], ["cat", "x"], ["cp", "x", "y"], ["mv", "x", "y"]):
        done = run(*words, "--retry-for", "soon")
        assert (done.code, "--retry-for: 'soon' is not a valid time" in done.err) == (2, True)


def test_a_delete_whose_answer_was_lost_is_no_failure(api: FakeApi, run: Run) -> None:
    api.store("a", b"A")

    def remove_and_cut(handler: Handler) -> bool:
        api.objects.pop(("default", "a"))
        return handler.cut()

    api.fail("DELETE", "/object/a", remove_and_cut)
    assert run("mv", "a", "b") == (0, "", "")
    assert api.keys() == ["b"]


@pytest.mark.parametrize("words", [["rm", "-r", "p"], ["cp", "-r", "p", "q"], ["mv", "-r", "p", "q"]])
def test_a_change_is_tried_again_too(api: FakeApi, run: Run, words: list[str]) -> None:
    for number in range(20):
        api.store(f"p/{number}", b"")
    method = "DELETE" if words[0] == "rm" else "PUT"
    api.answer_with(method, "/object/", 503, "Busy", times=5)
    assert run(*words) == (0, "", "")


@pytest.mark.parametrize(
    ("prepare", "words", "code", "hint"),
    [
        (None, ["cp", "-r", "p", "nope:"], 3, "flarectl bucket create nope creates this one"),
        ("VolumeFull", ["cp", "-r", "p", "q"], 5, "flarectl node ls shows how full"),
    ],
)
def test_many_failures_with_one_cause_are_one_line_and_a_number(
    api: FakeApi, run: Run, prepare: str | None, words: list[str], code: int, hint: str
) -> None:
    for number in range(300):
        api.store(f"p/{number}", b"")
    if prepare:
        api.answer_with("PUT", "/object/", 507, prepare, times=100000)
    done = run(*words, "--retry-for", "0s")
    lines = done.err.splitlines()
    assert (done.code, len(lines), hint in lines[1]) == (code, 4, True)
    assert "299 more failed like this" in lines[2]
    assert lines[3] == "flarectl: 300 failed, 0 copied"
    names = run(*words, "--retry-for", "0s", "--json").out
    assert names.count('"error"') == 300


def test_many_names_that_are_not_there_are_named_up_to_a_number(api: FakeApi, run: Run) -> None:
    done = run("rm", *(f"gone{number}" for number in range(40)))
    assert done.code == 4
    assert len(done.err.splitlines()) == 12
    assert "30 more failed like this (NoSuchObject)" in done.err


def test_many_that_are_skipped_are_named_up_to_a_number(api: FakeApi, run: Run) -> None:
    Path("tree").mkdir()
    for number in range(30):
        Path(f"tree/{number}").symlink_to("nowhere")
    done = run("put", "-r", "tree", ":")
    assert (done.code, len(done.err.splitlines())) == (0, 11)
    assert done.err.endswith("skipped: 20 more; --json names each\n")


def test_an_endpoint_that_is_not_there_is_said_with_all_ways_to_name_another(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("flarectl.profile.DEFAULT_ENDPOINT", "http://127.0.0.1:1")
    for words in (["ls"], ["put", "-r", "."], ["rm", "x"], ["get", "x"], ["status"]):
        Path("x").write_text("x")
        done = run(*words)
        assert done.code == 5
        for part in ("the default address", "--endpoint", "FLARE_ENDPOINT", "flarectl config set endpoint"):
            assert done.err.count(part) == 1
    assert "the address from --endpoint" in run("ls", "--endpoint", "http://127.0.0.1:2").err
    run("config", "set", "endpoint", "http://127.0.0.1:3")
    assert f"the address from {tmp_path}" in run("ls").err


def test_a_summary_says_what_is_known() -> None:
    bars = Bars(visible=False)
    assert bars.summary() == "0 files"
    bars.visible = True
    bars.count_with(lambda: iter([1000] * 3000))
    assert bars._ahead is not None
    bars._ahead._count()
    bars.visible = False
    for _ in range(1054):
        bars.file_done()
        bars.moved(1000)
    assert bars.summary() == "1,054 of 3,000 files, 35 %"
    bars.started -= 5.4
    assert bars.summary() == "1,054 of 3,000 files, 35 %, 10 s left"
