"""Config: flared.toml -> the configuration of one node. Reports every mistake of the file at once.

``settings`` is what comes out, ``load`` what goes in: open these first. Only this room knows TOML.
"""
