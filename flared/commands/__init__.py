"""The commands of ``flared`` beside serving: prepare a host, run a small cluster, copy metadata, find problems.

``init`` creates a node (``join`` fetches its secrets), ``prepare`` its directories, ``units`` systemd's drop-ins.
``local`` runs a cluster in the foreground (``supervisor`` its processes), ``demo`` one that checks its own claims.
``backup`` copies metadata and restores it; ``doctor`` examines the host. None of it runs inside a serving node.
"""
