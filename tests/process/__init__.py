"""Tests on real daemons, real disks and real signals.

Slow ones have a short form for pytest and one command for the full one, see docs/testing.md.
"""
