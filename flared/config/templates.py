"""Templates of the TOML files that ``flared init`` writes. They name every key with its default; a test compares them
with the man page and the readers."""

API_TEMPLATE = """\
# An api node of Flare: it keeps the metadata and serves the clients. See flared.toml(5).
# Lines that are commented out show the defaults.

role = "api"
# format = 1               # of this file; a newer one is for a newer version of Flare
# name = "api"

# Any other address than 127.0.0.1 needs a secret_file.
# listen = "127.0.0.1:8000"

# The secret that all nodes of the cluster share. `flared init api` creates it; others must not be able to read it.
# secret_file = "secret"

# A port where any machine may read /metrics. This machine always may, at `listen`. Off by default.
# metrics_listen = "0.0.0.0:8001"

# Host names, beside this machine's own, that requests without the secret may use for this node. Any other name is
# refused: a web page must not reach this node through a name of its own. IP addresses and localhost always pass.
# hosts = []

# What clients on other machines may do without the secret: "none", "read" or "read-write".
# anonymous = "none"
# workers = 1              # processes that serve clients; "auto" is one for each core

# Where S3 is spoken, for aws, rclone, restic and the like, with access keys. Without this line nowhere.
s3_listen = "127.0.0.1:8333"

[s3]
# A name that leads here, and every name under it: s3.example.com lets a client ask for BUCKET.s3.example.com. Without
# it the bucket stands in the path.
# domain = "s3.example.com"
# region = "us-east-1"     # what clients call this place

[metadata]
# The metadata: names and places of everything stored. Back it up. Relative paths are relative to this file.
# path = "meta.db"

[limits]
# memory = "96MiB"         # for bodies in transfer, queues and batches, all together
# spill = "4GiB"           # disk space for bodies of slow clients, to free their memory; "0B": they get a 503
# spill_directory = "/var/tmp"    # on a disk, best not that of the metadata; a twentieth of it stays free
# cache = "16MiB"          # more memory, for small objects that are read repeatedly; "0B" for none
# connections = 1024       # open at once; beyond it idle ones are closed, or new ones get a 503
# object_max = "5TiB"
# requests_per_key = 0     # a second, of one access key; beyond it callers are asked to slow down; 0: without limit
# requests_per_address = 0    # the same, of one address of a caller without the secret

[audit]
# One line for each change of buckets, keys and nodes, and each refusal: who, what, from where, allowed or not.
# file = "/var/log/flare/audit.log"    # opened anew at a reload; without it they go where the log goes
# objects = false          # the same for each object that is written or deleted

[defaults]
# The settings of new buckets; existing buckets keep theirs.
# scheme = "replica:3"     # copies on this many nodes
# chunk_size = "8MiB"      # 64KiB to 64MiB
# compression = "lz4"      # or "plain"

[cluster]
# placement = "ring"       # or "round-robin"
# repair_after = "10min"   # after this time the pieces of a silent node or failed volume are rebuilt elsewhere
# garbage_grace = "15min"  # how long deleted data stays before its space is freed
# upload_ttl = "1d"        # how long an upload may take
# multipart_ttl = "7d"     # how long an upload in parts may rest before it is aborted

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

# Any other address than 127.0.0.1 needs a secret_file.
# listen = "127.0.0.1:9000"

# The address at which the api nodes reach this node. Default: `listen`.
# advertise = "127.0.0.1:9000"

# The same secret as at the api nodes.
# secret_file = "secret"

# A port where any machine may read /metrics. This machine always may, at `listen`. Off by default.
# metrics_listen = "0.0.0.0:9001"

# Host names, beside this machine's own, that requests without the secret may use for this node: for /metrics on this
# machine, and for everything if there is no secret_file.
# hosts = []

# api = ["http://127.0.0.1:8000"]

# Nodes that fail together (a rack, a room) share a zone; copies go to different zones first.
# zone = "default"

# One directory for each disk. Relative paths are relative to this file.
volumes = ["/srv/flare"]

[storage]
# segment_size = "1GiB"    # at most; smaller on small volumes
# reserve = "256MiB"       # kept free on each volume, so that deletes still work when it is full
# new_volumes = true       # false: a directory without a volume is refused, its disk is not mounted (flared prepare)
# direct = true            # large pieces bypass the page cache (O_DIRECT) where the file system supports it
# quarantine = "7d"        # how long pieces that no record names are hidden before they are deleted

[scrub]
# period = "30d"           # within this time everything is read and verified

[log]
# level = "info"           # "debug", "info", "warning", "error"
# format = "text"          # or "json"
"""
