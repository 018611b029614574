"""Transfer many bodies: put, get or cat several sources, a few at a time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

from flarectl.answers import ObjectInfo, bare_etag
from flarectl.bodies import Bodies
from flarectl.download import Buffers, download
from flarectl.errors import Exists, ExitCode, Failure, Interrupted, NoBucket, OutputClosed, Refusal, Unreachable
from flarectl.local import Directory, PartialFile, StandardOutput
from flarectl.progress import TICK_SECONDS
from flarectl.source import STDIN, LocalFile, RemoteObject
from flarectl.tasks import in_abandonable_thread, in_thread, open_tasks, run_until_signal
from flarectl.upload import ChunkSizes, PutOptions, put_file, put_stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from flarectl.progress import Bars
    from flarectl.report import Report
    from flarectl.target import Target

T = TypeVar("T")
FATAL: tuple[type[Failure], ...] = (Unreachable, OutputClosed)
"""Failures that every other transfer would meet too."""
VERSIONS_MAX = 3
"""How often a get starts again because the object was replaced while it was read."""
GO_ON = "no partial file or object is left; to go on, run the same command again"
SKIP_DONE = ", with --if-not-exists to skip what is done"


@dataclass(frozen=True, slots=True)
class Options:
    parallel: int = 4
    if_not_exists: bool = False
    dry_run: bool = False


def put_all(
    bodies: Bodies,
    files: Iterator[LocalFile],
    target_of: Callable[[LocalFile], Target],
    options: Options,
    report: Report,
) -> ExitCode:
    """Put each file under the name that ``target_of`` gives it."""

    async def put() -> None:
        # Shared by all files, so that each bucket's chunk size is requested only once.
        sizes = ChunkSizes(bodies)
        conditions = PutOptions(options.if_not_exists)

        async def put_one(file: LocalFile) -> None:
            target = target_of(file)
            target.object_key()  # refuses a name that cannot be a key, also in a dry run
            if options.dry_run:
                return report.done(f"{file.path} -> {target}", _record(file.path, target))
            meter = report.bars.begin(file.path, await in_thread(_size, file.path))
            try:
                if file.path == STDIN:
                    result = await put_stream(bodies, sizes, 0, target, conditions, meter.moved)
                else:
                    result = await put_file(bodies, sizes, file.path, target, conditions, meter.moved)
            except Exists:  # found out before the body was sent, or by the server when it committed
                if not options.if_not_exists:
                    raise
                return report.existing(str(target))
            finally:
                meter.finish()
            stored: dict[str, object] = {"size": result.size, "etag": bare_etag(result.etag), "version": result.version}
            return report.done(f"{file.path} -> {target}", _record(file.path, target) | stored)

        await _for_each(files, put_one, _name, options.parallel, report, fatal=(*FATAL, NoBucket))

    return _run(bodies, put, options, report, GO_ON)


def get_all(
    bodies: Bodies,
    objects: Iterator[RemoteObject],
    directory: Directory,
    name_of: Callable[[RemoteObject], str],
    options: Options,
    report: Report,
) -> ExitCode:
    """Get each object into the directory, under the name that ``name_of`` gives it."""

    async def get() -> None:
        buffers = Buffers(options.parallel)

        async def get_one(found: tuple[RemoteObject, str]) -> None:
            remote, path = found
            record = _record(path, remote.target)
            if options.if_not_exists and await in_thread(os.path.lexists, path):
                report.bars.skip_bytes(remote.entry.size if remote.entry else 0)
                return report.existing(path)
            if options.dry_run:
                if remote.entry is None:  # named on the command line: nothing has looked it up yet
                    await bodies.head_named(remote.target, "use -r")
                return report.done(f"{remote.target} -> {path}", record)
            info = await _get_file(bodies, buffers, remote, path, directory, report)
            got: dict[str, object] = {"size": info.size, "etag": bare_etag(info.etag), "version": info.version}
            return report.done(f"{remote.target} -> {path}", record | got)

        places = _places(objects, directory, name_of, report)
        await _for_each(places, get_one, lambda found: str(found[0].target), options.parallel, report)

    return _run(bodies, get, options, report, GO_ON)


def cat_all(bodies: Bodies, objects: Iterator[RemoteObject], options: Options, report: Report) -> ExitCode:
    """Write each object to standard output, one after the other."""

    async def cat() -> None:
        buffers = Buffers(options.parallel)

        async def cat_one(remote: RemoteObject) -> None:
            info = await bodies.head_named(remote.target, f"flarectl ls {remote.target}/ lists it")
            meter = report.bars.begin(str(remote.target), info.size)
            try:
                await download(bodies, buffers, remote.target, StandardOutput(), meter.moved, info=info, in_order=True)
            finally:
                meter.finish()

        await _for_each(objects, cat_one, lambda remote: str(remote.target), 1, report)

    return _run(bodies, cat, options, report, "the output ends early")


async def _get_file(
    bodies: Bodies, buffers: Buffers, remote: RemoteObject, path: str, directory: Directory, report: Report
) -> ObjectInfo:
    """Get one file; start again if another client replaces the object. A cancellation leaves nothing behind."""
    await in_thread(directory.make_parent, path)
    known = remote.entry
    info = ObjectInfo(known.size, known.etag, known.modified, "", known.version, {}) if known else None
    for attempt in range(1, VERSIONS_MAX + 1):
        info = info or await bodies.head_named(remote.target, "use -r")
        file = PartialFile(path)
        meter = report.bars.begin(str(remote.target), info.size)
        try:
            info = await download(bodies, buffers, remote.target, file, meter.moved, info=info)
            await file.finish(info)
            return info
        except Exists:
            meter.moved(-meter.done)
            if attempt == VERSIONS_MAX:
                raise Refusal(f"{remote.target}: it is replaced faster than it can be read") from None
            info = None
        finally:
            file.discard()
            meter.finish()
    raise AssertionError


def _places(
    objects: Iterator[RemoteObject], directory: Directory, name_of: Callable[[RemoteObject], str], report: Report
) -> Iterator[tuple[RemoteObject, str]]:
    """Yield each object with its local path; report those that cannot have one."""
    for remote in objects:
        name = name_of(remote)
        try:
            if name.endswith("/") and remote.entry and not remote.entry.size:
                report.skipped(str(remote.target), "it only marks a directory")
            else:
                yield remote, directory.place(name)
        except Failure as failure:
            report.failed(str(remote.target), failure)


async def _for_each(
    items: Iterator[T],
    work: Callable[[T], Awaitable[None]],
    name_of: Callable[[T], str],
    parallel: int,
    report: Report,
    *,
    fatal: tuple[type[Failure], ...] = FATAL,
) -> None:
    """Run ``work`` on each item, ``parallel`` at once. Report failures and go on, unless one is fatal."""
    turns = trio.Semaphore(parallel)

    async def work_on(item: T) -> None:
        try:
            await work(item)
        except fatal:
            raise
        except Failure as failure:
            report.failed(name_of(item), failure)
        finally:
            turns.release()

    async with open_tasks() as tasks:
        while True:
            await turns.acquire()
            # A listing asks the server, a directory the disk.
            item = await in_abandonable_thread(_next, items)
            if item is None:
                break
            tasks.start_soon(work_on, item)


def _run(bodies: Bodies, work: Callable[[], Awaitable[None]], options: Options, report: Report, go_on: str) -> ExitCode:
    """Run the work until it is done or a signal comes; ``go_on`` is the sentence after a signal."""

    async def main() -> None:
        try:
            async with open_tasks() as tasks:
                if report.bars.visible:
                    tasks.start_soon(_keep_drawn, report.bars)
                await work()
                tasks.cancel_scope.cancel()
        finally:
            bodies.close()

    try:
        run_until_signal(main)
    except (Interrupted, KeyboardInterrupt):
        skip_done = SKIP_DONE if report.done_count and not options.if_not_exists else ""
        return report.finish(interrupted=f"{go_on}{skip_done}")
    except Failure as failure:
        report.failed("", failure)
    return report.finish()


async def _keep_drawn(bars: Bars) -> None:
    """Redraw the bars regularly, so that a stall is shown too."""
    while True:
        await trio.sleep(TICK_SECONDS)
        bars.tick()


def _next(items: Iterator[T]) -> T | None:
    return next(items, None)


def _record(path: str, target: Target) -> dict[str, object]:
    return {"file": path, "bucket": target.bucket, "key": target.key}


def _name(file: LocalFile) -> str:
    return "standard input" if file.path == STDIN else file.path


def _size(path: str) -> int | None:
    try:
        return None if path == STDIN else os.stat(path).st_size
    except OSError:
        return None  # opening it will report why
