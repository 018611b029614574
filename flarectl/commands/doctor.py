"""flarectl doctor"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer  # noqa: TC002  # typer itself evaluates the annotations

from flarectl import options

if TYPE_CHECKING:
    from flarectl.answers import Key
    from flarectl.checks import ClusterFacts
    from flarectl.client import Client

SILENT = ("suspect", "offline")
ANSWER_SECONDS_MAX = 2.0
"""A slower answer leaves the api node's clock too uncertain."""


def doctor(ctx: typer.Context, json: bool = options.JSON, endpoint: str = options.ENDPOINT) -> int:
    """Show what is wrong with the cluster, and what to type.

    Ends with exit code 0 if nothing is wrong, 1 after a warning, 2 if data is at risk.
    """
    from flarectl import render, screens
    from flarectl.checks import CHECKS
    from flarectl.client import Client
    from flarectl.errors import ExitCode
    from flared.findings import diagnose, worst

    with Client(options.endpoint_of(ctx, endpoint)) as client:
        findings = diagnose(CHECKS, _gather(client))
    if json:
        for finding in findings:
            render.say_json(finding.record())
    else:
        screens.show_findings(findings)
    return ExitCode(worst(findings))


def _gather(client: Client) -> ClusterFacts:
    from flarectl.checks import ClusterFacts

    before = time.time()
    status, answer = client.status()
    after = time.time()
    fields = answer if isinstance(answer, dict) else {}
    theirs, lost = _number(fields.get("time")), _number(fields.get("lost_chunks"))
    ahead = None if theirs is None or after - before > ANSWER_SECONDS_MAX else theirs - (before + after) / 2
    clocks, schemes, ends = _clocks(fields.get("nodes")), _schemes(client), _endpoint_ends(client.endpoint)
    return ClusterFacts(status, int(lost or 0), ahead, clocks, schemes, theirs or 0.0, ends, _keys(client))


def _endpoint_ends(endpoint: str) -> float | None:
    """Return when the certificate of the endpoint ends; None if it has none, or does not answer again."""
    import socket
    import ssl
    from urllib.parse import urlsplit

    from flarectl.profile import tls_context, uses_tls

    if not uses_tls(endpoint):
        return None
    place = urlsplit(endpoint)
    host = place.hostname or ""
    try:
        with (
            socket.create_connection((host, place.port or 443), ANSWER_SECONDS_MAX) as plain,
            tls_context().wrap_socket(plain, server_hostname=host) as connection,
        ):
            shown = (connection.getpeercert() or {}).get("notAfter")
    except OSError:
        return None
    return float(ssl.cert_time_to_seconds(shown)) if isinstance(shown, str) else None


def _clocks(nodes: object) -> dict[str, float]:
    """Return how far each data node's clock is ahead of the api node's, without nodes that are silent."""
    records = [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
    seconds = {
        str(node.get("name")): _number(node.get("clock_ahead_seconds"))
        for node in records
        if node.get("state") not in SILENT
    }
    return {name: ahead for name, ahead in seconds.items() if ahead is not None}


def _schemes(client: Client) -> list[str]:
    """Return the schemes of the buckets; none if the buckets cannot be listed."""
    from flarectl.errors import Failure

    try:
        return sorted({bucket.scheme for bucket in client.buckets()})
    except Failure:
        return []


def _keys(client: Client) -> list[Key] | None:
    """Return the access keys; None if they cannot be listed: it takes the secret, or an admin's key."""
    from flarectl import access
    from flarectl.errors import Failure

    try:
        with access.open_client(client.endpoint) as keeper:
            # Without a proof it would be refused, and each refusal is on record.
            return keeper.access_keys() if keeper.proves else None
    except Failure:
        return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
