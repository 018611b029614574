"""What ``flared`` does besides serving: prepares a host, starts a little cluster, copies metadata, finds what is wrong.

``init`` makes a node from nothing (``join`` fetches its secrets), ``prepare`` its directories, ``units`` systemd's
drop-ins; ``local`` runs a cluster in the foreground (``supervisor`` its processes), ``demo`` one that proves itself;
``backup`` copies metadata and puts it back; ``doctor`` looks at the host. None of it runs inside a serving node.
"""
