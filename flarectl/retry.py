"""How long a call that fails for now is tried again: one rule for bodies and for control calls.

A call is repeated until it has waited, or the cluster has done nothing for us, for the time of ``--retry-for``. What
waiting rarely mends (a full disk, a chunk that arrives damaged from a node that answers) is given up sooner.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from flarectl.errors import Failure, Temporary, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

TERMINAL_SECONDS = 120.0
"""Somebody watches and can stop it; an api node that is restarted or replaced is back by then."""
UNWATCHED_SECONDS = 30.0
"""A script learns soon that something is wrong; an api node that starts again is back by then."""
SHORT_SECONDS = 7.5
READ_SECONDS = 1.5
"""Of a listing or a status, which whoever asked can ask for again."""
FIRST_REST_SECONDS = 0.5
REST_SECONDS_MAX = 10.0
RETRY_AFTER_SECONDS_MAX = 30.0
SILENT = ("ConnectionLost", "BodyTruncated")
FULL = ("VolumeFull", "MetadataFull")


class Retries:
    """The rule for one command, shared by all its calls, which may run in several threads.

    ``patient``: changes, and calls to an endpoint that went away, are repeated too. ``notice`` is called with a
    sentence for the screen before each rest. ``stubborn``: also an endpoint that was never reached is waited for.
    """

    def __init__(
        self,
        seconds: float = READ_SECONDS,
        *,
        patient: bool = False,
        stubborn: bool = False,
        notice: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self.patient = patient
        self._notice = notice
        self._clock = clock
        self._reached = stubborn
        self._replies = 0
        self._failing_since: float | None = None
        self._stopped = threading.Event()

    def begin(self) -> Attempts:
        """The attempts of one call."""
        return Attempts(self)

    def reached(self) -> None:
        """The endpoint took a connection."""
        self._reached = True

    def replied(self) -> None:
        """The endpoint answered, if only with an error."""
        self._replies += 1

    def succeeded(self) -> None:
        """A body or a change went through."""
        self._failing_since = None

    def stop(self) -> None:
        """Whoever rests is woken and gives up."""
        self._stopped.set()

    def sleep(self, seconds: float, failure: Failure) -> None:
        """Rest in a thread; raises the failure if the command is stopped meanwhile."""
        if self._stopped.wait(seconds):
            raise failure

    def replies(self) -> int:
        return self._replies

    def failing_seconds(self) -> float:
        """For how long nothing has succeeded, since the first failure."""
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since

    def allows(self, failure: Failure) -> bool:
        """Whether this kind of failure is repeated at all."""
        return not isinstance(failure, Unreachable) or (self.patient and self._reached)

    def tell(self, text: str) -> None:
        if self._notice is not None:
            self._notice(text)


class Attempts:
    """Of one call: counts them, and what they waited."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._replies = retries.replies()
        self._waited = 0.0
        self.number = 1

    def rest_seconds(self, failure: Failure) -> float:
        """How long to rest before the next attempt. Raises the failure if there have been enough.

        Of an endpoint that has stopped to answer, Unreachable: everything else would meet that as well.
        """
        retries = self._retries
        silent = isinstance(failure, Unreachable) or failure.code in SILENT
        answers = retries.replies() != self._replies
        self._replies = retries.replies()
        is_short = failure.code in FULL or not isinstance(failure, Temporary) or (silent and answers)
        limit = min(SHORT_SECONDS, retries.seconds) if is_short else retries.seconds
        failing = retries.failing_seconds()
        if not retries.allows(failure) or max(self._waited, failing) >= limit:
            if silent and failing >= retries.seconds and not answers and not isinstance(failure, Unreachable):
                raise Unreachable(str(failure), request_id=failure.request_id) from None
            raise failure from None
        wanted = failure.retry_after if isinstance(failure, Temporary) else 0.0
        rest = min(REST_SECONDS_MAX, FIRST_REST_SECONDS * 2.0 ** (self.number - 1))
        rest = max(rest, min(RETRY_AFTER_SECONDS_MAX, wanted))
        self.number += 1
        self._waited += rest
        why = "the api node does not answer" if silent else str(failure)
        retries.tell(f"{why}, trying again ({self.number - 1})")
        return rest
