"""``flared`` with its calls counted: what ``bench.calls`` starts instead of it. It adds nothing to the product.

A hook of ``sys.setprofile`` in every thread notes each call of a function below ``flared/``. A thread that is not
observed answers on a Unix socket, whose path is in ``FLARE_BENCH_CALLS``: ``reset`` forgets what was noted,
``report`` sends it as JSON: ``[[file, function, calls, resumptions], ...]`` and the greatest depth.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections import Counter
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType

import flared
from flared.__main__ import main

VARIABLE = "FLARE_BENCH_CALLS"
PACKAGE = str(Path(flared.__file__).parent) + os.sep
RESUME_AT_START = 0
"""The argument of RESUME where a function begins; behind yield and await it is 1 to 3."""


class Calls:
    """The calls since the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.started: Counter[CodeType] = Counter()
        self.resumed: Counter[CodeType] = Counter()
        self.depth = 0

    def note(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        (self.started if is_start(code, frame.f_lasti) else self.resumed)[code] += 1
        self.depth = max(self.depth, depth_of(frame))

    def report(self) -> bytes:
        rows = [
            [code.co_filename.removeprefix(PACKAGE), code.co_qualname, self.started[code], self.resumed[code]]
            for code in {*self.started, *self.resumed}
        ]
        return json.dumps({"rows": rows, "depth": self.depth}).encode()


@lru_cache(100_000)
def is_start(code: CodeType, instruction: int) -> bool:
    """Return whether a frame at this instruction begins, rather than continues after a yield or an await."""
    if instruction < 0:
        return True
    raw = code.co_code
    return raw[instruction + 1] & 3 == RESUME_AT_START


def depth_of(frame: FrameType | None) -> int:
    """Functions of the package on the stack."""
    depth = 0
    while frame is not None:
        depth += frame.f_code.co_filename.startswith(PACKAGE)
        frame = frame.f_back
    return depth


def answer_questions(calls: Calls, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection:
                if connection.recv(16) == b"reset":
                    calls.reset()
                    connection.sendall(b"done")
                else:
                    connection.sendall(calls.report())


if __name__ == "__main__":
    noted = Calls()
    # Started before the hook is set: this thread is not observed.
    threading.Thread(
        target=answer_questions, args=(noted, f"{os.environ[VARIABLE]}.{os.getpid()}"), daemon=True
    ).start()
    threading.setprofile(noted.note)
    sys.setprofile(noted.note)
    raise SystemExit(main())
