"""The id sent with each call, by which an error can be found in the logs of the api node and of data nodes."""

from __future__ import annotations

import os
from itertools import count

from flared.names import REQUEST_FIELD as REQUEST_FIELD

_process = os.urandom(4).hex()
_next = count(1).__next__


def new_request_id() -> str:
    """Return an id for one attempt of one call."""
    return f"{_process}-{_next():x}"
