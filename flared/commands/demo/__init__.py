"""``flared demo``: a real cluster on this machine, real files, a killed node. It checks every claim that it prints.

It works as a user would: ``flarectl`` moves the files, each node is a process, and one node gets ``kill -9``.
Everything is in one directory, which is removed at the end. It knows nothing of the inside of a node. Open ``steps``
first: the steps in order. ``cluster`` asks the cluster, ``screen`` prints.
"""
