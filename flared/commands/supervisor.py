"""Supervisor: starts the processes of a small cluster on one machine, restarts those that die, stops them in order.

It replaces systemd: it receives READY=1 through NOTIFY_SOCKET, and sends SIGTERM.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

RESTART_SECONDS = 0.5
READY_SECONDS = 60.0
STOP_SECONDS = 40.0
"""The 30 s that a node gives its requests, and some time to write its state."""
LOG_BYTES_MAX = 16 * 1024 * 1024
"""A log that is longer when its node starts is truncated."""
_PR_SET_PDEATHSIG = 1


class NotStarted(Exception):  # the message is one sentence for the operator
    """A node ended, or was silent for too long, before it was ready; the message has the end of its log."""


@dataclass(slots=True)
class LocalNode:
    """One process of ``flared --config FILE``."""

    name: str
    config: Path
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = True
    """False: do not restart it."""
    changed: trio.Event = field(default_factory=trio.Event)

    @property
    def log(self) -> Path:
        return self.config.with_suffix(".log")

    def log_tail(self) -> str:
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"  {self.name}: {line}" for line in lines[-8:])


class Supervisor:
    """Runs nodes. The api node is the first in ``nodes``; it starts first, and stops first, while data nodes run."""

    def __init__(self, nodes: Sequence[LocalNode], say: Callable[[str], None]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._say = say

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the nodes until cancelled, then stop them in order. ``started`` when all nodes are ready.

        Raise NotStarted (maybe in a group) if the first start of a node fails.
        """
        try:
            async with trio.open_nursery() as nursery:
                # The api node first: a data node whose first heartbeat fails waits three seconds for the next.
                api, *others = self.nodes.values()
                await nursery.start(self._keep, api)
                async with trio.open_nursery() as starting:
                    for node in others:
                        starting.start_soon(nursery.start, self._keep, node)
                task_status.started()
        finally:
            with trio.CancelScope(shield=True):
                for node in self.nodes.values():
                    await _stop(node)

    async def kill(self, name: str) -> None:
        """Kill the node with ``kill -9``, and keep it down until ``revive``."""
        node = self.nodes[name]
        node.wanted = False
        if node.process is not None:
            node.process.kill()
            await _exited(node.process)

    def revive(self, name: str) -> None:
        """Start a node again after ``kill``; does not wait until it is ready."""
        node = self.nodes[name]
        node.wanted = True
        node.changed.set()

    async def _keep(self, node: LocalNode, *, task_status: trio.TaskStatus[None]) -> None:
        await self._start(node)
        task_status.started()
        while True:
            assert node.process is not None
            code = await _exited(node.process)
            if node.wanted:
                self._say(f"{node.name} died ({_describe(code)}) and is restarted")
                await trio.sleep(RESTART_SECONDS)
            while not node.wanted:
                node.changed = trio.Event()
                await node.changed.wait()
            node.process = launch(node)

    async def _start(self, node: LocalNode) -> None:
        address = f"@flared-{os.getpid()}-{id(node):x}-{node.name}"
        with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM) as notifier:
            await notifier.bind("\0" + address[1:])
            node.process = launch(node, {"NOTIFY_SOCKET": address})
            with trio.move_on_after(READY_SECONDS) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_fail_at_exit, node)
                    while b"READY=1" not in await notifier.recv(4096):
                        # The node is alive and reports its progress: it may have to read large volumes first.
                        scope.deadline = trio.current_time() + READY_SECONDS
                    nursery.cancel_scope.cancel()
                return
        raise NotStarted(f"{node.name} is not ready after {READY_SECONDS:.0f} s\n{node.log_tail()}")


def launch(node: LocalNode, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start the node's process, with its log beside its TOML file."""
    fresh = node.log.exists() and node.log.stat().st_size > LOG_BYTES_MAX
    with open(node.log, "wb" if fresh else "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "flared", "--config", str(node.config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"} | dict(environment or {}),
            # A process group of its own, so that Ctrl-C reaches only us and we stop the nodes in order. And no node
            # outlives us.
            process_group=0,
            preexec_fn=_die_with_parent,
        )


_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _exited(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of the process; return its exit code as subprocess does."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return process.wait()
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    return process.wait()


async def _fail_at_exit(node: LocalNode) -> None:
    assert node.process is not None
    code = await _exited(node.process)
    raise NotStarted(f"{node.name} ended at its start ({_describe(code)})\n{node.log_tail()}")


async def _stop(node: LocalNode) -> None:
    process = node.process
    if process is None or process.poll() is not None:
        return
    process.terminate()
    with trio.move_on_after(STOP_SECONDS):
        await _exited(process)
        return
    process.kill()
    await _exited(process)


def _describe(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
