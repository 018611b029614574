"""The background work of the api role: who is there, what is lacking, what nothing references any more.

Each kind is a Worker with one shape (``background.Worker``). It never answers a client and never invents data:
repair is a verified read and a write. Open ``membership.py`` first, then ``heal.py`` and ``sweep.py``. What Workers
share: ``walk.py`` over all chunks, ``missing.py`` to note what is lacking, ``portions.py`` for many small changes.
"""
