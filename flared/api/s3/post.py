"""PostObject: a web page's form uploads one object, by a policy that a key has signed.

The form is read up to its file before anything is known of its sender, so its fields are bounded (``api.forms``). They
bring the proof, too: so the entry lets everyone in, and authorize is asked here, with the key that signed the policy.
Source: Amazon S3 API Reference, "Browser-Based Uploads Using POST (AWS Signature Version 4)".
"""

from __future__ import annotations

import hmac
import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flared.access.authorize import Action, authorize
from flared.access.identity import ANONYMOUS, key_identity
from flared.access.post_policy import parse_post_policy
from flared.access.sigv4 import SignatureRefused, parse_credential
from flared.access.sigv4_canonical import ALGORITHM, sign, signing_key
from flared.api.callers import Caller
from flared.api.face import on_bucket
from flared.api.forms import FormFile, parse_boundary
from flared.api.s3.answers import XML, reply_lines, send
from flared.api.s3.checksums import explain_digest, take_digests
from flared.api.s3.errors import S3Error
from flared.api.s3.headers import object_headers, refuse_unknown
from flared.api.s3.objects import described, put_lines
from flared.api.s3.tagging import parse_tagging
from flared.api.s3.xml import document, element
from flared.errors import BadDigest, BadRequest, Forbidden
from flared.http.messages import Body
from flared.http.percent import encode_key
from flared.names import ObjectName, parse_key
from flared.objects.put import put_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flared.access.identity import Identity
    from flared.access.post_policy import PostPolicy
    from flared.api.face import Handler
    from flared.api.forms import Part
    from flared.api.s3.callers import S3Callers
    from flared.catalog.manifest import Manifest
    from flared.http.messages import Reply, Request
    from flared.names import BucketName
    from flared.objects.store import Store

FILENAME = "${filename}"
STATUSES = {"200": 200, "201": 201}
"""Of ``success_action_status``; any other means 204."""
REDIRECT_BYTES_MAX = 2048

_HEAD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_PROOF = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")


def post_handlers(store: Store, callers: S3Callers) -> dict[str, Handler]:
    return {"PostObject": on_bucket(PostCall(store, callers).post)}


class PostCall:
    """The call, over one Store."""

    def __init__(self, store: Store, callers: S3Callers) -> None:
        self._store = store
        self._callers = callers

    async def post(self, request: Request, reply: Reply, bucket: BucketName) -> None:
        # The fields come first: they say what the file is, and who may send it.
        form = FormFile(request.body, _boundary(request), _is_file)
        part = await form.open()
        fields, head = _decode_fields(form.fields), _as_head(form.fields)
        key = fields.get("key")
        if not key:
            raise _lacking("key")
        name = ObjectName(bucket, parse_key(key.replace(FILENAME, part.filename or "")))
        identity, policy = self._identify(fields, bucket)
        caller = request.caller
        assert isinstance(caller, Caller)
        request.caller = caller._replace(identity=identity)  # for the audit
        context = replace(caller.context, fields=head)  # a policy is about what stands in the form
        reply.prove(authorize(identity, Action.WRITE, name, context, call="PostObject"))
        # The object, as a put with these fields in its head would make it.
        refuse_unknown(head)
        tagging = fields.get("tagging")
        headers = described(object_headers(head), parse_tagging(tagging.encode()) if tagging else None)
        source, digests = take_digests(head, SizedFile(form, policy))
        try:
            result = await put_object(self._store, name, source, headers=headers, digests=digests)
        except BadDigest as error:
            raise explain_digest(error, digests) from error
        await _answer(reply, fields, request, result.manifest)

    def _identify(self, fields: Mapping[str, str], bucket: BucketName) -> tuple[Identity, PostPolicy | None]:
        """Return who signed the policy, and the policy, which allows these fields. Raises S3Error."""
        encoded = fields.get("policy")
        if encoded is None:
            if "x-amz-signature" in fields or "signature" in fields:
                raise _lacking("policy")
            return ANONYMOUS, None
        for name in _PROOF:
            if not fields.get(name):
                raise _lacking(name)
        if fields["x-amz-algorithm"] != ALGORITHM:
            raise S3Error("InvalidArgument", f"X-Amz-Algorithm only supports {ALGORITHM}")
        # The signature before the policy: what no key has signed is not worth reading.
        credential = parse_credential(fields["x-amz-credential"], _wrong_credential)
        region = self._callers.settings.region
        if credential.date != fields["x-amz-date"][:8] or credential.region != region or credential.service != "s3":
            raise S3Error("InvalidArgument", f"the credential must be for s3 in {region}, of the day of x-amz-date")
        access_key = self._callers.keys.find(credential.access_key_id)
        if access_key is None:
            raise S3Error("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
        wanted = sign(signing_key(access_key.secret, credential.date, region), encoded)
        if not hmac.compare_digest(wanted.encode(), fields["x-amz-signature"].encode()):
            raise S3Error(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. Check your key and "
                "signing method.",
            )
        try:
            policy = parse_post_policy(encoded)
        except BadRequest as error:
            raise S3Error("InvalidPolicyDocument", f"Invalid Policy: {error}") from error
        try:
            policy.check({**fields, "bucket": bucket}, self._callers.now())
        except Forbidden as error:
            raise S3Error("AccessDenied", f"Invalid according to Policy: {error}") from error
        return key_identity(access_key), policy


class SizedFile(Body):
    """The file of a form, which ends well only if it is as long as the policy allows."""

    __slots__ = ("_form", "_policy", "_size")

    def __init__(self, form: FormFile, policy: PostPolicy | None) -> None:
        self.length = None
        self._form = form
        self._policy = policy
        self._size = 0

    async def receive_into(self, buffer: memoryview) -> int:
        count = await self._form.receive_into(buffer)
        self._size += count
        policy = self._policy
        if policy is not None and (not count or (policy.most is not None and self._size > policy.most)):
            policy.check_size(self._size)
        return count

    @property
    def left(self) -> None:
        return None


def _boundary(request: Request) -> bytes:
    try:
        return parse_boundary(request.fields.get("content-type", ""))
    except BadRequest as error:
        raise S3Error("MalformedPOSTRequest", f"The body of your POST request is not a form: {error}") from error


def _is_file(part: Part) -> bool:
    return part.name.lower() == "file"


def _decode_fields(raw: Mapping[str, bytes]) -> dict[str, str]:
    try:
        return {name: value.decode() for name, value in raw.items()}
    except UnicodeDecodeError:
        raise S3Error("MalformedPOSTRequest", "a field of the form is not UTF-8") from None


def _as_head(raw: Mapping[str, bytes]) -> dict[str, str]:
    """Return the fields as the head of a request would have them: they stand in heads of replies later."""
    head: dict[str, str] = {}
    for name, value in raw.items():
        text = value.decode("latin-1")
        if name not in ("policy", "key") and not _HEAD_VALUE.fullmatch(text):
            raise S3Error("InvalidArgument", f"the field {name[:64]!r} of the form has more than one line")
        head[name] = text
    return head


def _wrong_credential(reason: str) -> SignatureRefused:
    return SignatureRefused("InvalidArgument", reason)


def _lacking(name: str) -> S3Error:
    return S3Error(
        "InvalidArgument",
        f"Bucket POST must contain a field named '{name}'. If it is specified, please check the order of the fields.",
    )


async def _answer(reply: Reply, fields: Mapping[str, str], request: Request, manifest: Manifest) -> None:
    name, lines = manifest.name, put_lines(manifest)
    place = f"/{name.bucket}/{encode_key(name.key)}"
    location = f"http://{request.fields.get('host', '')}{place}"
    redirect = _redirect(fields.get("success_action_redirect") or fields.get("redirect") or "")
    if redirect:
        mark = "&" if "?" in redirect else "?"
        target = f"{redirect}{mark}bucket={name.bucket}&key={encode_key(name.key)}&etag=%22{manifest.etag}%22"
        await send(reply, 303, lines + f"location: {target}\r\n".encode())
        return
    status = STATUSES.get(fields.get("success_action_status", ""), 204)
    lines += f"location: {location}\r\n".encode("latin-1", "replace")
    if status != 201:
        await send(reply, status, lines)
        return
    inside = [
        element("Location", location),
        element("Bucket", name.bucket),
        element("Key", name.key),
        element("ETag", f'"{manifest.etag}"'),
    ]
    await reply.send(201, reply_lines() + XML + lines, document("PostResponse", inside, namespace=""))


def _redirect(text: str) -> str:
    """Return where the browser is to go next; empty for what is not a URL, as S3 has it."""
    if len(text) > REDIRECT_BYTES_MAX or not text.isascii() or not text.isprintable() or " " in text:
        return ""
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    return text if parts.scheme in ("http", "https") and parts.netloc else ""
