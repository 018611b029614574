from __future__ import annotations

import pytest
import trio
import trio.testing

from flared.chunks.budget import Lease, MemoryBudget

MIB = 1024 * 1024


def test_a_lease_is_as_long_as_asked_and_counts_what_it_holds() -> None:
    budget = MemoryBudget(4 * MIB)
    lease = budget.lease_nowait(100_000, beside=1000)
    assert lease is not None
    assert len(lease.view) == 100_000
    assert budget.statistics().leased == 131_072 + 1000
    lease.release()
    lease.release()
    assert budget.statistics().leased == 0


def test_leased_and_kept_never_exceed_the_total() -> None:
    budget = MemoryBudget(4 * MIB)
    for size in (MIB, 2 * MIB, 300_000, MIB, 4 * MIB, 64_000):
        lease = budget.lease_nowait(size)
        assert lease is not None
        lease.view[0] = 1
        lease.release()
        statistics = budget.statistics()
        assert statistics.leased + statistics.kept <= 4 * MIB


def test_a_request_beyond_the_total_passes_alone() -> None:
    budget = MemoryBudget(MIB)
    lease = budget.lease_nowait(4 * MIB)
    assert lease is not None
    assert budget.lease_nowait(1) is None
    lease.release()
    assert budget.statistics().leased == 0


async def test_a_large_request_is_not_overtaken_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    budget = MemoryBudget(4 * MIB)
    first = await budget.lease(3 * MIB)
    order = []

    async def take(size: int) -> None:
        with await budget.lease(size):
            order.append(size)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, 4 * MIB)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take, MIB)
        await trio.testing.wait_all_tasks_blocked()
        assert budget.waiting == 2
        first.release()
    assert order == [4 * MIB, MIB]


async def test_a_cancelled_wait_leaves_nothing_behind(autojump_clock: trio.testing.MockClock) -> None:
    budget = MemoryBudget(MIB)
    first = await budget.lease(MIB)
    with trio.move_on_after(1):
        await budget.lease(MIB)
    assert budget.waiting == 0
    first.release()
    assert budget.statistics().leased == 0


def test_trim_unmaps_what_was_not_used_since_the_last_trim() -> None:
    budget = MemoryBudget(4 * MIB)
    lease = budget.lease_nowait(MIB)
    assert lease is not None
    lease.release()
    budget.trim()
    assert budget.statistics().kept == MIB
    budget.trim()
    assert budget.statistics().kept == 0


@pytest.mark.parametrize("amount", [1, MIB])
def test_shrinking_gives_back_what_is_beside(amount: int) -> None:
    budget = MemoryBudget(8 * MIB)
    lease = budget.lease_nowait(MIB, beside=2 * MIB)
    assert lease is not None
    lease.shrink(amount)
    assert budget.statistics().leased == MIB + amount
    lease.release()
    assert budget.statistics().leased == 0


async def test_a_smaller_budget_lets_what_is_leased_finish(autojump_clock: trio.testing.MockClock) -> None:
    budget = MemoryBudget(8 * MIB)
    first, second = budget.lease_nowait(4 * MIB), budget.lease_nowait(4 * MIB)
    assert first is not None
    assert second is not None
    budget.resize(2 * MIB)
    assert len(first.view) == 4 * MIB
    assert budget.lease_nowait(64 * 1024) is None
    second.release()
    assert budget.lease_nowait(64 * 1024) is None
    assert budget.statistics().kept == 0
    first.release()
    assert budget.statistics().leased == 0
    third = budget.lease_nowait(2 * MIB)
    assert third is not None
    assert budget.lease_nowait(64 * 1024) is None
    third.release()


async def test_who_waits_for_more_than_there_is_now_passes_alone(autojump_clock: trio.testing.MockClock) -> None:
    budget = MemoryBudget(8 * MIB)
    first = await budget.lease(8 * MIB)
    leases: list[Lease] = []

    async def take() -> None:
        leases.append(await budget.lease(4 * MIB, beside=4 * MIB))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        budget.resize(MIB)
        assert budget.waiting == 1
        first.release()
    assert budget.statistics().leased == MIB
    budget.resize(16 * MIB)
    assert len(leases[0].view) == 4 * MIB
    assert await budget.reserve(15 * MIB) == 15 * MIB
    budget.give_back(15 * MIB)
    leases[0].release()
    assert budget.statistics().leased == 0


async def test_a_larger_budget_lets_in_who_waits(autojump_clock: trio.testing.MockClock) -> None:
    budget = MemoryBudget(MIB)
    first = await budget.lease(MIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(budget.lease, MIB)
        await trio.testing.wait_all_tasks_blocked()
        budget.resize(2 * MIB)
    assert budget.statistics().leased == 2 * MIB
    first.release()
