"""Of two processes with one name the first stays, and a restart does not count as a second process."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.data.report import VolumeReport
from flared.errors import DuplicateNode
from flared.names import NodeName
from flared.upkeep.membership.claims import SILENT_SECONDS, Answer, Holder, refuse_second, refuse_shared_volumes
from flared.upkeep.membership.heartbeat import Heartbeat

HERE, THERE = "10.0.0.1:9000", "10.0.0.2:9000"
BEAT = Heartbeat(NodeName("data1"), HERE, "z", "1", "c", "new", (), 0, (), None)
answers: st.SearchStrategy[Answer] = st.sampled_from([None, "", "old", "new", "third"])
silences = st.none() | st.floats(0, 100)


def is_refused(holder: Holder, at_holder: Answer, at_sender: Answer) -> bool:
    with suppress(DuplicateNode):
        refuse_second(holder, BEAT, at_holder, at_sender)
        return False
    return True


@given(answers, answers, silences)
def test_a_holder_that_answers_elsewhere_is_never_replaced(here: Answer, there: Answer, silent: float | None) -> None:
    if there and there != "new":
        assert is_refused(Holder(THERE, "old", silent), there, here)


@given(silences, st.sampled_from([HERE, THERE]))
def test_a_restarted_node_that_answers_alone_takes_over(silent: float | None, before: str) -> None:
    # At its old address answers nothing, or it does itself.
    elsewhere = None if before == THERE else "new"
    heard_lately = silent is not None and silent < SILENT_SECONDS
    assert is_refused(Holder(before, "old", silent), elsewhere, "new") == (before == THERE and heard_lately)


@given(silences)
def test_where_nothing_answers_the_last_one_heard_stays_for_a_heartbeat(silent: float | None) -> None:
    holder = Holder(HERE, "old", silent)
    assert is_refused(holder, None, None) == holder.is_heard


def test_another_process_at_the_senders_address_is_used_instead_of_it() -> None:
    assert is_refused(Holder(HERE, "old", None), "third", "third")
    assert is_refused(Holder(THERE, "old", None), None, "third")


def test_a_volume_is_on_one_node_only() -> None:
    volume = VolumeReport("v1", "/srv/a", 1, 0, 1, "ok")
    mine = replace(BEAT, volumes=(volume,))
    with pytest.raises(DuplicateNode, match="one is a copy of the other"):
        refuse_shared_volumes(mine, [replace(mine, name=NodeName("data2"), address=THERE)])
    refuse_shared_volumes(mine, [replace(BEAT, volumes=(replace(volume, id="v2"),))])
    unknown = replace(BEAT, volumes=(replace(volume, id="/srv/a"),))
    refuse_shared_volumes(unknown, [unknown])
