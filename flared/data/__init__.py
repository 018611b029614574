"""Pieces: store them on disks, and carry them to the nodes that store them.

Keeps pieces durable and verifies every byte it reads; never knows what an object is, never places, never calls
another data node. Four rooms, each above the next: ``transport`` carries calls between nodes, ``volume`` keeps pieces
in segments on disks, ``index`` finds them, ``disk`` is the way to stable storage. Beside them the values that all of
them share: a piece (``pieces.py``), its record in a segment (``record.py``), the metadata's mark (``mark.py``),
the report of a volume (``report.py``).
"""
