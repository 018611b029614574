"""Membership: heartbeats in, states of nodes out, and the connections to the nodes.

It never moves or deletes a piece. ``membership`` is what others call; ``roster`` keeps the nodes and their states,
``reception`` takes heartbeats, and whom it believes is decided by plain functions: ``claims``, ``admission``,
``returns``, ``metadata_age``.
"""
