"""Ordered transactional key-value storage: what a 2xx of the api node rests on.

It never knows what the keys mean (``keys`` only spells them; ``catalog`` knows). Open ``kv`` first: it is the
interface. ``sqlite`` is the embedded engine (``committed`` reads, ``group_commit`` decides and commits, ``sqlite_log``
keeps its log short, ``sqlite_file`` speaks SQL), ``memory`` the one for tests, ``open`` makes either from a URL.
"""
