"""Access: who asks, and may they. Pure: secrets, clocks and requests are arguments.

It never opens a file or a socket, and never decides what a refused caller is told.
Open ``authorize.py`` first, then ``keys.py``.
"""
