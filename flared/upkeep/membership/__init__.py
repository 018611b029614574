"""Who is there: heartbeats in, states of nodes out, and the connections to the nodes.

It believes no process that it has no reason to believe, and never moves or deletes a piece. Open ``membership.py``.
"""
