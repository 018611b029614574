"""The owner of buckets and objects, as S3's answers name one: all keys of a cluster belong to one account."""

from __future__ import annotations

from hashlib import sha256

from flared.api.s3.xml import element, group

OWNER_NAME = "flare"
OWNER_ID = sha256(OWNER_NAME.encode()).hexdigest()
"""The canonical id of the account: 64 hex digits, as AWS has them."""


def owner_element(name: str = "Owner") -> str:
    return group(name, (element("ID", OWNER_ID), element("DisplayName", OWNER_NAME)))
