"""Calls to a data node, from both ends: ``wire.py`` has their form, ``service.py`` answers, ``remote.py`` asks.

Never touches a disk. Small calls to one node travel together (``links.py``); ``gather.py`` reads together what arrives
together; ``heartbeat.py`` reports the data node to every api node.
"""
