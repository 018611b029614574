"""Flare's daemon: one program in two roles.

An *api* node decides everything: names, metadata, placement, streaming, repair.
A *data* node keeps bytes on its disks and has no idea what an object is.
Begin reading at ``ARCHITECTURE.md``; ``daemon.py`` wires the rooms together.
"""

__version__ = "0.1.0"
