"""The location of pieces: ``piece_map.py`` finds them, in the memtable and in the index in SQLite (``index.py``).

Derived from the segments: a lost or wrong index is rebuilt from them. ``replay.py``, ``compact.py`` and
``quarantine.py`` are the queries and changes for users that need more of the index than a look-up.
"""
