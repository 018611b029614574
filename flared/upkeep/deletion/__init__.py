"""Unreferenced data, and when it may be deleted.

``sweep`` deletes what the metadata let go of, ``reconcile`` what no record names, if all ``rules`` and the
``brake`` admit it. ``old_uploads`` aborts uploads that no client goes on with. Nothing here creates a reference.
Open ``sweep.py``, then ``reconcile.py``.
"""
