"""KeyStore: the access keys that work now, as every process of an api node sees them.

Each look-up reads the key's row, through the engine's cache, which compares the number of commits: so a key that was
created, replaced or removed is so at once for all workers. Only the opened secret is kept beside it, for as long as the
row and the secrets of the cluster are the same.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from flared.access.access_key import AccessKey, is_access_key_id
from flared.access.sealing import unseal
from flared.catalog.access_keys import StoredKey, decode
from flared.meta import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from flared.access.keys import Keyring
    from flared.meta.kv import KV

OPENED_MAX = 1024
"""Keys whose secret is kept in memory: those in use; opening one again takes about 20 us."""

log = logging.getLogger(__name__)


class _Opened(NamedTuple):
    value: bytes
    secrets: tuple[bytes, ...]
    stored: StoredKey
    key: AccessKey | None
    """None: no secret of the cluster opens it."""


class KeyStore:
    """Of one process."""

    def __init__(self, kv: KV, keyring: Keyring, now: Callable[[], float]) -> None:
        """``now`` is the wall clock, in seconds since 1970."""
        self.kv = kv
        self._keyring = keyring
        self.now = now
        self._opened: OrderedDict[str, _Opened] = OrderedDict()

    def find(self, access_key_id: str) -> AccessKey | None:
        """Return the key with this id if it works now; None if it is unknown, expired, or was replaced or removed.

        Ask at each call: a key may end while a connection lasts. Does not wait. Raises RowCorrupt and ManifestCorrupt.
        """
        if not is_access_key_id(access_key_id):
            return None
        entry = self.kv.get_nowait(keys.access_key(access_key_id))
        if entry is None:
            self._opened.pop(access_key_id, None)
            return None
        known = self._opened.get(access_key_id)
        # A keyring that was changed has another tuple of secrets.
        if known is None or known.secrets is not self._keyring.secrets or known.value != entry.value:
            known = self._open(access_key_id, entry.value)
        return known.key if known.stored.works_at(int(self.now() * 1000)) else None

    def _open(self, access_key_id: str, value: bytes) -> _Opened:
        stored, secrets = decode(access_key_id, value), self._keyring.secrets
        opened = unseal(secrets, stored.sealed, access_key_id, stored.name)
        if opened is None:
            log.error(
                "event=key_unreadable key=%s id=%s message=%r", stored.name, access_key_id,
                "no secret of the cluster opens it: put the secret it was made under into secret_file, or replace it",
            )  # fmt: skip
            key = None
        else:
            key = AccessKey(access_key_id, stored.name, opened.secret, stored.grants, stored.ends_ms)
        found = self._opened[access_key_id] = _Opened(value, secrets, stored, key)
        self._opened.move_to_end(access_key_id)
        while len(self._opened) > OPENED_MAX:
            self._opened.popitem(last=False)
        return found
