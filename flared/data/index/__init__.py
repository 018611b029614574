"""Where a piece lies: ``piece_map.py`` answers it, from the memtable and from the index in SQLite (``index.py``).

A shadow of the segments: lost or wrong, it is made again from them. ``replay.py``, ``compact.py`` and ``quarantine.py``
are the questions and changes of those who need more of the index than a look-up.
"""
