"""The endpoint and the secret: from a flag, the environment, or ``~/.config/flare/config.toml``, in this order."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flarectl.errors import Failure, Refusal, Unreachable, Usage, from_os

if TYPE_CHECKING:
    from ssl import SSLContext

DEFAULT_ENDPOINT = "http://127.0.0.1:8000"
VARIABLE = "FLARE_ENDPOINT"
SECRET_VARIABLE = "FLARE_SECRET_FILE"
CA_VARIABLE = "FLARE_CA_FILE"
SETTINGS = {
    "endpoint": "the URL of an api node, such as http://10.0.0.1:8000",
    "secret_file": "a file with the secret of the cluster, which others may not read",
    "ca_file": "certificates in PEM to trust at https:// endpoints, instead of those of this system",
}

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\])(:[0-9]+)?")


def config_path() -> Path:
    """Return the path of the settings file; XDG_CONFIG_HOME is respected."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base, "flare", "config.toml")


def find_endpoint(flag: str) -> tuple[str, str]:
    """Return the endpoint and its origin. Raise Usage if it is not a valid URL."""
    for text, origin in ((flag or None, "--endpoint"), (_variable(VARIABLE), VARIABLE)):
        if text is not None:
            return check_endpoint(text, origin), origin
    if (text := read_settings().get("endpoint")) is not None:
        return check_endpoint(text, str(config_path())), str(config_path())
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
    if text := _variable(SECRET_VARIABLE):
        return text, SECRET_VARIABLE
    if text := read_settings().get("secret_file", ""):
        return text, str(config_path())
    return "", ""


def tls_context() -> SSLContext:
    """Return the TLS context for https:// endpoints: it trusts ``ca_file``, or the system's certificates.

    Raise Failure if ``ca_file`` cannot be used.
    """
    import ssl

    path, origin = _variable(CA_VARIABLE), CA_VARIABLE
    if path is None:
        path, origin = read_settings().get("ca_file"), str(config_path())
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise Usage(f"{path} (ca_file, from {origin}) does not hold certificates in PEM") from None
    except OSError as error:
        raise from_os(error, f"{path} (ca_file, from {origin})") from None


def uses_tls(endpoint: str) -> bool:
    """Return whether the endpoint speaks TLS."""
    return endpoint.startswith("https://")


def _variable(name: str) -> str | None:
    """Return a variable of the environment. Raise Usage for an empty one: it is more likely a mistake than meant."""
    value = os.environ.get(name)
    if value is not None and not value.strip():
        raise Usage(f"{name} is set in the environment, but empty; give it a value, or type: unset {name}")
    return value


def secret_fields() -> dict[str, str]:
    """Return the header field that proves that we know the secret, if one is set. Raise Failure if it is unreadable."""
    path, origin = find_secret_file()
    if not path:
        return {}
    return secret_fields_of(read_secret(path, origin))


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
    is_place = _HOST.fullmatch(url.netloc) and port_is_good and not url.path.strip("/") and not url.query
    if url.scheme not in ("http", "https") or not is_place:
        raise Usage(f"{origin}: {text!r} is not a valid endpoint; {allowed}")
    return f"{url.scheme}://{url.netloc}"


def read_settings() -> dict[str, str]:
    """Return the settings in the file, none without a file. Raise Usage if the file is not valid."""
    path = config_path()
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise from_os(error, str(path)) from None
    import tomllib

    try:
        found: dict[str, object] = tomllib.loads(content.decode())
    except ValueError as error:
        raise Usage(f"{path}: {error}") from None
    for name, value in found.items():
        if name not in SETTINGS or not isinstance(value, str):
            raise Usage(f"{path}: {name}: allowed are {', '.join(SETTINGS)}, a text in quotes")
    return {name: str(value) for name, value in found.items()}


def write_setting(name: str, value: str) -> Path:
    """Store one setting; the whole file is replaced. Raise Usage, or Refusal if the disk refuses it."""
    check_setting(name)
    value = check_endpoint(value, name) if name == "endpoint" else os.path.abspath(value)
    return _write_settings(read_settings() | {name: value})


def forget_setting(name: str) -> Path:
    """Remove one setting. Raise as ``write_setting`` does."""
    check_setting(name)
    return _write_settings({known: value for known, value in read_settings().items() if known != name})


def check_setting(name: str) -> None:
    """Raise Usage unless there is a setting of this name."""
    if name not in SETTINGS:
        raise Usage(f"{name!r} is not a setting; there are {', '.join(SETTINGS)}")


def _write_settings(settings: dict[str, str]) -> Path:
    import tomli_w

    path = config_path()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(tomli_w.dumps(settings))
        temporary.replace(path)
    except OSError as error:
        raise from_os(error, str(path)) from None
    return path
