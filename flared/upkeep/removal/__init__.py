"""Taking a node out of the cluster for good: what that would cost, and the walk that does it.

It deletes no piece and makes none: chunks that count on the node wait for ``repair``. Open ``removal.py``.
"""
