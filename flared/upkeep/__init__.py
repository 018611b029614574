"""The background work of the api role: who is there, what is lacking, what nothing references any more.

Each kind is a Worker with one shape (``background.Worker``). It never answers a client and never invents data:
repair is a verified read and a write. Open ``workers.py``, then the rooms, each of which imports only those below it:
``removal`` of nodes, ``deletion`` of what nothing references, ``repair`` of what is lacking, ``membership``. Beside
them stand what reads all of them (``status.py``, ``failure.py``, with ``problems.py`` as the values that come out), and
what they share: ``walk.py`` over all chunks, ``survey.py`` for a question about all of them, ``batches.py`` for many
small changes. What is found is a value; ``api.admin`` makes the sentences.
"""
