"""The data role's rooms: pieces on disks, and how they travel to and from them.

Keeps pieces durable and proves every byte it reads; never knows what an object is, never places, never talks to
another data node. Open ``volumes.py`` first: what the service asks for. Below it one ``volume.py`` a disk, whose
truth is in segments (``record.py`` has their format) and whose index is only a shadow of them.
"""
