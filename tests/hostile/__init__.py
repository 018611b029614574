"""Attacks on real processes that once did harm, each in seconds; docs/testing.md has the commands of the full forms."""
