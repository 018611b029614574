"""The one way in which a demo does not succeed."""

from __future__ import annotations


class Failed(Exception):  # a claim that did not hold, in a sentence
    """Something the demo shows did not hold."""
