"""Upkeep: every background Worker of the api role, wired to what wakes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from flared.background import Worker, WorkerRun, WorkerStatistics
from flared.cluster.states import NodeState
from flared.upkeep.deletion.expire import Expire
from flared.upkeep.deletion.old_uploads import OldUploads
from flared.upkeep.deletion.reconcile import Reconcile
from flared.upkeep.deletion.sweep import Sweep
from flared.upkeep.removal.removal import Removal
from flared.upkeep.repair.heal import Heal
from flared.upkeep.repair.lost_nodes import LostNodes
from flared.upkeep.repair.lost_volumes import LostVolumes

if TYPE_CHECKING:
    from flared.chunks.nodes import Nodes
    from flared.names import NodeName
    from flared.objects.store import Store
    from flared.upkeep.membership.membership import Membership

TRIM_SECONDS = 10.0

HEAL_REST = 0.5
"""Heal rests half as long as it works, so that clients keep at least a third of the loop."""


CHECK_SECONDS = 1.0
"""While nothing may be done."""


class _Gated:
    """A worker that does no step while the metadata is older than data nodes have seen it: any change or deletion could
    then be wrong. With ``waits`` it also waits for all data nodes that are not offline to say what they have seen."""

    def __init__(self, worker: Worker, nodes: Nodes, *, waits: bool) -> None:
        self.name = worker.name
        self._worker = worker
        self._nodes = nodes
        self._waits = waits
        self._rests = False

    async def step(self) -> bool:
        self._rests = bool(self._nodes.halted or (self._waits and self._nodes.uncompared()))
        return False if self._rests else await self._worker.step()

    async def wait(self) -> None:
        if self._rests:
            await trio.sleep(CHECK_SECONDS)
        else:
            await self._worker.wait()


class Upkeep:
    """Lives as long as the api role. Nothing of it runs before ``run``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.heal = Heal(store)
        self.sweep = Sweep(store)
        self.expire = Expire(store)
        self.old_uploads = OldUploads(store)
        self.reconcile = Reconcile(store, self.heal)
        self.lost_nodes = LostNodes(store, self.heal)
        self.lost_volumes = LostVolumes(store, self.heal)
        self.removal = Removal(store, self.heal)
        self._runs = [
            self._run(self.heal, rest=HEAL_REST),
            self._run(self.sweep, waits=True),
            self._run(self.expire, rest=1.0, waits=True),
            self._run(self.old_uploads, rest=1.0, waits=True),
            self._run(self.reconcile),
            self._run(self.lost_nodes, rest=1.0),
            self._run(self.lost_volumes, rest=1.0),
            self._run(self.removal, rest=1.0, waits=True),
        ]

    def _run(self, worker: Worker, *, rest: float = 0.0, waits: bool = False) -> WorkerRun:
        return WorkerRun(_Gated(worker, self._store.chunks.nodes, waits=waits), rest=rest)

    def follow(self, membership: Membership) -> None:
        """Subscribe to changes of nodes' states, to failed volumes, and to what the operator wants."""
        membership.subscribe(self._node_changed)
        self.lost_volumes.follow(membership)
        self.reconcile.follow(membership)
        self.removal.follow(membership)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. A cancelled step leaves nothing half-done: each is made of transactions."""
        async with trio.open_nursery() as nursery:
            for run in self._runs:
                nursery.start_soon(run.run)
            nursery.start_soon(self._store.totals.fill)
            nursery.start_soon(self._trim)
            task_status.started()

    def statistics(self) -> list[WorkerStatistics]:
        return [run.statistics() for run in self._runs]

    def _node_changed(self, node: NodeName, state: NodeState) -> None:
        self.lost_nodes.node_changed(node, state)
        self.reconcile.node_changed(node, state)
        if state is NodeState.ONLINE:
            self.heal.wake()

    async def _trim(self) -> None:
        """Give unused buffers back to the kernel."""
        while True:
            await trio.sleep(TRIM_SECONDS)
            self._store.chunks.budget.trim()
            self._store.chunks.units.trim()
