"""How long a call that fails temporarily is repeated: one rule for bodies and for control calls.

A call is repeated until it has waited, or the cluster has done nothing for us, for the time of ``--retry-for``.
Failures that waiting rarely cures (a full disk, a chunk that arrives damaged) are given up sooner.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from flarectl.errors import Failure, Temporary, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

TERMINAL_SECONDS = 120.0
"""On a terminal: a person watches and can stop it; an api node that restarts or is replaced is back by then."""
UNWATCHED_SECONDS = 30.0
"""Without a terminal: a script soon sees that something is wrong; an api node that restarts is back by then."""
SHORT_SECONDS = 7.5
READ_SECONDS = 1.5
"""For a listing or a status, which the caller can simply request again."""
FIRST_REST_SECONDS = 0.5
REST_SECONDS_MAX = 10.0
RETRY_AFTER_SECONDS_MAX = 30.0
SILENT = ("ConnectionLost", "BodyTruncated")
FULL = ("VolumeFull", "MetadataFull")


class Retries:
    """The rule for one command, shared by all its calls, which may run in several threads.

    ``patient``: changes, and calls to an endpoint that went away, are repeated too. ``notice`` is called with a
    sentence for the screen before each rest. ``stubborn``: wait also for an endpoint that was never reached.
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
        """Return the attempts of one call."""
        return Attempts(self)

    def reached(self) -> None:
        """Note that the endpoint accepted a connection."""
        self._reached = True

    def replied(self) -> None:
        """Note that the endpoint answered, possibly with an error."""
        self._replies += 1

    def succeeded(self) -> None:
        """Note that a body or a change was successful."""
        self._failing_since = None

    def stop(self) -> None:
        """Wake all calls that rest, and make them give up."""
        self._stopped.set()

    def sleep(self, seconds: float, failure: Failure) -> None:
        """Rest in a thread. Raise the failure if the command is stopped in the meantime."""
        if self._stopped.wait(seconds):
            raise failure

    def replies(self) -> int:
        return self._replies

    def failing_seconds(self) -> float:
        """Return the time since the first failure after the last success."""
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since

    def allows(self, failure: Failure) -> bool:
        """Return whether calls with this kind of failure are repeated at all."""
        return not isinstance(failure, Unreachable) or (self.patient and self._reached)

    def notify(self, text: str) -> None:
        if self._notice is not None:
            self._notice(text)


class Attempts:
    """The attempts of one call: their number and how long they have rested."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._replies = retries.replies()
        self._waited = 0.0
        self.number = 1

    def rest_seconds(self, failure: Failure) -> float:
        """Return how long to rest before the next attempt. Raise the failure if there have been enough.

        Raise Unreachable if the endpoint has stopped answering: every other call would meet that too.
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
        retries.notify(f"{why}, trying again ({self.number - 1})")
        return rest
