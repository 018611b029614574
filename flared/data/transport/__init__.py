"""Calls to a data node: ``wire.py`` has their format, ``service.py`` answers them, ``remote.py`` makes them.

Never touches a disk. Small calls to one node travel together (``links.py``, ``batch_calls.py``), large ones alone
(``piece_calls.py``); ``statuses.py`` says which error each answer stands for; ``heartbeat.py`` reports the data node to
every api node.
"""
