"""HTTP/1.1 on trio, client and server: every byte between Flare's processes travels through it.

It turns sockets into requests with a streamed body, and replies into as few sends as possible. It checks every
head strictly, limits everything that grows, and cuts peers that are dead. It never knows what an object, a piece or
a node is, never reads a body, never repeats a request that must not be repeated, and never starts a task that outlives
``Server.serve``. Open ``messages.py`` first (what a handler holds), then ``server.py``; ``pool.py`` is the client.
"""
