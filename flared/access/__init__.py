"""Access: who asks, and may they. Pure: secrets, clocks and requests are arguments.

It never opens a file or a socket, and never words the answer to a refused caller.
Open ``authorize.py`` first, then ``keys.py``.
"""
