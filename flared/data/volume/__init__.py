"""Pieces on disks. Open ``volumes.py`` first (all disks of one node), then ``volume.py`` (one disk) and ``writer.py``
(what is put on it and deleted).

The segments are the truth: ``segment.py`` manages the files, ``appender.py`` writes and syncs them in groups,
``reader.py`` reads, ``replay.py`` updates the index from them at a start. Others run in the background: ``compact.py``,
``punch.py``, ``scrub.py``, ``duplicates.py``, ``quarantine.py``, and ``watch.py``, which finds out that a disk failed.
"""
