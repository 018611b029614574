"""Small gets in turns: what is asked for in one turn is looked up together, and read without a task.

    begin -> the turn's end: manifests, then chunk records, of one moment
          -> from memory, or in one batch from each node -> ``done``

Only what ``open_object`` does for a whole small object is here; for everything else ``done`` says that the general
way is to be taken, and nothing has happened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from flared.catalog.chunks import decode as decode_chunk
from flared.catalog.manifest import decode as decode_manifest
from flared.catalog.objects import missing_error
from flared.chunks.chunk import INLINE_DIGEST_MAX
from flared.chunks.small_read import SmallRead
from flared.data.pieces import LARGE_SIZE
from flared.errors import FlareError
from flared.meta import keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.catalog.chunks import ChunkRecord
    from flared.catalog.manifest import Manifest
    from flared.meta.kv import KV, Entry
    from flared.names import ChunkId, ObjectName
    from flared.objects.store import Store

log = logging.getLogger(__name__)

Done = Callable[["Manifest | None", "bytes | memoryview", "FlareError | None"], None]
"""The manifest and all its bytes; or the error; or neither: then it takes the general way."""


class SmallGets:
    """The gets of a turn."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked: list[_SmallGet] = []

    def begin(self, name: ObjectName, done: Done, request: int | str) -> None:
        """Get a whole object without conditions. ``done`` is called once, in a turn."""
        self._asked.append(_SmallGet(self._store, name, done, request))
        if len(self._asked) == 1:
            self._store.chunks.turns.at_end(self._look_up)

    def _look_up(self) -> None:
        asked, self._asked = self._asked, []
        try:
            with_chunk: list[_SmallGet] = []
            for get, entry in zip(asked, _find(self._store.kv, [get.key for get in asked]), strict=True):
                if get.take_manifest(entry):
                    with_chunk.append(get)
            chunk_keys = [keys.chunk(get.chunk) for get in with_chunk]
            for get, entry in zip(with_chunk, _find(self._store.kv, chunk_keys), strict=True):
                get.take_chunk(entry)
        except Exception:
            log.exception("event=small_gets_failed")
            for get in asked:
                get.take_general_way()


def _find(kv: KV, wanted: Sequence[bytes]) -> list[Entry | FlareError | None]:
    """The record under each key. A row that cannot be read fails only the read that needs it."""
    try:
        return [*kv.get_many_nowait(wanted)]
    except FlareError as error:
        if len(wanted) == 1:
            return [error]
        return [found for key in wanted for found in _find(kv, [key])]


class _SmallGet:
    """One get on its way."""

    __slots__ = ("_done", "_manifest", "_name", "_reading", "_request", "_store", "chunk", "key")

    def __init__(self, store: Store, name: ObjectName, done: Done, request: int | str) -> None:
        self._store = store
        self._name = name
        self._done: Done | None = done
        self._request = request
        self._manifest: Manifest | None = None
        self._reading = False
        self.key = keys.object_(*name)
        self.chunk: ChunkId

    def take_manifest(self, entry: Entry | FlareError | None) -> bool:
        """Return whether the record of its only chunk is needed next."""
        try:
            if entry is None:
                raise missing_error(self._store.kv, self._name)
            if isinstance(entry, FlareError):
                raise entry
            manifest = self._manifest = decode_manifest(self._name, entry.value)
        except FlareError as error:
            self._end(None, b"", error)
            return False
        if manifest.packed is not None:
            self._take_record(manifest.packed)
            return False
        if manifest.chunk is not None:
            self.chunk = manifest.chunk
            return True
        self._end(None if manifest.extents else manifest, b"", None)
        return False

    def take_chunk(self, entry: Entry | FlareError | None) -> None:
        try:
            if entry is None:
                return self.take_general_way()  # which looks again, at manifest and record of one moment
            if isinstance(entry, FlareError):
                raise entry
            record = decode_chunk(self.chunk, entry.value)
        except FlareError as error:
            return self._end(None, b"", error)
        return self._take_record(record)

    def _take_record(self, record: ChunkRecord) -> None:
        chunks = self._store.chunks
        if record.size > INLINE_DIGEST_MAX or record.stored >= LARGE_SIZE:
            return self.take_general_way()
        known = chunks.recent.find(record.id)
        if known is not None:
            return self._end(self._manifest, known, None)
        chunks.in_flight.pin([record.id])  # the sweep deletes nothing of it meanwhile
        self.chunk, self._reading = record.id, True
        return SmallRead(chunks, record, self._came, self._request).start()

    def take_general_way(self) -> None:
        self._end(None, b"", None)

    def _came(self, plain: bytes | memoryview | None, error: FlareError | None) -> None:
        self._end(self._manifest if error is None else None, plain or b"", error)

    def _end(self, manifest: Manifest | None, plain: bytes | memoryview, error: FlareError | None) -> None:
        done, self._done = self._done, None
        if self._reading:
            self._reading = False
            self._store.chunks.in_flight.unpin([self.chunk])
        if done is not None:
            done(manifest, plain, error)
