"""``python -m tests.support.old_flared``: ``flared`` as it was before format 2 of the metadata.

It gives chunks ids of the older form, and refuses metadata of format 2.
"""

from __future__ import annotations

import sys

from flared.__main__ import main
from flared.catalog import cluster
from tests.support.old_ids import old_ids

if __name__ == "__main__":
    cluster.FORMAT = 1
    with old_ids():
        sys.exit(main())
