"""Resealing: secrets of access keys follow the secret of the cluster when it is replaced.

While a replacement is under way the keyring has both: what the old secret sealed is opened by it and sealed anew by the
new one. After that the old one may go. Each key is changed by itself, if it is still what it was: safe at any line.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flared.access.sealing import IV_BYTES, seal, unseal
from flared.catalog.access_keys import list_keys, reseal_key
from flared.errors import FlareError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flared.meta.kv import KV

log = logging.getLogger(__name__)


async def reseal_keys(kv: KV, secrets: Sequence[bytes], random_bytes: Callable[[int], bytes]) -> None:
    """Seal with the first of the cluster's secrets what another one sealed; name what none of them opens."""
    if not secrets:
        return
    resealed, unreadable = 0, []
    try:
        for key in await list_keys(kv):
            opened = unseal(secrets, key.sealed, key.id, key.name)
            if opened is None:
                unreadable.append(key.name)
            elif not opened.newest:
                sealed = seal(secrets[0], opened.secret, key.id, key.name, random_bytes(IV_BYTES))
                await kv.transact(lambda tx, key=key, sealed=sealed: reseal_key(tx, key, sealed))  # type: ignore[misc]  # mypy: lambda with defaults
                resealed += 1
    except FlareError as error:  # the next start or reload goes on
        log.warning("event=reseal_failed keys=%d error=%s message=%r", resealed, error.code, str(error))
    if resealed:
        log.info("event=keys_resealed keys=%d", resealed)
    if unreadable:
        log.error(
            "event=keys_unreadable keys=%r message=%r", ",".join(sorted(set(unreadable))[:10]),
            "no secret of the cluster opens them: add the one they were made under to secret_file, or replace them",
        )  # fmt: skip
