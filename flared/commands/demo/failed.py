"""The failure of a demo."""

from __future__ import annotations


class Failed(Exception):  # the message is one sentence for the user
    """A claim of the demo did not hold."""
