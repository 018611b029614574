"""Authority: how a client comes to trust a cluster's own certificate authority: by an address that carries its
fingerprint, ``https://HOST:PORT#SHA256``, as ``flared init api --tls`` prints it on the api host.
"""

from __future__ import annotations

import hashlib
import re
from http.client import HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flarectl.errors import Refusal, Usage, from_os
from flarectl.profile import check_endpoint, unreachable
from flarectl.settings import config_path

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/cluster/ca"
TIMEOUT_SECONDS = 10.0
CERTIFICATE_BYTES_MAX = 64 * 1024

_FINGERPRINT = re.compile(r"(?:[0-9a-f]{2}:?){31}[0-9a-f]{2}")


def learn_authority(url: str) -> tuple[str, Path]:
    """Fetch the authority of the cluster at ``https://HOST:PORT#SHA256`` and keep it beside the settings.

    Return the endpoint and the file. Nothing is believed but what has this SHA-256. Raise Failure.
    """
    text, _, given = url.partition("#")
    endpoint, wanted = check_endpoint(text, "endpoint"), given.lower()
    if not endpoint.startswith("https://") or not _FINGERPRINT.fullmatch(wanted):
        raise Usage(f"{url!r}: write https://HOST:PORT#SHA256, with the 64 hex digits that flared init api printed")
    content = _fetch(endpoint)
    if _fingerprint(endpoint, content) != wanted.replace(":", ""):
        raise Refusal(f"the authority of {endpoint} has another fingerprint than the address says: nothing was changed")
    path = config_path().with_name(f"ca-{wanted.replace(':', '')[:16]}.pem")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise from_os(error, str(path)) from None
    return endpoint, path


def _fetch(endpoint: str) -> bytes:
    """Return the authority that the endpoint sends, on a connection that is not trusted yet."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    place = urlsplit(endpoint)
    connection = HTTPSConnection(place.hostname or "", place.port, timeout=TIMEOUT_SECONDS, context=context)
    try:
        connection.request("GET", PATH)
        reply = connection.getresponse()
        status, content = reply.status, reply.read(CERTIFICATE_BYTES_MAX)
    except (OSError, HTTPException) as error:
        raise unreachable(endpoint, getattr(error, "strerror", None) or str(error)) from None
    finally:
        connection.close()
    if status != 200:
        raise Refusal(f"{endpoint} has no authority of its own: leave the part after # out")
    return content


def _fingerprint(endpoint: str, content: bytes) -> str:
    """Return the SHA-256 of the first certificate. Nothing else of the answer is believed, so nothing else is kept."""
    import ssl

    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    if not content.startswith(begin) or content.count(begin) != 1 or not content.rstrip().endswith(end):
        raise Refusal(f"{endpoint} answered, but not with one certificate; is it an api node of Flare?")
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(content.decode("ascii").strip())).hexdigest()
    except ValueError:
        raise Refusal(f"{endpoint} answered, but not with a certificate; is it an api node of Flare?") from None
