"""Small puts: a body of one chunk that is never shared, from its bytes to its manifest without a task.

    begin -> pieces queued at their nodes -> the fan is decided -> one transaction -> ``done``

Each arrow is a callback in a turn, so everything that is ready together travels together: one batch to each node, one
group commit. Before the transaction only refusals need a look-up, and the transaction decides again.
The order, and what a crash leaves, is that of ``objects.put``.

A put whose client has left is given up before it commits: it must not replace a write that was acknowledged since, to
that client or another. Once its group is on the way to stable storage it ends by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import outcome
import trio

from flared.chunks.scheme import parse_scheme
from flared.chunks.write import begin_small
from flared.errors import FlareError
from flared.log import current_request
from flared.meta import keys
from flared.objects.commit import PutResult, Target, make_etag, put_packed

if TYPE_CHECKING:
    from flared.chunks.chunk import ChunkRecord
    from flared.chunks.fanout import FanOut
    from flared.meta.kv import Transaction

Done = Callable[[PutResult | None, Exception | None], None]


async def put_small(target: Target, plain: bytes, digest: bytes, etag: str = "") -> PutResult:
    """``begin_put`` for a task that waits. Cancelled, it is given up unless its commit is on the way already."""
    task = trio.lowlevel.current_task()

    def done(result: PutResult | None, error: Exception | None) -> None:
        trio.lowlevel.reschedule(task, outcome.Value(result) if error is None else outcome.Error(error))

    put = begin_put(target, plain, digest, done, request=current_request.get(), etag=etag)

    def leave(_: object) -> trio.lowlevel.Abort:
        put.give_up()
        return trio.lowlevel.Abort.SUCCEEDED

    result: PutResult = await trio.lowlevel.wait_task_rescheduled(leave)
    return result


def digest_of_small(plain: bytes | bytearray) -> bytes:
    """The digest of a body of at most INLINE_DIGEST_MAX bytes, computed in the turn."""
    return hashlib.sha256(plain).digest()


def begin_put(
    target: Target, plain: bytes, digest: bytes, done: Done, *, request: int | str, etag: str = ""
) -> SmallPut:
    """Begin to store ``plain``, smaller than LARGE_SIZE and not empty, whose SHA-256 is ``digest``.

    ``done`` is called once, in a later turn, unless the put is given up before: with the result when pieces and
    manifest are on stable storage, else with what ``put_object`` would raise. Raises NoPlacement or VolumeFull if the
    nodes cannot take it now; then nothing has happened and ``done`` is not called. ``plain`` must stay as it is for
    good. Without ``etag`` it is made of the digest.
    """
    bucket, chunks = target.bucket, target.store.chunks
    scheme = parse_scheme(bucket.scheme).for_size(len(plain))
    fan = begin_small(chunks, plain, digest, scheme=scheme, compress=bucket.compress, request=request)
    put = SmallPut(target, fan, etag or make_etag(hashlib.sha256(digest), 1), done)
    fan.start(put.commit)
    return put


class _GivenUp(Exception):  # a signal inside this file, never an error
    """The caller of the put is gone."""


class SmallPut:
    """One put on its way."""

    __slots__ = ("_chunk", "_done", "_etag", "_fan", "_now", "_target")

    def __init__(self, target: Target, fan: FanOut, etag: str, done: Done) -> None:
        self._target = target
        self._fan = fan
        self._etag = etag
        self._done: Done | None = done
        """None: it was given up, or it has ended."""
        self._chunk: ChunkRecord | None = None
        self._now = 0.0
        """When it was decided for the first time; a decision may be repeated."""

    def give_up(self) -> None:
        """Give the put up: its caller is gone. The sweep deletes its pieces, unless the commit is on the way."""
        if self._done is not None:
            self._done = None
            if self._chunk is None:
                self._fan.abandon()

    def commit(self) -> None:
        """The fan is decided: record what it stored, if that is enough."""
        target = self._target
        store = target.store
        try:
            self._chunk = self._fan.finish()
        except FlareError as error:
            done, self._done = self._done, None
            if done is not None:
                done(None, error)
            return
        self._now = store.now()
        reads = (keys.object_(*target.name),) if target.once is None else (keys.object_(*target.name), target.once.key)
        store.kv.transact_nowait(self._decide, self._committed, reads=reads)

    def _decide(self, tx: Transaction) -> PutResult:
        if self._done is None:
            raise _GivenUp
        assert self._chunk is not None
        return put_packed(tx, self._target, self._chunk, self._etag, self._now)

    def _committed(self, result: PutResult | None, error: Exception | None) -> None:
        chunk, store = self._chunk, self._target.store
        assert chunk is not None
        if error is not None:
            store.chunks.in_flight.abandon(chunk.id, chunk.pieces, trio.current_time())
        else:
            store.chunks.in_flight.release(chunk.id)
            if chunk.missing:
                store.degraded()
        done, self._done = self._done, None
        if done is not None:
            done(result, error)
