"""HTTP/1.1 on trio, both ends: what every byte between Flare's processes travels through.

It turns sockets into requests with a streamed body and replies into as few sends as possible. It checks every
head strictly, limits everything that grows, and cuts peers that are dead. It never knows what an object, a piece or
a node is, never looks into a body, never retries what may not be repeated, and never starts a task that outlives
``Server.serve``. Open ``messages.py`` first (what a handler holds), then ``server.py``; ``pool.py`` is the asking end.
"""
