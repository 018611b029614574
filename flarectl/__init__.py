"""flarectl: Flare from a shell.

A command file parses, makes one call, renders; it owns no HTTP and no colour. ``calls.py`` says what is asked of the
API, ``client.py`` asks it, ``transfer.py`` moves bodies over ``bodies.py``, ``render.py`` and ``progress.py`` alone
know rich. flarectl never talks to a data node and never decides where anything lies. Imports happen where they are
used: most commands need few of them. Open ``app.py`` first.
"""
