"""flarectl: Flare from a shell.

A command file parses, makes one call, renders; it owns no HTTP and no colour. ``client.py`` asks the API,
``transfer.py`` moves bodies, ``render.py`` and ``progress.py`` alone know rich. flarectl never talks to a data node
and never decides where anything lies. Imports happen where they are used: most commands need few of them.
Open ``app.py`` first.
"""
