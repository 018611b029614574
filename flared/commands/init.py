"""``flared init api|data``: create a TOML file and a secret, and prepare the host, so that the node can start.

The secret is generated, or copied from a file, or fetched with a join token, which can be used only once. A fetched
secret therefore stays if a later step fails: the same command, run again, recognises it as the token's.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from flared.access.invites import JoinToken, is_of_cluster, parse_token
from flared.commands import certificates, join, units
from flared.commands.prepare import NotPrepared, give, prepare
from flared.config.load import API_PORT, DATA_PORT, S3_PORT, load_config
from flared.config.secret_files import read_secrets
from flared.config.templates import API_TEMPLATE, DATA_TEMPLATE
from flared.config.values import is_loopback, parse_listen, parse_url
from flared.errors import BadName
from flared.http.address import HTTPS, Address, Endpoint
from flared.names import NodeName, parse_node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECRET = "secret"
SECRET_BYTES = 32
STATE = Path("/var/lib/flare")
URL = "http://"


@dataclass(frozen=True, slots=True)
class InitOptions:
    """The options of the command line; empty ones stand for the default."""

    name: str = ""
    listen: str = ""
    secret_file: Path | None = None
    s3_listen: str = ""
    """Empty: the host of ``listen``, and the port of S3."""
    scheme: str = ""
    anonymous: str = ""
    api: Sequence[str] = ()
    advertise: str = ""
    zone: str = ""
    volumes: Sequence[Path] = ()
    join: str = ""
    tls: bool = False
    """Of an api node: make an authority for the cluster, and a certificate for this host."""


def default_file(role: str) -> Path:
    """Return ``/etc/flare/ROLE.toml`` if the package is installed, else a file in the current directory."""
    return (units.CONFIGURATION if units.CONFIGURATION.is_dir() else Path()) / f"{role}.toml"


def init_api(file: Path, options: InitOptions, say: Callable[[str], None]) -> None:
    """Write the TOML file, and the secret of the cluster if there is none yet. Raise NotPrepared, ConfigError."""
    values: dict[str, object] = {"name": options.name, "listen": options.listen, "scheme": options.scheme}
    values["anonymous"] = options.anonymous
    values["s3_listen"] = options.s3_listen or _beside(options.listen)
    if units.is_service(file):
        values["path"] = str(STATE / file.stem / "meta.db")
    tls = None
    if options.tls:
        try:
            listen = parse_listen(options.listen) if options.listen else Address("127.0.0.1", API_PORT)
        except ValueError as error:
            raise NotPrepared(f"--listen {options.listen}: {error}") from None
        tls = _OwnTls(file, NodeName(options.name or "api"), listen)
    _write(file, API_TEMPLATE, values, _Secret(options.secret_file, make=True), say, tls)


def init_data(file: Path, options: InitOptions, say: Callable[[str], None]) -> None:
    """Write the TOML file, put the secret beside it, create the volumes. Raise NotPrepared, ConfigError."""
    token = _token(options.join) if options.join else None
    name = _name(options, token)
    apis = [_url(url) for url in options.api or (token.apis if token else ())]
    alone = all(is_loopback(api) for api in apis)
    listen = options.listen or ("" if alone else f"0.0.0.0:{DATA_PORT}")
    advertise = (options.advertise or _advertised(listen, apis)).removeprefix(HTTPS)
    values: dict[str, object] = {
        "name": name,
        "listen": listen,
        "advertise": advertise,
        "zone": options.zone,
        "api": list(map(certificates.url_of, apis)),
        "volumes": [str(path.absolute()) for path in options.volumes],
    }
    if units.is_service(file):
        values["new_volumes"] = False
    secret = _Secret(options.secret_file, make=alone)
    if token is not None:
        secret = _Secret(token=token, fetch=lambda: join.fetch_secrets(token, name, apis))
    tls = _JoinedTls(file, name, advertise or listen, apis) if any(api.tls for api in apis) else None
    _write(file, DATA_TEMPLATE, values, secret, say, tls)


@dataclass(frozen=True, slots=True)
class _Secret:
    source: Path | None = None
    make: bool = False
    """True if a missing secret may be generated."""
    token: JoinToken | None = None
    fetch: Callable[[], Sequence[bytes]] | None = None
    """Fetches the secret; can be called only once for each token."""


class _Tls(Protocol):
    """The certificates of a node to be."""

    def make(self, secrets_: Sequence[bytes], say: Callable[[str], None]) -> dict[str, str]:
        """Make them, with the cluster's secret; return the content of [tls], empty if there can be none."""

    def values(self) -> dict[str, object]:
        """Return what else the TOML file says if there are any."""


@dataclass(frozen=True, slots=True)
class _OwnTls:
    """The authority of a new cluster, and a certificate of it for this api node."""

    file: Path
    name: NodeName
    listen: Address

    def make(self, secrets_: Sequence[bytes], say: Callable[[str], None]) -> dict[str, str]:
        files = certificates.NodeFiles.below(self.file)
        ca_key = files.ca.with_suffix(".key")
        certificates.make_own_authority(files.ca, ca_key, secrets_, say)
        names = certificates.host_names_of([self.listen.host])
        ask = certificates.sign_here(files.ca, ca_key, self.name, secrets_)
        certificates.make_certificate(files, self.name, names, ask, say)
        say("on another machine: flarectl config set endpoint " + certificates.describe_endpoint(self.listen, files.ca))
        return {**_paths(files), "ca_key": f"tls/{ca_key.name}", "plain": "local"}

    def values(self) -> dict[str, object]:
        return {}


@dataclass(frozen=True, slots=True)
class _JoinedTls:
    """A certificate for this data node, from a cluster that has an authority."""

    file: Path
    name: NodeName
    address: str
    """Where the api nodes reach it, ``host:port``."""
    apis: Sequence[Endpoint]

    def make(self, secrets_: Sequence[bytes], say: Callable[[str], None]) -> dict[str, str]:
        files = certificates.NodeFiles.below(self.file)
        names = certificates.host_names_of([parse_listen(self.address).host] if self.address else [])
        ask = certificates.ask_apis(self.apis, self.name, secrets_)
        try:
            certificates.make_certificate(files, self.name, names, ask, say)
        except certificates.NoAuthority as error:
            say(f"this node gets no certificate: {error}")
            return {}
        return {**_paths(files), "client_ca": f"tls/{files.ca.name}", "plain": "local"}

    def values(self) -> dict[str, object]:
        return {"advertise": HTTPS + (self.address or f"127.0.0.1:{DATA_PORT}")}


def _paths(files: certificates.NodeFiles) -> dict[str, str]:
    return {name: f"tls/{getattr(files, name).name}" for name in ("certificate", "key", "ca")}


def _write(
    file: Path,
    template: str,
    values: dict[str, object],
    secret: _Secret,
    say: Callable[[str], None],
    tls: _Tls | None = None,
) -> None:
    """Write the secret, then the certificates, then the TOML file, then prepare the host: a node that can be started
    has everything."""
    values["secret_file"] = SECRET
    content = fill(template, values)
    try:
        if units.is_service(file):
            units.check_name(file)
        if file.exists():
            raise NotPrepared(f"{file} exists already and was not changed")
        made = _place_secret(secret, file.parent / SECRET, say)
        # Certificates that were made stay, like a secret that was fetched: the next attempt takes them as they are.
        if tls is not None and (section := tls.make(read_secrets(file.parent / SECRET), say)):
            made = []
            lines = "".join(f"{key} = {_toml(value)}\n" for key, value in section.items())
            content = f"{fill(template, values | tls.values())}\n[tls]\n{lines}"
        with open(file, "x", encoding="utf-8") as output:
            output.write(content)
    except ValueError as error:
        raise NotPrepared(str(error)) from None
    except OSError as error:
        raise NotPrepared(f"{error.filename or file} cannot be written: {error.strerror}") from None
    try:
        config = load_config(file)
        if units.is_service(file):
            give(file, group_only=True)
            file.chmod(0o640)
            prepare(config, file, (), say)
    except BaseException:
        file.unlink()  # otherwise the next attempt would refuse to replace it
        for path in made:
            path.unlink()
        raise
    say(f"{file} is written")


def _place_secret(secret: _Secret, target: Path, say: Callable[[str], None]) -> list[Path]:
    """Put the secret at ``target``. Return the files created, which are removed again if a later step fails."""
    # A secret that exists is never replaced: nodes may depend on it, and a token that was used before has put it there.
    try:
        wanted = read_secrets(secret.source) if secret.source else None
        if target.exists():
            found = read_secrets(target)
            if wanted not in (None, found) or (secret.token and not is_of_cluster(secret.token, found)):
                raise NotPrepared(f"{target} exists already with another secret and was not changed")
            if secret.token:
                say(f"{target} has the secret of the cluster already; the join token was not used")
            return []
    except ValueError as error:
        raise NotPrepared(str(error)) from None
    # The token works once. From here on a failure must not remove the secret, so it is not among the files returned.
    if wanted is None and secret.fetch is not None:
        try:
            wanted = tuple(secret.fetch())
        except join.NotJoined as error:
            raise NotPrepared(str(error)) from None
    if wanted is None and not secret.make:
        raise NotPrepared(
            "the secret of the cluster is missing: use --join with what `flarectl node invite` prints on the api "
            f"node's host, or --secret-file with a copy of its {units.CONFIGURATION / SECRET}"
        )
    _write_secret(target, wanted or (secrets.token_hex(SECRET_BYTES).encode(),))
    say(f"{target} {'has the secret of the cluster' if wanted else 'is the secret of a new cluster'}")
    return [] if secret.fetch else [target]


def _write_secret(target: Path, lines: Sequence[bytes]) -> None:
    """Write the secret durably before anything depends on it: a join token returns it only once."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as output:
            output.writelines(line + b"\n" for line in lines)
            output.flush()
            os.fsync(output.fileno())
    except BaseException:
        target.unlink()
        raise


def fill(template: str, values: dict[str, object]) -> str:
    """Return the template with these values instead of its defaults; empty ones leave the default."""
    for key, value in values.items():
        if value in ("", []):
            continue
        line = re.compile(rf'^(?:# )?{key} = ("[^"]*"|\[[^\]]*\]|\S+)', re.MULTILINE)
        text = f"{key} = {_toml(value)}"
        template, count = line.subn(lambda _, text=text: text, template, count=1)  # type: ignore[misc]  # a default argument binds it
        assert count == 1, key
    return template


def _toml(value: object) -> str:
    # JSON's strings, lists of strings and booleans are valid TOML if DEL and non-ASCII characters are not escaped.
    return json.dumps(value, ensure_ascii=False)


def _token(word: str) -> JoinToken:
    try:
        return parse_token(word)
    except ValueError as error:
        raise NotPrepared(f"--join: {error}") from None


def _beside(listen: str) -> str:
    """Return where S3 is spoken at a node that listens here; empty for the default. A mistake in it is found later."""
    try:
        return str(parse_listen(listen)._replace(port=S3_PORT)) if listen else ""
    except ValueError:
        return ""


def _name(options: InitOptions, token: JoinToken | None) -> NodeName:
    """Return the name of the new data node."""
    bound = token.node if token else ""
    if bound and options.name not in ("", bound):
        raise NotPrepared(f"this join token is for a node named {bound}, not {options.name}: leave out --name")
    try:
        return parse_node(options.name or bound or _host_name())
    except BadName as error:
        raise NotPrepared(f"--name: {error}") from None


def _url(url: str) -> Endpoint:
    try:
        return parse_url(url if "://" in url else URL + url)
    except ValueError:
        raise NotPrepared(f"--api {url}: write http://HOST:PORT, such as http://10.0.0.1:8000") from None


def _host_name() -> str:
    name = socket.gethostname().partition(".")[0]
    try:
        return parse_node(name)
    except BadName:
        raise NotPrepared(f"this host's name, {name!r}, is not a valid name of a node: give one with --name") from None


def _advertised(listen: str, apis: Sequence[Endpoint]) -> str:
    """Return the address at which the api node reaches us; empty if the address we listen on serves."""
    if not listen:
        return ""
    try:
        host, port = parse_listen(listen)
    except ValueError as error:
        raise NotPrepared(f"--listen {listen}: {error}") from None
    if host not in ("0.0.0.0", "::"):
        return ""
    for api in apis:
        try:
            family, _, _, _, place = socket.getaddrinfo(api.host, api.port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(place)  # UDP: connecting sends nothing
                return str(Address(probe.getsockname()[0], port))
        except OSError as error:
            raise NotPrepared(
                f"no route to {api}: {error.strerror}; name the address at which it reaches this host with --advertise"
            ) from None
    return ""
