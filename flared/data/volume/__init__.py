"""What keeps bytes on disks. Open ``volumes.py`` first (all disks of one node), then ``volume.py`` (one disk).

Truth is in the segments: ``segment.py`` holds the files, ``appender.py`` writes and syncs them in groups, ``reader.py``
reads, ``replay.py`` brings the index up to them at a start. The others work in the background: ``compact.py``,
``punch.py``, ``scrub.py``, ``duplicates.py``, ``quarantine.py``.
"""
