"""What a bucket cannot be set to here, answered truthfully: the setting is off, or there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flared.api.face import on_bucket
from flared.api.s3.answers import send_xml
from flared.api.s3.errors import S3Error
from flared.api.s3.xml import document, element
from flared.catalog.buckets import find_bucket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.api.face import Handler
    from flared.http.messages import Reply, Request
    from flared.names import BucketName
    from flared.objects.store import Store


class Absent(NamedTuple):
    """There is no such configuration: S3's code and sentence for that."""

    code: str
    message: str


STATES: Mapping[str, bytes | Absent] = {
    "GetBucketRequestPayment": document("RequestPaymentConfiguration", [element("Payer", "BucketOwner")]),
    "GetBucketAccelerateConfiguration": document("AccelerateConfiguration", []),
    "GetBucketLogging": document("BucketLoggingStatus", []),
    "GetBucketNotificationConfiguration": document("NotificationConfiguration", []),
    "GetBucketEncryption": Absent(
        "ServerSideEncryptionConfigurationNotFoundError", "The server side encryption configuration was not found"
    ),
    "GetBucketReplication": Absent(
        "ReplicationConfigurationNotFoundError", "The replication configuration was not found"
    ),
    "GetBucketWebsite": Absent(
        "NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"
    ),
}


def state_handlers(store: Store) -> dict[str, Handler]:
    return {name: _handler(store, state) for name, state in STATES.items()}


def _handler(store: Store, state: bytes | Absent) -> Handler:
    async def answer(_request: Request, reply: Reply, bucket: BucketName) -> None:
        await find_bucket(store.kv, bucket)
        if isinstance(state, Absent):
            raise S3Error(state.code, state.message)
        await send_xml(reply, state)

    return on_bucket(answer)
