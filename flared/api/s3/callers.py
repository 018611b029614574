"""Callers of the S3 face: who signs a request, and in which context.

A caller without a signature is anonymous, from this machine, too: S3's clients sign, and a proxy on this machine would
make everyone local.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.identity import ANONYMOUS
from flared.api.callers import Caller

if TYPE_CHECKING:
    from flared.access.authorize import Policy
    from flared.api.s3.settings import S3Settings
    from flared.http.exchange import Exchange
    from flared.http.messages import Request


class S3Callers:
    """Finds the callers of one node."""

    def __init__(self, policy: Policy, settings: S3Settings) -> None:
        self._policy = policy
        self._settings = settings

    def find(self, request: Request | Exchange, _memo: dict[str, object] | None) -> Caller:
        """Return who makes this request. Nothing is kept in the memo of its head: a signature covers the path, too."""
        policy = self._policy
        context = policy.context(request.method, request.peer, request.fields)
        return Caller(ANONYMOUS, context, request.peer, policy.keyring.secrets)
