"""The S3 face: its operations bound to their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.api.face import Face
from flared.api.quick import Quick
from flared.api.router import Routes
from flared.api.s3.acl import acl_handlers
from flared.api.s3.attributes import attribute_handlers
from flared.api.s3.buckets import MissingBuckets, bucket_handlers
from flared.api.s3.copying import copy_handlers
from flared.api.s3.cors import CorsLines, cors_handlers
from flared.api.s3.deleting import deleting_handlers
from flared.api.s3.errors import S3_ERRORS
from flared.api.s3.lifecycle import lifecycle_handlers
from flared.api.s3.listing import listing_handlers
from flared.api.s3.locking import lock_handlers
from flared.api.s3.multipart import multipart_handlers
from flared.api.s3.multipart_lists import multipart_list_handlers
from flared.api.s3.objects import object_handlers
from flared.api.s3.operations import CALLS, FACE
from flared.api.s3.policy import policy_handlers
from flared.api.s3.post import post_handlers
from flared.api.s3.public_access import public_access_handlers
from flared.api.s3.quick import S3Words
from flared.api.s3.states import state_handlers
from flared.api.s3.tagging import tagging_handlers
from flared.api.s3.versions import version_handlers

if TYPE_CHECKING:
    from flared.api.face import Handler
    from flared.api.router import Call
    from flared.api.s3.callers import S3Callers
    from flared.api.s3.settings import S3Settings
    from flared.objects.store import Store


def s3_face(store: Store, callers: S3Callers, settings: S3Settings) -> Face:
    """Raises ValueError if an operation that is here has no handler, or the other way round."""
    handlers: dict[str, Handler] = {
        **bucket_handlers(store, settings),
        **cors_handlers(store),
        **lifecycle_handlers(store),
        **policy_handlers(store),
        **acl_handlers(store),
        **public_access_handlers(store),
        **state_handlers(store),
        **listing_handlers(store),
        **object_handlers(store),
        **multipart_handlers(store),
        **multipart_list_handlers(store),
        **copy_handlers(store),
        **deleting_handlers(store),
        **post_handlers(store, callers),
        **version_handlers(store),
        **lock_handlers(store),
        **tagging_handlers(store),
        **attribute_handlers(store),
    }
    if handlers.keys() != CALLS.keys():
        raise ValueError(f"s3: operations and handlers differ in {sorted(handlers.keys() ^ CALLS.keys())}")
    bound: dict[Call, Handler] = {CALLS[name]: handler for name, handler in handlers.items()}
    quick = Quick(store, S3Words(store.kv))
    in_turns = {
        CALLS["GetObject"]: quick.get,
        CALLS["HeadObject"]: quick.head,
        CALLS["PutObject"]: quick.put,
        CALLS["DeleteObject"]: quick.delete,
    }
    return Face(
        FACE,
        Routes(),
        bound,
        callers.find,
        S3_ERRORS,
        in_turns,
        extra_lines=CorsLines(store).find,
        missing=MissingBuckets(store).find,
    )
