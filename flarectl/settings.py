"""Settings: from the environment and from ``~/.config/flare/config.toml``, which may hold several profiles.

A profile is a whole set of settings of its own, in the table ``[profile.NAME]``; the settings at the top of the file
are for when no profile is chosen. The environment goes before the file, but a profile chosen by ``--profile`` goes
before the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from flarectl.errors import Usage, from_os

SETTINGS = {
    "endpoint": "the URL of an api node, such as http://10.0.0.1:8000",
    "access_key": "the id of an access key, which signs every call",
    "secret_key": "the secret of that access key",
    "public_endpoint": "the URL by which those reach the api node who get a link, where it is not the endpoint",
    "secret_file": "a file with the secret of the cluster, which others may not read",
    "ca_file": "certificates in PEM to trust at https:// endpoints, instead of those of this system",
}
VARIABLES = {
    "endpoint": "FLARE_ENDPOINT",
    "access_key": "FLARE_ACCESS_KEY",
    "secret_key": "FLARE_SECRET_KEY",
    "public_endpoint": "FLARE_PUBLIC_ENDPOINT",
    "secret_file": "FLARE_SECRET_FILE",
    "ca_file": "FLARE_CA_FILE",
}
PROFILE_VARIABLE = "FLARE_PROFILE"
URLS = ("endpoint", "public_endpoint")
PATHS = ("secret_file", "ca_file")
SECRET = "secret_key"
"""Never printed, and never an argument: others see those."""

_PROFILES = "profile"
_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_OF_OTHERS = 0o077

_chosen = ""


class Source(NamedTuple):
    """One place that settings come from."""

    values: Mapping[str, str]
    names: Mapping[str, str]
    """How a setting is called there, for errors."""
    is_file: bool

    def origin(self, name: str) -> str:
        return self.names.get(name, str(config_path()))


def use_profile(name: str) -> None:
    """Go by this profile from now on; empty: the one in FLARE_PROFILE, if any. Raise Usage for what cannot be a name.

    It belongs to the process, as the environment does.
    """
    global _chosen  # as the docstring says
    _chosen = check_profile(name, "--profile") if name else ""


def profile() -> str:
    """Return the name of the profile in use; empty: the top of the file. Raise Usage."""
    if _chosen:
        return _chosen
    name = _variable(PROFILE_VARIABLE)
    return check_profile(name, PROFILE_VARIABLE) if name is not None else ""


def check_profile(name: str, origin: str) -> str:
    """Return the name. Raise Usage if it cannot be one."""
    if not _PROFILE.fullmatch(name):
        raise Usage(f"{origin}: {name!r} is not a valid name of a profile: use letters, digits, '.', '_' and '-'")
    return name


def config_path() -> Path:
    """Return the path of the settings file; XDG_CONFIG_HOME is respected."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base, "flare", "config.toml")


def sources(*names: str) -> Iterator[Source]:
    """Yield where these settings may be, the first one to go by first. Raise Usage for what cannot be read.

    The file is read only when it is come to.
    """
    if _chosen:
        yield _from_file()
    yield _from_environment(names)
    if not _chosen:
        yield _from_file()


def find_setting(name: str) -> tuple[str, str] | None:
    """Return the setting and its origin; None if there is none. Raise Usage."""
    for source in sources(name):
        if name in source.values:
            return source.values[name], source.origin(name)
    return None


def _from_environment(names: tuple[str, ...]) -> Source:
    found = {name: value for name in names if (value := _variable(VARIABLES[name])) is not None}
    return Source(found, VARIABLES, is_file=False)


def _from_file() -> Source:
    return Source(read_settings(), {}, is_file=True)


def _variable(name: str) -> str | None:
    """Return a variable of the environment. Raise Usage for an empty one: it is more likely a mistake than meant."""
    value = os.environ.get(name)
    if value is not None and not value.strip():
        raise Usage(f"{name} is set in the environment, but empty; give it a value, or type: unset {name}")
    return value


def read_settings() -> dict[str, str]:
    """Return the settings in the file, of the profile in use; none without a file.

    Raise Usage if the file is not valid, the profile is not in it, or others may read the secret in it.
    """
    name, (top, profiles) = profile(), _read_file()
    if not name:
        return top
    if name not in profiles:
        known = f"there are {', '.join(sorted(profiles))}" if profiles else "there is none"
        raise Usage(
            f"{config_path()} has no profile {name!r}; {known} (flarectl --profile {name} config set … makes it)"
        )
    return profiles[name]


def list_profiles() -> list[str]:
    """Return the names of the profiles in the file. Raise Usage if it is not valid."""
    return sorted(_read_file()[1])


def write_settings(changes: Mapping[str, str]) -> Path:
    """Keep these settings, in the profile in use. Raise Usage, or Refusal if the disk refuses it."""
    return _change(lambda settings: settings.update(changes))


def forget_setting(name: str) -> Path:
    """Remove one setting. Raise as ``write_settings`` does."""
    check_setting(name)
    return _change(lambda settings: settings.pop(name, None))


def check_setting(name: str) -> None:
    """Raise Usage unless there is a setting of this name."""
    if name not in SETTINGS:
        raise Usage(f"{name!r} is not a setting; there are {', '.join(SETTINGS)}")


def _read_file() -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    path = config_path()
    try:
        with path.open("rb") as file:
            mode, content = os.fstat(file.fileno()).st_mode, file.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}, {}
    except OSError as error:
        raise from_os(error, str(path)) from None
    import tomllib

    try:
        found: dict[str, object] = tomllib.loads(content.decode())
    except ValueError as error:
        raise Usage(f"{path}: {error}") from None
    tables = found.pop(_PROFILES, {})
    if not isinstance(tables, dict):
        raise Usage(f"{path}: {_PROFILES}: write a table for each profile, [profile.NAME]")
    top = _check_table(path, "", found)
    profiles = {name: _check_table(path, f"[profile.{name}] ", table) for name, table in tables.items()}
    if mode & _OF_OTHERS and any(SECRET in table for table in (top, *profiles.values())):
        raise Usage(f"{path} holds a secret key, and others may read it: chmod go= {path}")
    return top, profiles


def _check_table(path: Path, where: str, table: object) -> dict[str, str]:
    if not isinstance(table, dict):
        raise Usage(f"{path}: {where}is not a table of settings")
    for name, value in table.items():
        if name not in SETTINGS or not isinstance(value, str):
            raise Usage(f"{path}: {where}{name}: allowed are {', '.join(SETTINGS)}, a text in quotes")
    return {name: str(value) for name, value in table.items()}


def _change(change: Callable[[dict[str, str]], object]) -> Path:
    """Replace the whole file by one with the changed settings, which only its owner may read."""
    import tomli_w

    path, name = config_path(), profile()
    top, profiles = _read_file()
    change(profiles.setdefault(name, {}) if name else top)
    content: dict[str, object] = {**top}
    if kept := {known: table for known, table in profiles.items() if table}:
        content[_PROFILES] = kept
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(tomli_w.dumps(content))
        temporary.replace(path)
    except OSError as error:
        raise from_os(error, str(path)) from None
    return path
