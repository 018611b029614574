"""Errors in S3's words: from FlareError to code, status and XML.

An error of the tree gets the word that S3 has for it; ``S3Error`` is for those that only S3 has words for. What a
stranger lacks stands in the log (``lacking``), never in an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.sigv4 import SignatureRefused
from flared.api.errors import RETRY_AFTER_SECONDS, ErrorAnswers
from flared.api.s3.answers import HOST_ID, XML, reply_lines
from flared.api.s3.xml import document, element
from flared.catalog.versions import NULL
from flared.errors import (
    BadDigest,
    BadMethod,
    BadName,
    BadPart,
    BadPartOrder,
    BadRange,
    BadRequest,
    BadTag,
    BodyTruncated,
    BucketNotEmpty,
    Conflict,
    FlareError,
    Forbidden,
    IsDeleteMarker,
    LocalProtocolError,
    MetadataFull,
    NoLock,
    NoSuchBucket,
    NoSuchObject,
    NoSuchUpload,
    NoSuchVersion,
    NotModified,
    ObjectLocked,
    PartTooSmall,
    PreconditionFailed,
    ProtocolError,
    Refused,
    SlowDown,
    TooLarge,
    TooSmall,
    Unauthenticated,
    Unavailable,
    VolumeFull,
)
from flared.log import request_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.http.exchange import Exchange
    from flared.http.messages import Request

NOT_IMPLEMENTED = "NotImplemented"
DENIED = "Access Denied"


class S3Error(Refused):
    """A request breaks a rule that S3 has a word for: its ``code``, one of those in ``STATUSES``."""

    def __init__(self, code: str, message: str) -> None:
        assert code in STATUSES, code
        super().__init__(message)
        self._code = code

    @property
    def code(self) -> str:
        return self._code


STATUSES: Mapping[str, int] = {
    "AccessDenied": 403,
    "AccessForbidden": 403,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 403,  # ceph/s3-tests asks for it; AWS documents 400
    "BadDigest": 400,
    "BadRequest": 400,
    "BucketAlreadyExists": 409,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "IllegalLocationConstraintException": 400,
    "IncompleteBody": 400,
    "InsufficientStorage": 507,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidBucketName": 400,
    "InvalidDigest": 400,
    "InvalidLocationConstraint": 400,
    "InvalidBucketState": 409,
    "InvalidPart": 400,
    "InvalidPartOrder": 400,
    "InvalidPolicyDocument": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidRetentionPeriod": 400,
    "InvalidStorageClass": 400,
    "InvalidTag": 400,
    "InvalidURI": 400,
    "KeyTooLongError": 400,
    "MalformedPOSTRequest": 400,
    "MalformedTrailerError": 400,
    "MalformedPolicy": 400,
    "MalformedXML": 400,
    "MetadataTooLarge": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "MissingSecurityHeader": 400,
    "NoSuchBucket": 404,
    "NoSuchBucketPolicy": 404,
    "NoSuchPublicAccessBlockConfiguration": 404,
    "NoSuchCORSConfiguration": 404,
    "NoSuchKey": 404,
    "NoSuchLifecycleConfiguration": 404,
    "NoSuchObjectLockConfiguration": 404,
    "NoSuchTagSet": 404,
    "ObjectLockConfigurationNotFoundError": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NoSuchWebsiteConfiguration": 404,
    "NotImplemented": 501,
    "NotModified": 304,
    "OperationAborted": 409,
    "PolicyTooLarge": 400,
    "PreconditionFailed": 412,
    "ReplicationConfigurationNotFoundError": 404,
    "RequestTimeTooSkewed": 403,
    "ServerSideEncryptionConfigurationNotFoundError": 404,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "UnexpectedContent": 400,
    "XAmzContentSHA256Mismatch": 400,
}
"""The codes that may be answered, with their status. A feature that has codes of its own adds them."""

WORDS: Mapping[type[FlareError], tuple[str, str]] = {
    FlareError: ("InternalError", "We encountered an internal error. Please try again."),
    Refused: ("InvalidRequest", ""),
    BadName: ("InvalidURI", ""),
    BadRequest: ("InvalidRequest", ""),
    BadDigest: ("BadDigest", ""),
    BadRange: ("InvalidRange", "The requested range is not satisfiable"),
    BadMethod: ("MethodNotAllowed", "The specified method is not allowed against this resource."),
    TooLarge: ("EntityTooLarge", ""),
    TooSmall: ("EntityTooSmall", ""),
    NoSuchBucket: ("NoSuchBucket", "The specified bucket does not exist"),
    NoSuchObject: ("NoSuchKey", "The specified key does not exist."),
    NoSuchUpload: (
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "
        "completed.",
    ),
    BadPart: ("InvalidPart", ""),
    BadPartOrder: ("InvalidPartOrder", ""),
    PartTooSmall: ("EntityTooSmall", ""),
    NoSuchVersion: ("NoSuchVersion", "The specified version does not exist."),
    IsDeleteMarker: ("MethodNotAllowed", "The specified method is not allowed against this resource."),
    ObjectLocked: ("AccessDenied", "Access Denied because object protected by object lock."),
    BadTag: ("InvalidTag", ""),
    NoLock: ("InvalidRequest", "Bucket is missing Object Lock Configuration"),
    Conflict: ("OperationAborted", ""),
    BucketNotEmpty: ("BucketNotEmpty", "The bucket you tried to delete is not empty"),
    PreconditionFailed: (
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
    ),
    NotModified: ("NotModified", ""),
    Unauthenticated: ("AccessDenied", DENIED),
    Forbidden: ("AccessDenied", DENIED),
    Unavailable: ("ServiceUnavailable", ""),
    SlowDown: ("SlowDown", "Please reduce your request rate."),
    VolumeFull: ("InsufficientStorage", ""),
    MetadataFull: ("InsufficientStorage", ""),
    ProtocolError: ("InvalidRequest", ""),
    LocalProtocolError: ("InternalError", "We encountered an internal error. Please try again."),
    BodyTruncated: (
        "IncompleteBody",
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
    ),
}
"""S3's code of an error, that of its nearest class in here, and S3's sentence; empty: the error's own."""


def code_of(error: FlareError) -> str:
    """Return S3's word for an error."""
    return error.code if error.code in STATUSES and type(error) not in WORDS else _words_of(error)[0]


def status_of(error: FlareError) -> int:
    return STATUSES[code_of(error)]


def message_of(error: FlareError) -> str:
    """Return the sentence that a client may see."""
    if error.code in STATUSES and type(error) not in WORDS:
        return str(error)
    return _words_of(error)[1] or str(error)


def pack_error(error: FlareError, status: int, request: Request | Exchange) -> tuple[bytes, bytes]:
    """Return the field lines and the body of an answer with this error."""
    lines = reply_lines() + XML + _fields(error, status)
    if status == 304:
        return lines, b""
    content = [
        element("Code", code_of(error)),
        element("Message", message_of(error)),
        *(element(name, value) for name, value in _details(error).items()),
        element("Resource", request.path),
        element("RequestId", request_id()),
        element("HostId", HOST_ID),
    ]
    return lines, document("Error", content, namespace="")


def _words_of(error: FlareError) -> tuple[str, str]:
    if isinstance(error, PreconditionFailed) and error.absent:
        return WORDS[NoSuchObject]
    if isinstance(error, BadName) and error.of == "bucket":
        return "InvalidBucketName", "The specified bucket is not valid."
    if isinstance(error, BadName) and error.of == "long key":
        return "KeyTooLongError", "Your key is too long"
    return next(WORDS[kind] for kind in type(error).__mro__ if kind in WORDS)


def _details(error: FlareError) -> Mapping[str, str]:
    """Return what else S3 says of an error."""
    if isinstance(error, SignatureRefused):
        return error.details
    if isinstance(error, BadRange):
        return {"ActualObjectSize": str(error.size)}
    if isinstance(error, PreconditionFailed) and error.condition and not error.absent:
        return {"Condition": error.condition}
    return {}


def _fields(error: FlareError, status: int) -> bytes:
    if isinstance(error, BadRange):
        return b"content-range: bytes */%d\r\n" % error.size
    if isinstance(error, IsDeleteMarker):
        return b"allow: DELETE\r\nx-amz-delete-marker: true\r\n" + _marker_line(error.version)
    if isinstance(error, NoSuchObject) and error.delete_marker:
        return b"x-amz-delete-marker: true\r\n" + _marker_line(error.delete_marker)
    if isinstance(error, BadMethod):
        return f"allow: {', '.join(error.allowed)}\r\n".encode()
    if status == 503:
        return b"retry-after: %d\r\n" % getattr(error, "retry_after", RETRY_AFTER_SECONDS)
    return b""


def _marker_line(version: int) -> bytes:
    return f"x-amz-version-id: {'null' if version == NULL else f'{version:016x}'}\r\n".encode()


S3_ERRORS = ErrorAnswers(status_of, pack_error)
