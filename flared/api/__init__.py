"""The faces: what clients and operators speak to. A face parses a request, calls one verb, answers.

The api *role* also runs objects, chunks, catalog and upkeep; this room is only its entry. It never decides
anything about data: no quorum, no placement, no metadata key is known here. Open ``entry.py`` first, then ``face.py``.
"""
