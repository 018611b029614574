"""The contract of every metadata engine. ``test_kv.py`` runs this suite on each of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import pytest
import trio

from flared.errors import Conflict, NoSuchObject, TransactionConflict
from flared.meta.alias import ALIASED
from flared.meta.kv import ABSENT, KV, Mark, Snapshot, Transaction


async def put(kv: KV, **values: str) -> None:
    await kv.commit({}, {key.encode(): value.encode() for key, value in values.items()})


async def value(kv: KV, key: bytes) -> bytes | None:
    entry = await kv.get(key)
    return entry.value if entry else None


async def version(kv: KV, key: bytes) -> int:
    entry = await kv.get(key)
    return entry.version if entry else ABSENT


def aliased(number: int, rest: bytes = b"") -> bytes:
    """A value with an alias that orders by the number."""
    return ALIASED + b"%014d" % number + rest


async def found(kv: KV, number: int) -> tuple[bytes, bytes] | None:
    row = await kv.find(aliased(number)[1:])
    return None if row is None else (row[0], row[1].value)


class KVContract:
    async def test_what_was_committed_is_there(self, kv: KV) -> None:
        await kv.commit({}, {b"a": b"1", b"\x00\xff": b"", b"big": bytes(range(256)) * 400})
        assert await value(kv, b"a") == b"1"
        assert await value(kv, b"\x00\xff") == b""
        assert await value(kv, b"big") == bytes(range(256)) * 400
        assert await kv.get(b"b") is None

    async def test_none_deletes_and_may_delete_what_is_not_there(self, kv: KV) -> None:
        await put(kv, a="1")
        await kv.commit({}, {b"a": None, b"b": None})
        assert await kv.get(b"a") is None
        assert await kv.scan(b"", b"\xff", 10) == []

    async def test_versions_grow_with_every_change_and_beyond_a_delete(self, kv: KV) -> None:
        seen = []
        for writes in ({b"a": b"1"}, {b"a": b"2"}, {b"a": b"2"}):
            await kv.commit({}, writes)
            seen.append(await version(kv, b"a"))
        await kv.commit({}, {b"a": None})
        await kv.commit({}, {b"a": b"3"})
        seen.append(await version(kv, b"a"))
        assert seen == sorted(set(seen))
        assert seen[0] > ABSENT

    async def test_another_keys_change_leaves_the_version_alone(self, kv: KV) -> None:
        await put(kv, a="1")
        before = await version(kv, b"a")
        await put(kv, b="1")
        assert await version(kv, b"a") == before

    async def test_commit_applies_only_what_was_expected(self, kv: KV) -> None:
        await put(kv, a="1")
        old = await version(kv, b"a")
        await kv.commit({b"a": old, b"b": ABSENT}, {b"b": b"1"})
        await put(kv, a="2")
        with pytest.raises(TransactionConflict):
            await kv.commit({b"a": old}, {b"a": b"3", b"c": b"3"})
        with pytest.raises(TransactionConflict):
            await kv.commit({b"b": ABSENT}, {b"c": b"3"})
        assert await value(kv, b"a") == b"2"
        assert await kv.get(b"c") is None

    async def test_get_many_answers_in_the_order_asked(self, kv: KV) -> None:
        await put(kv, a="1", b="2")
        entries = await kv.get_many([b"b", b"x", b"a", b"b"])
        assert [entry and entry.value for entry in entries] == [b"2", None, b"1", b"2"]

    async def test_scan_is_ordered_by_bytes_and_bounded(self, kv: KV) -> None:
        keys = [b"a", b"a\x00", b"a\xff", b"b", "ä".encode(), "\U0001f600".encode(), b"\xff"]
        await kv.commit({}, {key: b"v" + key for key in reversed(keys)})
        assert [key for key, _ in await kv.scan(b"", b"\xff\xff", 100)] == sorted(keys)
        assert await kv.scan(b"a\x00", b"b", 100) == [(b"a\x00", b"va\x00"), (b"a\xff", b"va\xff")]
        assert [key for key, _ in await kv.scan(b"a", b"z", 2)] == [b"a", b"a\x00"]
        assert await kv.scan(b"b", b"a", 100) == []
        assert await kv.scan(b"a", b"b", 0) == []

    async def test_walk_sees_one_moment_and_goes_where_it_is_sent(self, kv: KV) -> None:
        await kv.commit({}, {b"k%02d" % n: b"%d" % n for n in range(20)})
        pages: list[list[bytes]] = []

        def visit(page: list[tuple[bytes, bytes]]) -> bytes | None:
            pages.append([key for key, _ in page])
            return {1: b"k10", 2: b"k19"}.get(len(pages), b"l")

        await kv.walk(b"k", b"z", 2, visit)
        assert pages == [[b"k00", b"k01"], [b"k10", b"k11"], [b"k19"], []]

    async def test_a_walk_ends_on_request(self, kv: KV) -> None:
        await put(kv, a="1", b="1")
        pages: list[int] = []
        await kv.walk(b"a", b"z", 1, lambda page: pages.append(len(page)))
        assert pages == [1]

    async def test_walk_raises_what_its_visitor_raises_and_the_engine_goes_on(self, kv: KV) -> None:
        def refuse(_page: list[tuple[bytes, bytes]]) -> bytes | None:
            raise NoSuchObject("no")

        for _ in range(5):
            with pytest.raises(NoSuchObject):
                await kv.walk(b"a", b"z", 1, refuse)
        await put(kv, a="1")
        assert await kv.scan(b"a", b"z", 9) == [(b"a", b"1")]

    async def test_a_row_is_found_by_its_alias_as_long_as_its_value_carries_it(self, kv: KV) -> None:
        await kv.commit({}, {b"a": aliased(1), b"b": aliased(2), b"c": b"1"})
        assert await found(kv, 1) == (b"a", aliased(1))
        assert await found(kv, 3) is None
        await kv.commit({}, {b"a": aliased(1, b"changed"), b"b": b"1"})
        assert await found(kv, 1) == (b"a", aliased(1, b"changed"))
        assert await found(kv, 2) is None
        await kv.commit({}, {b"a": None, b"d": aliased(1)})
        assert await found(kv, 1) == (b"d", aliased(1))
        await kv.commit({}, {b"d": None})
        assert await found(kv, 1) is None

    async def test_aliases_are_scanned_in_their_order_with_any_keys(self, kv: KV) -> None:
        rows = {b"k%d" % (10 - number): aliased(number) for number in range(10)}
        await kv.commit({}, {**rows, b"k0": b"1", b"z": b"\x03" + aliased(3)[1:]})
        assert await kv.scan_aliases(b"", b"\xff", 100) == [
            (aliased(n)[1:], b"k%d" % (10 - n), aliased(n)) for n in range(10)
        ]
        span = aliased(3)[1:], aliased(7)[1:]
        assert [value for _, _, value in await kv.scan_aliases(*span, 3)] == [aliased(n) for n in (3, 4, 5)]
        assert [value for _, _, value in await kv.scan_aliases(*span, 9)] == [aliased(n) for n in (3, 4, 5, 6)]

    async def test_a_decision_finds_rows_by_alias_as_it_has_changed_them(self, kv: KV) -> None:
        await kv.commit({}, {b"a": aliased(1), b"b": aliased(2), b"c": aliased(3)})

        def decide(tx: Transaction) -> list[bytes | None]:
            tx.delete(b"a")
            tx.put(b"b", b"1")
            tx.put(b"d", aliased(2))
            tx.put(b"c", aliased(3, b"changed"))
            rows = [tx.find(aliased(number)[1:]) for number in (1, 2, 3, 4)]
            return [None if row is None else row[0] for row in rows]

        assert await kv.transact(decide) == [None, b"d", b"c", None]
        assert [await found(kv, n) for n in (1, 2, 3)] == [None, (b"d", aliased(2)), (b"c", aliased(3, b"changed"))]
        look = await kv.view(lambda look: [look.find(aliased(n)[1:]) for n in (1, 2)])
        assert look == [None, (b"d", aliased(2))]

    async def test_decisions_at_once_move_an_alias_from_key_to_key(self, kv: KV) -> None:
        await kv.commit({}, {b"k0": aliased(1)})

        def move(tx: Transaction) -> None:
            row = tx.find(aliased(1)[1:])
            assert row is not None
            tx.delete(row[0])
            tx.put(b"k%d" % (int(row[0][1:]) + 1), row[1])

        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(kv.transact, move)
        assert await kv.scan(b"k", b"l", 9) == [(b"k9", aliased(1))]
        assert await found(kv, 1) == (b"k9", aliased(1))

    async def test_an_alias_may_be_expected_like_a_key(self, kv: KV) -> None:
        alias = aliased(1)[1:]
        await kv.commit({alias: ABSENT}, {b"a": aliased(1)})
        with pytest.raises(TransactionConflict):
            await kv.commit({alias: ABSENT}, {b"b": b"1"})
        await kv.commit({alias: await version(kv, b"a")}, {b"b": b"1"})

    async def test_view_follows_one_key_to_the_next(self, kv: KV) -> None:
        await put(kv, a="b", b="c")

        def look(snapshot: Snapshot) -> bytes | None:
            return snapshot.get(snapshot.get(b"a") or b"")

        assert await kv.view(look) == b"c"

    async def test_transact_returns_what_was_decided(self, kv: KV) -> None:
        def decide(tx: Transaction) -> int:
            tx.put(b"a", b"1")
            assert tx.get(b"a") == b"1"
            tx.delete(b"a")
            assert tx.get(b"a") is None
            tx.put(b"b", b"2")
            return 7

        assert await kv.transact(decide) == 7
        assert await kv.scan(b"", b"\xff", 9) == [(b"b", b"2")]

    async def test_transactions_without_waiting_tell_what_came_of_each(self, kv: KV) -> None:
        heard: list[tuple[object, Exception | None]] = []
        answered = trio.Event()

        def done(result: object, error: Exception | None) -> None:
            heard.append((result, error))
            if len(heard) == 3:
                answered.set()

        def count(tx: Transaction) -> int:
            number = int(tx.get(b"n") or b"0") + 1
            tx.put(b"n", str(number).encode())
            return number

        def refuse(tx: Transaction) -> int:
            tx.put(b"n", b"never")
            raise NoSuchObject("refused")

        kv.transact_nowait(count, done)
        kv.transact_nowait(refuse, done)
        kv.transact_nowait(count, done)
        await answered.wait()
        assert sorted(result for result, error in heard if error is None) == [1, 2]  # type: ignore[type-var]
        assert [type(error) for _, error in heard if error is not None] == [NoSuchObject]
        assert [entry.value if entry else None for entry in kv.get_many_nowait([b"n", b"m"])] == [b"2", None]
        assert [kv.get_nowait(b"n"), kv.get_nowait(b"m")] == kv.get_many_nowait([b"n", b"m"])

    async def test_a_decision_that_raises_applies_nothing(self, kv: KV) -> None:
        def decide(tx: Transaction) -> None:
            tx.put(b"a", b"1")
            raise Conflict("no")

        with pytest.raises(Conflict):
            await kv.transact(decide)
        assert await kv.get(b"a") is None

    async def test_a_failed_decision_fails_only_itself(self, kv: KV) -> None:
        results: list[str] = []

        async def one(number: int) -> None:
            def decide(tx: Transaction) -> None:
                tx.put(b"k%d" % number, b"1")
                if number % 2:
                    raise Conflict("odd")

            try:
                await kv.transact(decide)
                results.append("done")
            except Conflict:
                results.append("refused")

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(one, number)
        assert sorted(results) == ["done"] * 5 + ["refused"] * 5
        assert [key for key, _ in await kv.scan(b"k", b"l", 99)] == [b"k0", b"k2", b"k4", b"k6", b"k8"]

    async def test_concurrent_increments_are_all_counted(self, kv: KV) -> None:
        def increment(tx: Transaction) -> int:
            now = int(tx.get(b"n") or b"0") + 1
            tx.put(b"n", b"%d" % now)
            return now

        results: list[int] = []

        async def some() -> None:
            results.extend([await kv.transact(increment) for _ in range(5)])

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(some)
        assert sorted(results) == list(range(1, 101))
        assert await value(kv, b"n") == b"100"

    async def test_money_moved_between_accounts_stays_the_same_for_every_reader(self, kv: KV) -> None:
        accounts = [b"account/%d" % n for n in range(5)]
        await kv.commit({}, dict.fromkeys(accounts, b"100"))
        running = True

        def move(source: bytes, target: bytes) -> Callable[[Transaction], None]:
            def decide(tx: Transaction) -> None:
                balance = int(tx.get(source) or b"")
                if not balance:
                    raise Conflict("empty")
                tx.put(source, b"%d" % (balance - 1))
                tx.put(target, b"%d" % (int(tx.get(target) or b"") + 1))

            return decide

        async def mover(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(20):
                source, target = chance.sample(accounts, 2)
                await kv.transact(move(source, target))

        async def reader() -> None:
            while running:
                entries = await kv.get_many(accounts)
                assert sum(int(entry.value) for entry in entries if entry) == 500
                assert await kv.view(lambda look: sum(int(look.get(key) or b"") for key in accounts)) == 500
                assert sum(int(value) for _, value in await kv.scan(b"account/", b"account0", 9)) == 500
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            async with trio.open_nursery() as movers:
                for seed in range(10):
                    movers.start_soon(mover, seed)
            running = False

    async def test_notes_are_heard_in_commit_order_before_the_answer_and_never_of_a_refusal(self, kv: KV) -> None:
        heard: list[object] = []
        kv.listen(heard.extend)

        async def one(number: int) -> None:
            def decide(tx: Transaction) -> int:
                place = int(tx.get(b"place") or b"0")
                tx.note(place)
                if number % 3 == 0:
                    raise Conflict("no")
                tx.put(b"place", b"%d" % (place + 1))
                return place

            with suppress(Conflict):
                assert await kv.transact(decide) in heard

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(one, number)
        assert heard == list(range(20))

    async def test_a_cancelled_transaction_is_applied_whole_or_not_at_all(self, kv: KV) -> None:
        def decide(tx: Transaction) -> None:
            tx.put(b"a", b"1")
            tx.put(b"b", b"1")

        with trio.CancelScope() as scope:
            scope.cancel()
            await kv.transact(decide)
        await put(kv, c="1")
        assert (await kv.get(b"a") is None) == (await kv.get(b"b") is None)

    async def test_a_mark_says_what_is_committed_and_grows_with_every_commit(self, kv: KV) -> None:
        before = kv.mark()
        assert len(bytes.fromhex(before.opening)) == 16
        assert kv.includes(before)
        await put(kv, a="1")
        after = kv.mark()
        assert after.opening == before.opening
        assert after.number > before.number
        assert kv.includes(before)
        assert kv.includes(after)

    async def test_marks_of_what_is_not_there_are_not_included(self, kv: KV) -> None:
        await put(kv, a="1")
        mark = kv.mark()
        assert not kv.includes(Mark(mark.opening, mark.number + 1))
        assert not kv.includes(Mark("0" * 32, 0))

    async def test_a_mark_never_speaks_of_what_is_not_committed(self, kv: KV) -> None:
        def refuse(tx: Transaction) -> None:
            tx.put(b"a", b"1")
            raise Conflict("no")

        before = kv.mark()
        with pytest.raises(Conflict):
            await kv.transact(refuse)
        assert kv.includes(before)
        assert kv.mark() == before
