"""The way to stable storage: ``disk.py`` is the interface, ``real_disk.py`` the operating system's file systems.

Every OSError becomes one of Flare's errors here. Beside it: aligned ``buffers``, the ``probe`` that detects a dead
disk, and the share of a disk that pieces may use (``space.py``).
"""
