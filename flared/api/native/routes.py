"""The paths of the native face, as docs/http-api.md has them. Pure.

/object/KEY                  an object of the default bucket      /object/                 its objects
/bucket/BUCKET/object/KEY    an object                            /bucket/BUCKET/object/   the bucket's objects
/bucket/BUCKET               a bucket                             /bucket                  all buckets
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.authorize import Action
from flared.api.router import Call, Methods, Routes, no_such_path
from flared.errors import NoSuchPath
from flared.names import parse_bucket

if TYPE_CHECKING:
    from flared.api.router import Place

FACE = "native"
BUCKET = "/bucket/"
OBJECT = "/object/"

GET_OBJECT = Call(FACE, "get_object", Action.READ)
HEAD_OBJECT = Call(FACE, "head_object", Action.READ)
PUT_OBJECT = Call(FACE, "put_object", Action.WRITE)
POST_OBJECT = Call(FACE, "post_object", Action.WRITE)
DELETE_OBJECT = Call(FACE, "delete_object", Action.DELETE)
PREFLIGHT = Call(FACE, "preflight", Action.PREFLIGHT)
LIST_OBJECTS = Call(FACE, "list_objects", Action.LIST)
POST_FORM = Call(FACE, "post_form", Action.WRITE)
CREATE_BUCKET = Call(FACE, "create_bucket", Action.CREATE_BUCKET)
CHANGE_BUCKET = Call(FACE, "change_bucket", Action.CONFIGURE_BUCKET)
REMOVE_BUCKET = Call(FACE, "remove_bucket", Action.REMOVE_BUCKET)
LIST_BUCKETS = Call(FACE, "list_buckets", Action.LIST_BUCKETS)

ON_OBJECT = Methods(
    {
        "GET": GET_OBJECT,
        "HEAD": HEAD_OBJECT,
        "PUT": PUT_OBJECT,
        "POST": POST_OBJECT,
        "DELETE": DELETE_OBJECT,
        "OPTIONS": PREFLIGHT,
    }
)
ON_OBJECTS = Methods({"GET": LIST_OBJECTS, "HEAD": LIST_OBJECTS, "POST": POST_FORM})
ON_BUCKET = Methods(
    {
        "GET": LIST_OBJECTS,
        "HEAD": LIST_OBJECTS,
        "PUT": CREATE_BUCKET,
        "POST": CHANGE_BUCKET,
        "DELETE": REMOVE_BUCKET,
    }
)
ON_BUCKETS = Methods({"GET": LIST_BUCKETS, "HEAD": LIST_BUCKETS})


def find_in_default(rest: str) -> Place:
    """``rest`` follows ``/object/``."""
    return ON_OBJECT if rest else ON_OBJECTS, "", rest


def find_in_bucket(rest: str) -> Place:
    """``rest`` follows ``/bucket/``. Raises NoSuchPath, and BadName for a bucket without a name."""
    raw_bucket, _, inside = rest.partition("/")
    if inside.startswith("object/"):
        raw_key = inside[7:]
        methods = ON_OBJECT if raw_key else ON_OBJECTS
    elif inside:
        raise NoSuchPath(f"in a bucket there is only object/, not {inside[:200]}")
    elif not rest:
        raise no_such_path(BUCKET)
    else:
        raw_key, methods = "", ON_BUCKET
    return methods, raw_bucket or parse_bucket(""), raw_key


ROUTES = Routes({"/bucket": ON_BUCKETS}, {OBJECT: find_in_default, BUCKET: find_in_bucket})
