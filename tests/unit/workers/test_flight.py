from __future__ import annotations

from flared.chunks.inflight import InFlight
from flared.names import ChunkId, NodeName
from flared.workers.flight import Held, WorkerFlight

A, B = ChunkId("a" * 48), ChunkId("b" * 48)


def test_the_owner_knows_what_the_worker_is_at() -> None:
    worker, owner = WorkerFlight(), InFlight()
    held = Held(owner)

    def tell() -> None:
        news = worker.take_news()
        if news is not None:
            held.take_news(news)

    worker.claim(A)
    worker.pin([B])
    worker.pin([B])
    tell()
    assert (owner.is_claimed(A), owner.is_pinned(B)) == (True, True)
    worker.release(A)
    worker.unpin([B])
    tell()
    assert (owner.is_claimed(A), owner.is_pinned(B)) == (False, True)
    worker.unpin([B])
    tell()
    assert not owner.is_pinned(B)
    assert worker.take_news() is None


async def test_what_a_worker_gave_up_goes_to_the_sweep_of_the_owner() -> None:
    worker, owner = WorkerFlight(), InFlight()
    worker.claim(A)
    worker.abandon(A, ((0, NodeName("data1")),), 0.0)
    news = worker.take_news()
    assert news is not None
    Held(owner).take_news(news)
    assert not owner.is_claimed(A)
    assert owner.take_abandoned(float("inf"), 10) == [(A, ((0, "data1"),))]


def test_a_dead_worker_holds_nothing_once_it_is_forgotten_and_others_still_do() -> None:
    owner = InFlight()
    first, second = Held(owner), Held(owner)
    first.take_news({"writes": [[A], []], "reads": [[B], []]})
    second.take_news({"reads": [[B], []]})
    first.forget()
    assert (owner.is_claimed(A), owner.is_pinned(B)) == (False, True)
    second.forget()
    assert not owner.is_pinned(B)
