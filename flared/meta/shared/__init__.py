"""One metadata file, several processes: one owns and writes it, the others read it and ask the owner to commit.

``docs/workers.md`` describes the protocol. ``published`` is the memory that tells what was committed, ``frames`` what
travels on the socket between both ends, ``channel`` the socket, ``reads`` a follower's view of the file, ``follower``
its engine behind ``meta.kv``, ``desk`` the owner's end.
"""
