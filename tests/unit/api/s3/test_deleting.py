"""Deletes of many hold their memory in the books."""

from __future__ import annotations

import base64
from contextlib import ExitStack
from hashlib import md5

import pytest
import trio.testing

from flared.api.s3.deleting import reserved
from flared.chunks.budget import MemoryBudget
from flared.chunks.chunker import OWN_SIZE
from flared.errors import SlowDown
from tests.support.s3 import speaking_s3

Clock = trio.testing.MockClock


def test_small_documents_take_nothing_and_large_ones_give_back() -> None:
    budget = MemoryBudget(16 << 20)
    with reserved(budget, OWN_SIZE):
        assert budget.reserve_nowait(16 << 20)
        budget.give_back(16 << 20)
    with ExitStack() as held:
        for size in (2 << 20, 4 << 20, 4 << 20, 2 << 20):
            held.enter_context(reserved(budget, size))
        with pytest.raises(SlowDown):
            held.enter_context(reserved(budget, 4 << 20))
    assert budget.reserve_nowait(16 << 20)


async def test_a_large_document_that_finds_no_room_is_told_to_come_later(autojump_clock: Clock) -> None:
    keys = b"".join(b"<Object><Key>%s</Key></Object>" % (b"k" * 900) for _ in range(100))
    body = b"<Delete>%s</Delete>" % keys
    digest = {"content-md5": base64.b64encode(md5(body).digest()).decode()}
    async with speaking_s3() as ask:
        stages = ask.cluster.store.chunks.stages
        assert stages.reserve_nowait(stages.total)
        refused = await ask("POST", "/default?delete", body, digest)
        assert (refused.status, refused.code) == (503, "SlowDown")
        stages.give_back(stages.total)
        assert (await ask("POST", "/default?delete", body, digest)).status == 200
        assert stages.reserve_nowait(stages.total), "all of it was given back"
