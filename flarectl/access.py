"""Access keys for a person: options to grants, times, and how a key is shown."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from flarectl import invites, render
from flarectl.client import Client
from flarectl.errors import Usage
from flarectl.profile import find_secret_file, read_secret, uses_tls
from flarectl.target import parse_duration
from flared.access.grants import Permission, parse_grants, parse_scope
from flared.errors import BadName, BadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flarectl.answers import Key

_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?")


def open_client(endpoint: str) -> Client:
    """Return a client that proves to know the secret: the configured one, else that of the api node on this host."""
    client = Client(endpoint)
    path, origin = find_secret_file()
    if path:
        client.prove(read_secret(path, origin))
    elif os.access(invites.OUR_SECRET, os.R_OK):
        client.prove(read_secret(invites.OUR_SECRET, "this host"))
    return client


def grants_of(scopes: Mapping[str, Sequence[str]], *, admin: bool) -> list[str]:
    """Return the grants of the options as the API takes them. Raise Usage."""
    found = [str(Permission.ADMIN)] if admin else []
    for word, given in scopes.items():
        for scope in given:
            try:
                found.append(str(parse_scope(Permission(word), scope)))
            except (BadRequest, BadName) as error:
                raise Usage(f"--{word}: {error}") from None
    try:
        return [str(grant) for grant in parse_grants(found)]
    except BadRequest as error:
        raise Usage(str(error)) from None


def parse_expires(text: str, now: float) -> float:
    """Return seconds since 1970: of ``12h`` and ``30d`` from now on, or of a date, or a date and time. Raise Usage."""
    if _DATE.fullmatch(text):
        from datetime import datetime

        try:
            until = datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            raise Usage(f"--expires {text}: there is no such date") from None
    else:
        try:
            until = now + parse_duration(text)
        except Usage:
            raise Usage(f"--expires {text}: write a time such as 12h or 30d, or a date such as 2027-01-31") from None
    if until <= now:
        raise Usage(f"--expires {text}: that has passed")
    return until


def parse_grace(text: str) -> int:
    """Return seconds. Raise Usage."""
    if text.strip() == "0":
        return 0
    try:
        return parse_duration(text)
    except Usage:
        raise Usage(f"--grace {text}: write a time such as 30min, 12h or 7d, or 0 for not at all") from None


def is_overheard(endpoint: str) -> bool:
    """Return whether others on the way could read what the endpoint answers."""
    return not uses_tls(endpoint) and not invites.is_local(endpoint)


def show_keys(keys: Sequence[Key]) -> None:
    """Write one line for each key, under a head."""
    rows = [("NAME", "ID", "STATE", "USED", "GRANTS")]
    rows += [
        (key.name, key.id, state_text(key), used_text(key, time.time()), ", ".join(key.grants) or "-") for key in keys
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if keys else []:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        render.say(render.shown(line.rstrip()))


def show_key(key: Key) -> None:
    """Write everything about a key."""
    rows = [("name", key.name), ("id", key.id), ("state", state_text(key)), ("created", render.time_text(key.created))]
    rows += [("used", used_text(key, time.time()))]
    rows += [("grant" if not number else "", grant) for number, grant in enumerate(key.grants or ["none"])]
    rows += [("replaced", f"{old}, which works until {render.time_text(until)}") for old, until in key.replaced]
    for name, value in rows:
        render.say(render.shown(f"{name:<9} {value}"))


def state_text(key: Key) -> str:
    if key.expires is None or key.state not in ("works", "expired"):
        return key.state
    word = "expired" if key.state == "expired" else "until"
    return f"{word} {render.time_text(key.expires)}"


def used_text(key: Key, now: float) -> str:
    """Return how long ago the key was last used."""
    return "never" if key.used is None else f"{render.span_text(max(0.0, now - key.used))} ago"


def key_record(key: Key) -> dict[str, object]:
    """Return a key for a script, without its secret."""
    return {
        "name": key.name,
        "id": key.id,
        "state": key.state,
        "grants": list(key.grants),
        "created": render.json_time(key.created),
        "used": None if key.used is None else render.json_time(key.used),
        "expires": None if key.expires is None else render.json_time(key.expires),
        "replaced": [{"id": old, "until": render.json_time(until)} for old, until in key.replaced],
    }
