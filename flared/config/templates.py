"""Templates: what ``flared init`` writes. They name every key with its default, and a test holds them, the man page and
the readers together."""

API_TEMPLATE = """\
# An api node of Flare: it knows names and places, and serves the clients. See flared.toml(5).
# Lines that are commented out show the defaults.

role = "api"
# format = 1               # of this file; a newer one is for a newer version of Flare
# name = "api"

# Beyond 127.0.0.1 a secret_file is a must.
# listen = "127.0.0.1:8000"

# The secret that all nodes of the cluster share. `flared init api` makes it; nobody else may read the file.
# secret_file = "secret"

# Where /metrics is told to other machines, to whoever asks; on this one it always is, at `listen`. Off by default.
# metrics_listen = "0.0.0.0:8001"

# Names, beside this machine's own, that clients without the secret may call this node by: a web page of another name
# must not use what this machine, or everybody, may do. IP addresses and localhost always pass.
# hosts = []

# What clients on other machines may do without the secret: "none", "read" or "read-write".
# anonymous = "none"

[metadata]
# The names and places of everything stored: back it up. Relative paths are relative to this file.
# path = "meta.db"

[limits]
# memory = "96MiB"         # bodies under way, queues and batches, all together
# spill = "4GiB"           # of bodies whose clients are too slow for the memory they take; "0B" answers those 503
# spill_directory = "/var/tmp"    # on a disk, best not that of the metadata; a twentieth of it stays free
# cache = "16MiB"          # small objects that are read again and again, beside it; "0B" for none
# connections = 1024       # open at once; then those at rest are closed, or new ones answered 503
# object_max = "5TiB"

[defaults]
# What a bucket is created with; a bucket keeps what it was created with.
# scheme = "replica:3"     # copies on this many nodes
# chunk_size = "8MiB"      # 64KiB to 64MiB
# compression = "lz4"      # or "plain"

[cluster]
# placement = "ring"       # or "round-robin"
# repair_after = "10min"   # then what a silent node or a failed volume held is made again elsewhere
# garbage_grace = "15min"  # how long deleted data rests before its space is given back
# upload_ttl = "1d"        # how long an upload may take

[log]
# level = "info"           # "debug", "info", "warning", "error"
# format = "text"          # or "json"
"""

DATA_TEMPLATE = """\
# A data node of Flare: it keeps pieces on its disks. See flared.toml(5).
# Lines that are commented out show the defaults.

role = "data"
# format = 1               # of this file; a newer one is for a newer version of Flare
name = "data1"             # its identity for life; the address may change

# Beyond 127.0.0.1 a secret_file is a must.
# listen = "127.0.0.1:9000"

# How the api nodes reach this node; as `listen` unless told otherwise.
# advertise = "127.0.0.1:9000"

# The same secret as at the api nodes.
# secret_file = "secret"

# Where /metrics is told to other machines, to whoever asks; on this one it always is, at `listen`. Off by default.
# metrics_listen = "0.0.0.0:9001"

# Names, beside this machine's own, that callers without the secret may call this node by: for /metrics on this machine,
# and for everything if there is no secret_file.
# hosts = []

# api = ["http://127.0.0.1:8000"]

# Nodes that fail together (a rack, a room) share a zone; copies go to different zones first.
# zone = "default"

# One directory for each disk. Relative paths are relative to this file.
volumes = ["/srv/flare"]

[storage]
# segment_size = "1GiB"    # at most; smaller on small volumes
# reserve = "256MiB"       # held back on each volume, so that deletes go on when it is full
# new_volumes = true       # false: a directory without a volume is refused, its disk is not mounted (flared prepare)
# direct = true            # large pieces bypass the page cache (O_DIRECT) where the file system can
# quarantine = "7d"        # pieces that no record names are hidden for so long before they are deleted

[scrub]
# period = "30d"           # everything is read again and verified in this time

[log]
# level = "info"           # "debug", "info", "warning", "error"
# format = "text"          # or "json"
"""
