"""Flare measured beside nginx (the yardstick) and the raw disk, on this machine, in one run: ``python -m bench``.

Real daemons on loopback, everything durable before it is acknowledged, bodies unique and incompressible. Each figure is
a ratio to what nginx, one worker, does for a static GET of the same size from the same disk, measured right before it.
Open first: ``__main__.py`` (what is measured), ``report.py`` (the goals), ``against.py`` (the same of two versions of
Flare, in pairs of short runs), ``calls.py`` (functions called by one request).
"""
