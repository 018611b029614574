"""The native face: its calls bound to its routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.api.errors import JSON_ERRORS
from flared.api.face import Face, claiming, on_bucket, on_nothing, on_object
from flared.api.native import routes
from flared.api.native.buckets import BucketCalls
from flared.api.native.links import link_lines, preflight
from flared.api.native.objects import ObjectCalls
from flared.api.native.quick import NativeWords
from flared.api.quick import Quick

if TYPE_CHECKING:
    from flared.api.callers import Callers
    from flared.objects.store import Store


def native_face(store: Store, callers: Callers) -> Face:
    objects, buckets, quick = ObjectCalls(store), BucketCalls(store), Quick(store, NativeWords())
    handlers = {
        routes.GET_OBJECT: on_object(objects.get),
        routes.HEAD_OBJECT: on_object(objects.head),
        routes.PUT_OBJECT: on_object(objects.put),
        routes.POST_OBJECT: on_object(objects.post),
        routes.DELETE_OBJECT: on_object(objects.delete),
        routes.PREFLIGHT: on_object(preflight),
        routes.POST_FORM: on_bucket(objects.post_form),
        routes.LIST_OBJECTS: on_bucket(buckets.list_objects),
        routes.CREATE_BUCKET: claiming(store.kv, on_bucket(buckets.create_bucket)),
        routes.CHANGE_BUCKET: claiming(store.kv, on_bucket(buckets.change_bucket)),
        routes.REMOVE_BUCKET: claiming(store.kv, on_bucket(buckets.remove_bucket)),
        routes.LIST_BUCKETS: on_nothing(buckets.list_buckets),
    }
    in_turns = {
        routes.GET_OBJECT: quick.get,
        routes.HEAD_OBJECT: quick.head,
        routes.PUT_OBJECT: quick.put,
        routes.DELETE_OBJECT: quick.delete,
    }
    return Face(routes.FACE, routes.ROUTES, handlers, callers.find, JSON_ERRORS, in_turns, link_lines)
