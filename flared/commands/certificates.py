"""``flared renew-certificates``: a node's certificate, made or renewed by the cluster's own authority.

A node with the authority's key signs for itself; any other asks an api node (``access.enrolment``). A certificate that
another authority made is never touched. Files appear under their names when they are complete, and the key of a node
stays: a crash leaves the old certificate or the new one, and either belongs to the key.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import subprocess
import time
from base64 import b64decode
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING

from flared.access.certificates import (
    RENEW_DAYS,
    Authority,
    certificates_in,
    fingerprint,
    is_of_key,
    is_signed_by,
    make_authority,
    make_key,
    make_request,
    read_certificate,
    seal_again,
    sign_request,
)
from flared.access.enrolment import SEALED_BYTES_MAX, Issued, open_issued, prove_request
from flared.access.invites import NONCE_BYTES
from flared.commands import units
from flared.commands.prepare import NotPrepared, give
from flared.config.settings import ApiConfig, Config, DataConfig
from flared.http.error_body import parse_error
from flared.http.json_body import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flared.http.address import Address, Endpoint
    from flared.http.tls_settings import TlsSettings

PATH = "/cluster/certificate"
TIMEOUT_SECONDS = 15.0
KEY_MODE, SHARED_MODE, PUBLIC_MODE = 0o600, 0o640, 0o644
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_WILDCARDS = ("0.0.0.0", "::")


class NoAuthority(Exception):  # the message is one sentence for the operator
    """The cluster has no authority of its own."""


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """The files of a node whose certificate the cluster's authority makes."""

    certificate: Path
    key: Path
    ca: Path

    @staticmethod
    def below(file: Path) -> NodeFiles:
        """Return where ``flared init`` puts them for the node of this TOML file."""
        directory = file.absolute().parent / "tls"
        return NodeFiles(directory / f"{file.stem}.pem", directory / f"{file.stem}.key", directory / "ca.pem")


def renew(config: Config, file: Path, say: Callable[[str], None], *, force: bool = False) -> bool:
    """Make what [tls] of the node names and lacks, and renew its certificate if it ends soon, or lacks a name of this
    host. Return whether a running node must reload. Raise NotPrepared, OSError."""
    tls = config.tls
    if tls is None or tls.ca is None:
        say(f"{file}: its [tls] names no certificate and ca, so there is nothing to renew")
        return False
    files = _files_of(tls, tls.ca)
    if isinstance(config, ApiConfig):
        if config.ca_key is None:
            say(f"{file}: it has no ca_key, so its certificate is not made here")
            return False
        changed = make_own_authority(files.ca, config.ca_key, config.secrets, say)
        ask = sign_here(files.ca, config.ca_key, config.name, config.secrets)
    else:
        changed = False
        ask = ask_apis(config.api, config.name, config.secrets)
    try:
        return make_certificate(files, config.name, names_of(config), ask, say, force=force) or changed
    except NoAuthority as error:
        raise NotPrepared(str(error)) from None


def reload_node(file: Path, say: Callable[[str], None]) -> None:
    """Have the running node take its new files over."""
    if not units.is_service(file):
        say("a running node takes it over when it gets SIGHUP")
        return
    unit = f"flared@{file.stem}.service"
    with suppress(OSError):
        subprocess.run(["systemctl", "try-reload-or-restart", unit], check=False)


def make_own_authority(ca: Path, key: Path, secrets_: Sequence[bytes], say: Callable[[str], None]) -> bool:
    """Make the authority of the cluster, or seal its key anew if the secret was replaced. Return whether it is new.
    Raise NotPrepared if one of its files is there and not the other, or if no secret opens the key."""
    if not secrets_:
        raise NotPrepared("an authority's key is sealed with the secret of the cluster: give the node a secret_file")
    if ca.exists() != key.exists():
        missing, there = (key, ca) if ca.exists() else (ca, key)
        raise NotPrepared(f"{missing} is missing: put it back, or move {there} away to begin anew")
    if not ca.exists():
        made = make_authority(f"Flare {secrets.token_hex(4)}", secrets_[0], time.time())
        write(key, made.key, KEY_MODE, own=give)  # first: without it the certificate is worth nothing
        write(ca, made.certificate, PUBLIC_MODE)
        say(f"{ca} is the authority of this cluster, and {key} its key: keep copies of both with the backups")
        return True
    try:
        sealed = seal_again(Authority(ca.read_bytes(), key.read_bytes()), secrets_)
    except ValueError as error:
        raise NotPrepared(f"{key}: {error}") from None
    if sealed is not None:
        write(key, sealed.key, KEY_MODE, own=give)
        say(f"{key} is sealed with the new secret")
    return False


def seal_authority(config: Config, say: Callable[[str], None]) -> None:
    """Seal the key of an authority on this host with the secret that signs now; called at each reload, as root."""
    if not isinstance(config, ApiConfig) or config.ca_key is None or config.tls is None or config.tls.ca is None:
        return
    if config.ca_key.exists() and config.tls.ca.exists():
        try:
            make_own_authority(config.tls.ca, config.ca_key, config.secrets, say)
        except NotPrepared as error:  # the node runs without it, and the doctor warns
            say(str(error))


def sign_here(ca: Path, key: Path, node: str, secrets_: Sequence[bytes]) -> Callable[[bytes], Issued]:
    """Return what signs requests with the authority on this host."""

    def sign(request: bytes) -> Issued:
        authority = Authority(ca.read_bytes(), key.read_bytes())
        try:
            return Issued(authority.certificate, sign_request(authority, secrets_, node, request, time.time()))
        except ValueError as error:
            raise NotPrepared(f"{key}: {error}") from None

    return sign


def ask_apis(apis: Iterable[Endpoint], node: str, secrets_: Sequence[bytes]) -> Callable[[bytes], Issued]:
    """Return what has requests signed by the first of these api nodes that answers."""

    def ask(request: bytes) -> Issued:
        if not secrets_:
            raise NotPrepared("a certificate is made for nodes that know the secret: give the node a secret_file")
        failures = []
        for api in apis:
            try:
                return _ask(api, node, secrets_[0], request)
            except (OSError, HTTPException) as error:
                failures.append(f"{url_of(api)}: {getattr(error, 'strerror', None) or error or type(error).__name__}")
        raise NotPrepared(f"no api node answers, so no certificate was made ({'; '.join(failures)})")

    return ask


def make_certificate(
    files: NodeFiles,
    node: str,
    names: Sequence[str],
    ask: Callable[[bytes], Issued],
    say: Callable[[str], None],
    *,
    force: bool = False,
) -> bool:
    """Make the certificate of a node, or renew it if that is due. Return whether it is another one now.

    Raise NotPrepared, NoAuthority, OSError.
    """
    if files.certificate.exists():
        if not _is_own(files):
            say(f"{files.certificate} was made by another authority and is left alone")
            return False
        reason = "is renewed" if force else _reason_to_renew(files, names)
        if not reason:
            left = read_certificate(files.certificate.read_bytes()).days_left(time.time())
            say(f"{files.certificate} is good for {left:.0f} days more")
            return False
        say(f"{files.certificate} {reason}")
    if not files.key.exists():
        write(files.key, make_key(), SHARED_MODE, own=partial(give, group_only=True))
    try:
        issued = ask(make_request(node, names, files.key.read_bytes()))
        if not is_of_key(issued.certificate, files.key.read_bytes()):
            raise NotPrepared(f"the certificate that came is not for {files.key}")
    except ValueError as error:
        raise NotPrepared(f"{files.key}: {error}") from None
    _keep_authority(files.ca, issued.authority, say)
    write(files.certificate, issued.certificate, PUBLIC_MODE)
    facts = read_certificate(issued.certificate)
    say(f"{files.certificate} is made for {', '.join(facts.names)}, good for {facts.days_left(time.time()):.0f} days")
    return True


def names_of(config: Config) -> list[str]:
    """Return the names by which this host may be called, beside the node's own."""
    places = [config.listen.host]
    if isinstance(config, DataConfig):
        places.append(config.advertise.host)
        wanted: list[str] = []
    else:
        domain = (config.s3_domain, f"*.{config.s3_domain}") if config.s3_domain else ()
        wanted = [*config.hosts, *domain]
    return [*wanted, *host_names_of(places)]


def host_names_of(places: Iterable[str]) -> list[str]:
    """Return the names and addresses of this host, with these that it listens on."""
    name = socket.gethostname()
    found = [*(place for place in places if place not in _WILDCARDS), name, socket.getfqdn()]
    with suppress(OSError):
        found += [str(place[4][0]) for place in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    found += [address for address in map(_route_address, ("192.0.2.1", "2001:db8::1")) if address]
    return list(dict.fromkeys([*(one for one in found if one and one.isascii() and "%" not in one), *LOOPBACK_NAMES]))


def describe_endpoint(listen: Address, ca: Path) -> str:
    """Return the URL of an api node with the fingerprint of its authority, as ``flarectl config set endpoint`` takes
    it on another machine."""
    host = socket.getfqdn() if listen.host in _WILDCARDS else listen.host
    place = f"[{host}]" if ":" in host else host
    return f"https://{place}:{listen.port}#{fingerprint(ca.read_bytes())}"


def write(path: Path, content: bytes, mode: int, own: Callable[[Path], None] | None = None) -> None:
    """Write a file that appears under its name when it is complete and synced, and ``own`` has given it away."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if units.is_service(path.parent):
        give(path.parent, group_only=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, KEY_MODE)
    try:
        with open(descriptor, "wb") as output:
            output.write(content)
            output.flush()
            os.fchmod(output.fileno(), mode)
            os.fsync(output.fileno())
        if own is not None:
            own(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _files_of(tls: TlsSettings, ca: Path) -> NodeFiles:
    if tls.node_certificate is not None and tls.node_key is not None:
        return NodeFiles(tls.node_certificate, tls.node_key, ca)
    return NodeFiles(tls.certificate, tls.key, ca)


def _is_own(files: NodeFiles) -> bool:
    """Return whether the cluster's authority made the certificate. Raise NotPrepared if it is not that of the key."""
    try:
        content = files.certificate.read_bytes()
        # Any of those that the file holds: a new authority is put first before the certificate is renewed.
        authorities = certificates_in(files.ca.read_bytes()) if files.ca.exists() else []
        if not any(is_signed_by(content, authority) for authority in authorities):
            return False
        if not files.key.exists() or not is_of_key(content, files.key.read_bytes()):
            raise NotPrepared(f"{files.certificate} is not for {files.key}: move both away to begin anew")
    except ValueError as error:
        raise NotPrepared(f"{files.certificate}: {error}") from None
    return True


def _reason_to_renew(files: NodeFiles, names: Sequence[str]) -> str:
    """Return why the certificate is due; empty if it is not."""
    facts = read_certificate(files.certificate.read_bytes())
    left = facts.days_left(time.time())
    if left < RENEW_DAYS:
        return f"ends in {left:.0f} days" if left > 0 else "has ended"
    missing = [name for name in names if name not in facts.names]
    return f"does not name {', '.join(missing)}" if missing else ""


def _keep_authority(ca: Path, handed: bytes, say: Callable[[str], None]) -> None:
    """Have ``ca`` hold the authority that was handed over; what else it holds stays."""
    found = ca.read_bytes() if ca.exists() else b""
    if handed.strip() not in found:
        write(ca, handed + found, PUBLIC_MODE)
        say(f"{ca} is the authority of this cluster")


def _ask(api: Endpoint, node: str, secret: bytes, request: bytes) -> Issued:
    nonce = os.urandom(NONCE_BYTES)
    proof = prove_request(secret, node, nonce, request)
    body = {"node": node, "nonce": nonce.hex(), "request": request.decode(), "proof": proof.hex()}
    connection = connect(api)
    try:
        connection.request("POST", PATH, json.dumps(body).encode(), {"content-type": "application/json"})
        reply = connection.getresponse()
        status, answer = reply.status, reply.read(2 * SEALED_BYTES_MAX)
    finally:
        connection.close()
    try:
        fields: object = parse_json(answer)
    except ValueError:
        fields = None
    sealed = fields.get("sealed") if isinstance(fields, dict) else None
    if status != 200 or not isinstance(sealed, str):
        said = parse_error(answer).message or f"HTTP status {status}, not an answer of an api node"
        raise (
            NoAuthority(f"{url_of(api)}: {said[:500]}")
            if status == 409
            else NotPrepared(f"{url_of(api)}: {said[:500]}")
        )
    try:
        return open_issued(b64decode(sealed), secret, node, nonce)
    except ValueError as error:
        raise NotPrepared(f"{url_of(api)}: {error}") from None


def connect(api: Endpoint) -> HTTPConnection:
    """Return a connection on which the answer proves itself, so that no certificate is looked at."""
    if not api.tls:
        return HTTPConnection(api.host, api.port, timeout=TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection(api.host, api.port, timeout=TIMEOUT_SECONDS, context=context)


def url_of(api: Endpoint) -> str:
    """Return the URL of an api node."""
    return str(api) if api.tls else f"http://{api}"


def _route_address(target: str) -> str:
    """Return the address of this host on its way to there; nothing is sent. Empty if there is none."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""
