"""Times as S3's XML has them. Pure."""

from __future__ import annotations

import time
from functools import lru_cache


@lru_cache(4096)
def format_timestamp(seconds: float) -> str:
    """``2026-11-21T09:18:48.123Z``, from seconds since 1970."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    t = time.gmtime(whole)
    return (
        f"{t.tm_year:04d}-{t.tm_mon:02d}-{t.tm_mday:02d}"
        f"T{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}.{milliseconds:03d}Z"
    )
