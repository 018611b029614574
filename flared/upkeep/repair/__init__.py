"""Repair: find damaged and missing pieces, and write them again.

Losses are noted in the chunk records (``missing``, ``lost_nodes``, ``lost_volumes``); ``heal`` goes by these notes
alone. It deletes nothing but what lies in the way of the piece that it writes. Open ``heal.py``.
"""
