"""Public access blocks: what of ACLs and policies is kept from opening a bucket to everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.bucket_access import Blocks
from flared.api.face import on_bucket
from flared.api.s3.answers import send, send_xml
from flared.api.s3.errors import S3Error
from flared.api.s3.xml import MalformedXml, document, element, parse_xml
from flared.catalog.buckets import find_bucket
from flared.objects.buckets import set_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.api.face import Handler
    from flared.http.messages import Reply, Request
    from flared.names import BucketName
    from flared.objects.store import Store

BODY_BYTES_MAX = 16 * 1024
NAMES: Mapping[str, Blocks] = {
    "BlockPublicAcls": Blocks.PUT_ACLS,
    "IgnorePublicAcls": Blocks.ACLS,
    "BlockPublicPolicy": Blocks.PUT_POLICY,
    "RestrictPublicBuckets": Blocks.POLICY,
}
ROOT = "PublicAccessBlockConfiguration"


def public_access_handlers(store: Store) -> dict[str, Handler]:
    calls = PublicAccessCalls(store)
    return {
        "GetPublicAccessBlock": on_bucket(calls.get),
        "PutPublicAccessBlock": on_bucket(calls.put),
        "DeletePublicAccessBlock": on_bucket(calls.delete),
    }


class PublicAccessCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        blocks = (await find_bucket(self._store.kv, bucket)).access.blocks
        if blocks is None:
            raise S3Error("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found")
        await send_xml(reply, document(ROOT, [element(name, flag in blocks) for name, flag in NAMES.items()]))

    async def put(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        root = parse_xml(await request.body.read_all(BODY_BYTES_MAX), ROOT)
        blocks = Blocks(0)
        for child in root.children:
            word = child.text.strip().lower()
            if child.name not in NAMES or word not in ("true", "false"):
                raise MalformedXml(f"a {ROOT} holds {', '.join(NAMES)}, each true or false")
            if word == "true":
                blocks |= NAMES[child.name]
        await set_blocks(self._store, bucket, blocks)
        await send(reply, 200)

    async def delete(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        await set_blocks(self._store, bucket, None)
        await send(reply, 204)
