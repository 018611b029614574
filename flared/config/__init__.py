"""Config: read flared.toml into the configuration of one node, and report every mistake of the file at once.

Open ``settings``, the result, and ``load`` first. Only this room knows TOML.
"""
