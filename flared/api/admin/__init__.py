"""The admin face: what operators and data nodes ask of an api node: status, metrics, nodes, invites, heartbeats.

Open ``routes.py`` first. What ``upkeep`` found is put into words here: ``sentences.py``, ``advice.py``,
``obstacles.py``.
"""
