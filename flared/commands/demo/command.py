"""``flared demo``: find a directory with room, run the steps, return an exit code, and leave nothing running."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from flared.commands.demo.failed import Failed
from flared.commands.demo.files import BIG_BYTES, check_files
from flared.commands.demo.screen import Screen
from flared.commands.demo.steps import DATA_NODES, Demo
from flared.commands.supervisor import NotStarted
from flared.errors import leaves

COPIES = DATA_NODES + 2
"""How many copies of the files are on this disk at most: on the nodes, and read back twice."""


def run_demo(files: Sequence[Path], keep: Path | None) -> int:
    """Run the demo. Return exit code 0 only if every check held."""
    screen = Screen()
    try:
        check_files(files)
        with _directory(files, keep) as directory:
            return trio.run(_run, files, directory, screen, strict_exception_groups=True)
    except (Failed, OSError) as error:
        screen.end(False, f"The demo cannot run: {error}")
        return 1


async def _run(files: Sequence[Path], directory: Path, screen: Screen) -> int:
    failure = ""
    interrupted = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:

        async def stop_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
            nonlocal interrupted
            async for _ in signals:
                interrupted = True
                scope.cancel()

        # A signal cancels the steps, which stop their nodes; only then the sentence below is printed.
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop_at_signal, signals, nursery.cancel_scope)
                await Demo(directory, screen).show(files)
                nursery.cancel_scope.cancel()
        except* Failed as group:
            failure = "\n".join(str(error) for error in leaves(group))
        except* NotStarted as group:
            failure = "\n".join(str(error) for error in leaves(group))
    if interrupted:
        screen.end(False, "Interrupted; everything is stopped.")
        return 130
    if failure:
        screen.end(False, failure)
        return 1
    return 0


@contextmanager
def _directory(files: Sequence[Path], keep: Path | None) -> Iterator[Path]:
    """Yield the directory of the demo: ``keep``, or one with enough room that is removed at the end."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise Failed(f"{keep} is not empty")
        yield keep.resolve()
        print(f"Kept: {keep}; run it again with: flared local --dir {keep / 'cluster'}")
        return
    size = sum(file.stat().st_size for file in files) or BIG_BYTES * 2
    with tempfile.TemporaryDirectory(prefix="flare-demo-", dir=_roomy(COPIES * size + 2**30)) as directory:
        yield Path(directory)


def _roomy(size: int) -> Path:
    # /tmp may be memory; /var/tmp is a disk.
    places = [Path(os.environ["TMPDIR"])] if "TMPDIR" in os.environ else [Path("/var/tmp"), Path("/tmp"), Path.cwd()]
    for place in places:
        if os.access(place, os.W_OK) and shutil.disk_usage(place).free > size:
            return place
    raise Failed(
        f"less than {size / 1e9:.1f} GB free in {', '.join(map(str, places))}; set TMPDIR to a directory with more"
    )
