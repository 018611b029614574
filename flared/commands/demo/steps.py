"""The steps of the demo. Each is checked before the next one begins."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from flared import __version__
from flared.commands.demo.cluster import WELL_SECONDS, DemoCluster, free_ports
from flared.commands.demo.failed import Failed
from flared.commands.demo.files import Upload, count_text, find_files, name_uploads, same_bytes
from flared.commands.demo.screen import Screen
from flared.commands.local import prepare
from flared.commands.supervisor import Supervisor
from flared.errors import leaves

DATA_NODES = 3
VICTIM = "data2"
HEAL_SECONDS = 180.0
SMALL_BYTES_MAX = 4_000_000
PREFIX = "demo/"
LATER_PREFIX = "while-down/"


class Demo:
    """The steps, in order. Each raises Failed if its claim does not hold."""

    def __init__(self, directory: Path, screen: Screen) -> None:
        self._directory = directory
        self._screen = screen
        self._port = free_ports(DATA_NODES + 1)
        self._cluster = DemoCluster(self._port, DATA_NODES)

    async def show(self, files: Sequence[Path]) -> None:
        self._screen.heading(f"Flare {__version__}: a cluster on this machine, in {self._directory}")
        cluster = self._directory / "cluster"
        cluster.mkdir()
        nodes = prepare(cluster, nodes=DATA_NODES, port=self._port, data_port=self._port + 1, scheme=None)
        supervisor = Supervisor(nodes, lambda line: None)
        try:
            async with trio.open_nursery() as nursery:
                await self._start(nursery, supervisor)
                try:
                    uploads = await self._store(files)
                    await self._lose_a_node(supervisor, uploads)
                except Failed as error:  # the directory with the logs will be removed, so show their ends
                    tails = "\n".join(node.log_tail() for node in nodes)
                    raise Failed(f"{error}\n{tails}") from None
                nursery.cancel_scope.cancel()
        except* Failed as group:
            raise leaves(group)[0] from None
        # The nursery has ended, so every node must have stopped in order: that is the last claim.
        self._check_nothing_runs(supervisor)
        self._screen.end(
            True,
            f"All {self._screen.checks} steps held: {count_text(uploads)} came back byte for byte, with all nodes, "
            "with one killed, and after it returned.",
        )

    async def _start(self, nursery: trio.Nursery, supervisor: Supervisor) -> None:
        with self._screen.step(f"start 1 api node and {DATA_NODES} data nodes, each a process") as say:
            await nursery.start(supervisor.run)
            await self._cluster.wait_for("ok", WELL_SECONDS)
            say(f"http://127.0.0.1:{self._port}")

    async def _store(self, files: Sequence[Path]) -> list[Upload]:
        if not files:
            with self._screen.step("find some files, and make a large one"):
                files = await trio.to_thread.run_sync(find_files, self._directory)
        uploads = name_uploads(files, PREFIX)
        with self._timed(f"put {count_text(uploads)}", uploads):
            await self._cluster.put(uploads)
        with self._screen.step("list them"):
            listing = await self._cluster.flarectl("ls", "-l", PREFIX)
            await self._cluster.check_listing(PREFIX, uploads)
        self._screen.command(["flarectl", "ls", "-l", PREFIX], listing)
        await self._get_all("get them back and compare every byte", uploads, PREFIX)
        return uploads

    async def _lose_a_node(self, supervisor: Supervisor, uploads: list[Upload]) -> None:
        with self._screen.step(f"kill -9 {VICTIM}, and keep it down"):
            await supervisor.kill(VICTIM)
        await self._get_all("get everything without it, and compare", uploads, PREFIX)
        small = [upload.file for upload in uploads if upload.size <= SMALL_BYTES_MAX] or [Path(__file__)]
        later = name_uploads(small, LATER_PREFIX)
        with self._timed(f"put {count_text(later)} more without it", later):
            await self._cluster.put(later)
        await self._get_all("get those back and compare", later, LATER_PREFIX)
        with self._screen.step("the cluster reports what it lacks"):
            await self._cluster.wait_until_missed(VICTIM)
        self._screen.command(["flarectl", "status"], await self._cluster.flarectl("status"))
        with self._screen.step(f"let {VICTIM} return; it gets what it missed"):
            supervisor.revive(VICTIM)
            await self._cluster.wait_for("ok", HEAL_SECONDS)
            for upload in [*uploads, *later]:
                await self._cluster.check_copies(upload)
        self._screen.command(["flarectl", "status"], await self._cluster.flarectl("status"))

    async def _get_all(self, title: str, uploads: list[Upload], prefix: str) -> None:
        target = self._directory / "back"
        with self._timed(title, uploads):
            await self._cluster.flarectl("get", "-r", prefix, f"{target}/")
            for upload in uploads:
                back = target / upload.key.removeprefix(prefix)
                same = await trio.to_thread.run_sync(same_bytes, upload.file, back)
                if not same:
                    raise Failed(f"{upload.key} came back with other bytes than {upload.file} has")
        await trio.to_thread.run_sync(shutil.rmtree, target)

    @contextmanager
    def _timed(self, title: str, uploads: Sequence[Upload]) -> Iterator[None]:
        began = time.monotonic()
        with self._screen.step(title) as say:
            yield
            size = sum(upload.size for upload in uploads)
            if size > SMALL_BYTES_MAX:
                say(f"{size / 1e6 / (time.monotonic() - began):.0f} MB/s")

    def _check_nothing_runs(self, supervisor: Supervisor) -> None:
        for node in supervisor.nodes.values():
            if node.process is not None and node.process.poll() != 0 and node.process.returncode != -signal.SIGTERM:
                raise Failed(f"{node.name} did not end in order: {node.process.returncode}\n{node.log_tail()}")
