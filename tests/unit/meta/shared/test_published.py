from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from flared.meta.shared.published import MEMORY_BYTES, SLOTS, Publisher, Subscriber, create_memory, hash_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends() -> Iterator[tuple[Publisher, Subscriber]]:
    memory = create_memory()
    publisher = Publisher(memory)
    subscriber = Subscriber(memory)
    yield publisher, subscriber
    subscriber.close()
    publisher.close()
    os.close(memory)


def test_changes_are_published_once_with_the_number_of_commits(ends: tuple[Publisher, Subscriber]) -> None:
    publisher, subscriber = ends
    assert (subscriber.commits(), subscriber.take_changes()) == (0, [])
    publisher.publish([b"a", b"b"], 1)
    publisher.publish([b"c"], 2)
    assert subscriber.commits() == 2
    assert subscriber.take_changes() == [hash_of(b"a"), hash_of(b"b"), hash_of(b"c")]
    assert subscriber.take_changes() == []


def test_who_is_too_far_behind_hears_that_it_knows_nothing(ends: tuple[Publisher, Subscriber]) -> None:
    publisher, subscriber = ends
    publisher.publish([b"%d" % number for number in range(SLOTS + 1)], 1)
    assert subscriber.take_changes() is None
    publisher.publish([b"x"], 2)
    assert subscriber.take_changes() == [hash_of(b"x")]


def test_memory_of_something_else_is_refused() -> None:
    memory = os.memfd_create("other")
    os.ftruncate(memory, MEMORY_BYTES)
    with pytest.raises(ValueError, match="another version"):
        Subscriber(memory)
    os.close(memory)
