"""The same small call on many objects, several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask

from flarectl.client import Client
from flarectl.errors import Existing, ExitCode, Failure, Unreachable
from flarectl.progress import TICK_SECONDS
from flarectl.report import Report
from flarectl.source import RemoteObject

FINISH_SECONDS = 5.0
"""How long Ctrl-C waits for running calls."""
AT_ONCE = 16
"""Each change waits for a disk, and the server syncs changes that arrive together at once."""


def on_each(
    client: Client, objects: Iterator[RemoteObject], call: Callable[[RemoteObject], None], report: Report
) -> ExitCode:
    """Call ``call`` on each object. Report failures and go on, unless the cluster is out of reach.

    After Ctrl-C the running calls are finished, so that nothing is left half-done. A second Ctrl-C, or a cluster that
    does not answer for some seconds, breaks them off.
    """
    executor = ThreadPoolExecutor(AT_ONCE)
    running: dict[Future[None], RemoteObject] = {}
    try:
        for remote in objects:
            with _interrupts_held():
                running[executor.submit(call, remote)] = remote
            if len(running) >= AT_ONCE:
                _collect(running, report)
        while running:
            _collect(running, report)
    except KeyboardInterrupt:
        _finish_running(client, running, report)
        return report.finish(interrupted="to go on, run the same command again")
    except Failure as failure:
        report.failed("", failure)
    finally:
        executor.shutdown(cancel_futures=True)
    return report.finish()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Have a Ctrl-C wait for the end of the block, so that every call that was begun is known. The threads that are
    started here never get one."""
    held = pthread_sigmask(SIG_BLOCK, {SIGINT})
    try:
        yield
    finally:
        pthread_sigmask(SIG_SETMASK, held)


def _finish_running(client: Client, running: dict[Future[None], RemoteObject], report: Report) -> None:
    """Count the calls that end in time, and break off the others."""
    for future in list(running):
        if future.cancel():
            del running[future]
    with suppress(KeyboardInterrupt, Failure):
        client.stop_retrying()
        wait(running, FINISH_SECONDS)
        _take(running, {future for future in running if future.done()}, report)
    client.abort()


def _collect(running: dict[Future[None], RemoteObject], report: Report) -> None:
    """Wait until at least one call has ended."""
    finished: set[Future[None]] = set()
    while not finished:
        # Only a terminal must be redrawn while we wait.
        timeout = TICK_SECONDS if report.bars.visible else None
        finished, _ = wait(running, timeout, return_when=FIRST_COMPLETED)
        report.bars.tick()
    _take(running, finished, report)


def _take(running: dict[Future[None], RemoteObject], finished: set[Future[None]], report: Report) -> None:
    for future in finished:
        remote = running.pop(future)
        try:
            future.result()
        except Unreachable:
            raise
        except Existing as failure:
            report.existing(str(failure))
        except Failure as failure:
            report.failed(str(remote.target), failure)
        else:
            report.done(str(remote.target), {"bucket": remote.target.bucket, "key": remote.target.key})
