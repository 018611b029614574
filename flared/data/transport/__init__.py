"""Calls to a data node: ``wire.py`` has their format, ``service.py`` answers them, ``remote.py`` makes them.

Never touches a disk. Small calls to one node travel together (``links.py``); ``gather.py`` reads together the pieces
that are requested together; ``heartbeat.py`` reports the data node to every api node.
"""
