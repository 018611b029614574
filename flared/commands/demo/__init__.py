"""``flared demo``: a real cluster on this machine, real files, a killed node; every claim it prints was checked.

It works as a user would: ``flarectl`` in a process of its own moves the files, the nodes are processes of their own,
the killed one gets ``kill -9``. Everything lies in one directory that is removed at the end. It knows nothing of what
is inside a node. Open ``steps`` first: what is shown, in order. ``cluster`` is what it asks, ``screen`` what one sees.
"""
