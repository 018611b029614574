"""Errors come out of the groups that nurseries put around them, whole and in order; the right one stands for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from hypothesis import given
from hypothesis import strategies as st

from flared.background import first_of
from flared.errors import Busy, FlareError, leaves

if TYPE_CHECKING:
    from trio.testing import MockClock

errors = st.sampled_from([Busy("b"), FlareError("f"), ValueError("v")]) | st.builds(ValueError, st.text())
nested = st.recursive(
    errors, lambda inner: st.builds(ExceptionGroup, st.just(""), st.lists(inner, min_size=1, max_size=4))
)


def flat(error: BaseException) -> list[BaseException]:
    """Return the names in the brackets of its picture, from left to right."""
    waiting, found = [error], []
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting += reversed(one.exceptions)
        else:
            found.append(one)
    return found


@given(nested)
def test_leaves_are_all_errors_in_their_order(error: Exception) -> None:
    found = leaves(error)
    assert [id(leaf) for leaf in found] == [id(leaf) for leaf in flat(error)]
    assert not any(isinstance(leaf, BaseExceptionGroup) for leaf in found)


@given(st.lists(nested, min_size=1, max_size=4))
def test_a_bug_goes_before_what_is_known(some: list[Exception]) -> None:
    group = ExceptionGroup("", some)
    bugs = [leaf for leaf in leaves(group) if not isinstance(leaf, FlareError)]
    first = first_of(group)
    assert first is (bugs or leaves(group))[0]


async def test_what_went_wrong_goes_before_the_cancellations_that_followed(autojump_clock: MockClock) -> None:
    caught: list[BaseException] = []

    async def clean_up() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            caught.append(error)
            raise

    async with trio.open_nursery() as outer:
        outer.start_soon(clean_up)
        await trio.sleep(1)
        outer.cancel_scope.cancel()
    group = BaseExceptionGroup("", [caught[0], BaseExceptionGroup("", [Busy("late")])])
    assert str(first_of(group)) == "late"
