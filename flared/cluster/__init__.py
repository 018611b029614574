"""The map of the cluster, as values: which nodes there are, in which state, and where a chunk belongs.

Pure: no I/O, no clock, no randomness; times and seeds are arguments. It never decides *when* to act
(``upkeep`` does) and never moves a byte (``chunks`` does). Open ``ring.py`` first.
"""
