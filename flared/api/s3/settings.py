"""The settings of the S3 face."""

from __future__ import annotations

from dataclasses import dataclass

REGION_DEFAULT = "us-east-1"


@dataclass(frozen=True, slots=True)
class S3Settings:
    domain: str = ""
    """Buckets may stand before it in the Host field; empty: only in the path."""
    region: str = REGION_DEFAULT
    """The region that signatures and buckets name."""
