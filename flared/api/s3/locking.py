"""Object lock, as S3 words it: the default of a bucket, retention and legal hold of versions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flared.access.authorize import Action
from flared.api.callers import authorize_also
from flared.api.face import on_bucket, on_object
from flared.api.s3.answers import send, send_xml
from flared.api.s3.errors import S3Error
from flared.api.s3.query import parse_query
from flared.api.s3.times import format_timestamp
from flared.api.s3.versions import parse_version
from flared.api.s3.xml import MalformedXml, document, element, group, parse_xml
from flared.catalog.details import EMPTY, Details
from flared.catalog.locks import DefaultRetention
from flared.errors import Conflict, NoLock
from flared.objects.get import find_object
from flared.objects.locks import (
    NO_RETENTION,
    Retention,
    check_locking,
    find_lock,
    is_held,
    retention_of,
    set_legal_hold,
    set_lock,
    set_retention,
)
from flared.objects.store import now_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.api.face import Handler
    from flared.api.s3.xml import Element
    from flared.catalog.manifest import Manifest
    from flared.http.messages import Reply, Request
    from flared.names import BucketName, ObjectName
    from flared.objects.store import Store

PREFIX = "x-amz-object-lock-"
MODE, UNTIL, HOLD = PREFIX + "mode", PREFIX + "retain-until-date", PREFIX + "legal-hold"
LOCK_FIELDS = frozenset({MODE, UNTIL, HOLD})
BYPASS = "x-amz-bypass-governance-retention"
BODY_BYTES_MAX = 64 * 1024
DAYS_MAX, YEARS_MAX = 36_500, 100

_MODES = {"GOVERNANCE": False, "COMPLIANCE": True}
_SWITCH = {"ON": True, "OFF": False}


def lock_handlers(store: Store) -> dict[str, Handler]:
    calls = LockCalls(store)
    return {
        "GetObjectLockConfiguration": on_bucket(calls.get_of_bucket),
        "PutObjectLockConfiguration": on_bucket(calls.put_of_bucket),
        "GetObjectRetention": on_object(calls.get_retention),
        "PutObjectRetention": on_object(calls.put_retention),
        "GetObjectLegalHold": on_object(calls.get_hold),
        "PutObjectLegalHold": on_object(calls.put_hold),
    }


class LockCalls:
    """The calls, over one Store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_of_bucket(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        try:
            default = find_lock(self._store, bucket)
        except NoLock:
            raise S3Error(
                "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket"
            ) from None
        inside = [element("ObjectLockEnabled", "Enabled")]
        if default is not None:
            length = element("Years", default.years) if default.years else element("Days", default.days)
            mode = element("Mode", _mode(default.compliance))
            inside.append(group("Rule", [group("DefaultRetention", [mode, length])]))
        await send_xml(reply, document("ObjectLockConfiguration", inside))

    async def put_of_bucket(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        default = parse_configuration(await request.body.read_all(BODY_BYTES_MAX))
        try:
            await set_lock(self._store, bucket, default)
        except Conflict as error:
            raise S3Error(
                "InvalidBucketState", "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"
            ) from error
        await send(reply, 200)

    async def get_retention(self, request: Request, reply: Reply, name: ObjectName) -> None:
        manifest = await self._find(request, name)
        retention = retention_of(manifest)
        if not retention.until_ms:
            raise _not_locked()
        inside = [
            element("Mode", _mode(retention.compliance)),
            element("RetainUntilDate", format_timestamp(retention.until_ms / 1000)),
        ]
        await send_xml(reply, document("Retention", inside))

    async def put_retention(self, request: Request, reply: Reply, name: ObjectName) -> None:
        root = parse_xml(await request.body.read_all(BODY_BYTES_MAX), "Retention")
        retention = NO_RETENTION
        if root.children:
            mode = _parse_mode(root.text_of("Mode"))
            retention = Retention(mode, _parse_until(root.text_of("RetainUntilDate"), now_ms(self._store)))
        version, bypass = _version_of(request), may_bypass(request, name.bucket)
        await set_retention(self._store, name, retention, version=version, bypass_governance=bypass)
        await send(reply, 200)

    async def get_hold(self, request: Request, reply: Reply, name: ObjectName) -> None:
        manifest = await self._find(request, name)
        await send_xml(reply, document("LegalHold", [element("Status", "ON" if is_held(manifest) else "OFF")]))

    async def put_hold(self, request: Request, reply: Reply, name: ObjectName) -> None:
        root = parse_xml(await request.body.read_all(BODY_BYTES_MAX), "LegalHold")
        held = _SWITCH.get(root.text_of("Status"))
        if held is None:
            raise MalformedXml("the Status of a LegalHold is ON or OFF")
        await set_legal_hold(self._store, name, held, version=_version_of(request))
        await send(reply, 200)

    async def _find(self, request: Request, name: ObjectName) -> Manifest:
        await check_locking(self._store, name.bucket)
        return await find_object(self._store, name, version=_version_of(request))


def may_bypass(request: Request, bucket: BucketName) -> bool:
    """Return whether a request ends a retention in governance mode early. Raises unless its caller may."""
    if request.fields.get(BYPASS, "").lower() != "true":
        return False
    authorize_also(request, Action.CONFIGURE_BUCKET, bucket, call="BypassGovernanceRetention")
    return True


async def lock_in_fields(store: Store, fields: Mapping[str, str], bucket: BucketName) -> Details | None:
    """Return the lock that a put brings in its head, in otherwise empty details; None without one.

    Raises S3Error, and NoLock if the bucket has no object lock.
    """
    if LOCK_FIELDS.isdisjoint(fields):
        return None
    await check_locking(store, bucket)
    details = EMPTY
    if MODE in fields or UNTIL in fields:
        if MODE not in fields or UNTIL not in fields:
            raise S3Error("InvalidArgument", f"{MODE} and {UNTIL} must both be supplied")
        if fields[MODE] not in _MODES:
            raise S3Error("InvalidArgument", "Unknown wormMode directive.")
        until = _parse_until(fields[UNTIL], now_ms(store))
        details = details._replace(compliance=_MODES[fields[MODE]], retained_until_ms=until)
    held = _SWITCH.get(fields.get(HOLD, "OFF"))
    if held is None:
        raise S3Error("InvalidArgument", "Legal Hold must be either of 'ON' or 'OFF'")
    return details._replace(legal_hold=held)


def lock_lines(manifest: Manifest) -> bytes:
    """Return the field lines of a get that tell how the version is locked."""
    details = manifest.details
    if details is None or not (details.retained_until_ms or details.legal_hold):
        return b""
    text = f"{HOLD}: ON\r\n" if details.legal_hold else ""
    if details.retained_until_ms:
        until = format_timestamp(details.retained_until_ms / 1000)
        text += f"{MODE}: {_mode(details.compliance)}\r\n{UNTIL}: {until}\r\n"
    return text.encode()


def parse_configuration(body: bytes) -> DefaultRetention | None:
    """Return the default of an ObjectLockConfiguration. Raises MalformedXml and S3Error."""
    root = parse_xml(body, "ObjectLockConfiguration")
    if root.text_of("ObjectLockEnabled") != "Enabled":
        raise MalformedXml("ObjectLockEnabled is Enabled")
    rule = root.find("Rule")
    if rule is None:
        return None
    default = rule.find("DefaultRetention")
    if default is None or (default.find("Days") is None) == (default.find("Years") is None):
        raise MalformedXml("a DefaultRetention holds a Mode and either Days or Years")
    compliance = _parse_mode(default.text_of("Mode"))
    if default.find("Days") is not None:
        return DefaultRetention(compliance, days=_parse_length(default, "Days", DAYS_MAX))
    return DefaultRetention(compliance, years=_parse_length(default, "Years", YEARS_MAX))


def _parse_length(default: Element, name: str, most: int) -> int:
    text = default.text_of(name).strip()
    if not text.removeprefix("-").isdecimal() or not text.isascii():
        raise MalformedXml(f"{name} is a number")
    if len(text) > 6 or not 0 < int(text) <= most:
        raise S3Error("InvalidRetentionPeriod", f"Default retention period must be 1 to {most} {name.lower()}.")
    return int(text)


def _parse_mode(text: str) -> bool:
    """Return whether it is compliance. Raises MalformedXml."""
    if text not in _MODES:
        raise MalformedXml("a Mode is GOVERNANCE or COMPLIANCE")
    return _MODES[text]


def _parse_until(text: str, now_ms: int) -> int:
    """Return a moment to come, in ms. Raises S3Error."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise S3Error("InvalidArgument", "The retain until date must be provided in ISO 8601 format") from None
    until = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    if until <= now_ms:
        raise S3Error("InvalidArgument", "The retain until date must be in the future!")
    return until


def _mode(compliance: bool) -> str:
    return "COMPLIANCE" if compliance else "GOVERNANCE"


def _version_of(request: Request) -> int | None:
    return parse_version(parse_query(request.query).get("versionId", ""))


def _not_locked() -> S3Error:
    return S3Error("NoSuchObjectLockConfiguration", "The specified object does not have a ObjectLock configuration")
