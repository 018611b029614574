"""The endpoint, the secret of the cluster and the certificates to trust, as the settings say."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flarectl.errors import Failure, Refusal, Unreachable, Usage, from_os
from flarectl.settings import VARIABLES, find_setting

if TYPE_CHECKING:
    from ssl import SSLContext

DEFAULT_ENDPOINT = "http://127.0.0.1:8000"
VARIABLE = VARIABLES["endpoint"]

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\])(:[0-9]+)?")


def find_endpoint(flag: str) -> tuple[str, str]:
    """Return the endpoint and its origin. Raise Usage if it is not a valid URL."""
    if found := (flag, "--endpoint") if flag else find_setting("endpoint"):
        return check_endpoint(*found), found[1]
    return DEFAULT_ENDPOINT, "default"


def unreachable(endpoint: str, reason: str) -> Unreachable:
    """Return the Failure for an endpoint that does not answer; ``reason`` is the operating system's, if any."""
    try:
        known, origin = find_endpoint("")
    except Failure:
        known, origin = "", ""
    origin = origin if known == endpoint else "--endpoint"
    where = "the default address" if origin == "default" else f"the address from {origin}"
    return Unreachable(
        f"cannot reach {endpoint}, {where}: {reason.lower() or 'it did not answer'}",
        hints=[
            "is the api node running there? Name another with --endpoint URL, with FLARE_ENDPOINT=URL,",
            "or for good: flarectl config set endpoint URL",
        ],
    )


def untrusted(endpoint: str, reason: str) -> Refusal:
    """Return the Failure for an endpoint whose certificate is not trusted; ``reason`` is OpenSSL's. Do not retry it."""
    return Refusal(
        f"the certificate of {endpoint} is not trusted: {reason}",
        hints=["if it was made for this cluster: flarectl config set ca_file FILE, with its authority's certificate"],
    )


def find_secret_file() -> tuple[str, str]:
    """Return the file with the cluster's secret and the origin of its name; both empty if there is none."""
    return find_setting("secret_file") or ("", "")


def tls_context() -> SSLContext:
    """Return the TLS context for https:// endpoints: it trusts ``ca_file``, or the system's certificates.

    Raise Failure if ``ca_file`` cannot be used.
    """
    import ssl

    path, origin = find_setting("ca_file") or (None, "")
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise Usage(f"{path} (ca_file, from {origin}) does not hold certificates in PEM") from None
    except OSError as error:
        raise from_os(error, f"{path} (ca_file, from {origin})") from None


def uses_tls(endpoint: str) -> bool:
    """Return whether the endpoint speaks TLS."""
    return endpoint.startswith("https://")


def secret_fields_of(secret: bytes) -> dict[str, str]:
    """Return the header field that proves that we know this secret."""
    from flared.access.keys import API_AUDIENCE, authorization, node_token

    return {"authorization": authorization(node_token(secret, API_AUDIENCE))}


def read_secret(path: str, origin: str) -> bytes:
    """Return the secret in the file; of several the first, which signs. Raise Failure if it cannot be read."""
    from flared.access.keys import SECRETS_BYTES_MAX, parse_secrets

    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(SECRETS_BYTES_MAX + 1)
    except OSError as error:
        raise from_os(error, f"{path} (secret_file, from {origin})") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise Usage(f"{path} can be read by everybody on this machine: chmod o= {path}")
    try:
        return parse_secrets(content)[0]
    except ValueError as error:
        raise Usage(f"{path}: {error}") from None


def check_endpoint(text: str, origin: str) -> str:
    """Return the URL without a trailing slash. Raise Usage with the allowed form."""
    allowed = "write http://HOST:PORT or https://HOST:PORT, such as http://10.0.0.1:8000"
    # A single word is more likely a mistake than the name of a host that has an api node at port 80.
    url = urlsplit(text if "://" in text else f"http://{text}" if ":" in text else "")
    try:
        port_is_good = url.port is None or url.port > 0
    except ValueError:
        port_is_good = False
    is_place = (
        _HOST.fullmatch(url.netloc) and port_is_good and not url.path.strip("/") and not (url.query or url.fragment)
    )
    if url.scheme not in ("http", "https") or not is_place:
        raise Usage(f"{origin}: {text!r} is not a valid endpoint; {allowed}")
    return f"{url.scheme}://{url.netloc}"
