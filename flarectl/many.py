"""The same small call on many objects, several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from flarectl.errors import Existing, ExitCode, Failure, Unreachable
from flarectl.report import Report
from flarectl.source import RemoteObject

AT_ONCE = 16
"""Each change waits for a disk, and the server syncs those that come together in one go."""


def on_each(objects: Iterator[RemoteObject], call: Callable[[RemoteObject], None], report: Report) -> ExitCode:
    """``call`` on each object; what fails is reported and the rest goes on, unless the cluster is out of reach."""
    executor = ThreadPoolExecutor(AT_ONCE)
    running: dict[Future[None], RemoteObject] = {}
    try:
        for remote in objects:
            running[executor.submit(call, remote)] = remote
            if len(running) >= AT_ONCE:
                _collect(running, report)
        while running:
            _collect(running, report)
    except KeyboardInterrupt:
        executor.shutdown(cancel_futures=True)
        return report.finish(interrupted="to go on, run the same command again")
    except Failure as failure:
        report.failed("", failure)
    finally:
        executor.shutdown(cancel_futures=True)
    return report.finish()


def _collect(running: dict[Future[None], RemoteObject], report: Report) -> None:
    """Wait for one at least."""
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
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
