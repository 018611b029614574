"""Units: the drop-ins that tell systemd about a node, made from the node's TOML file.

The template units are ``flared@.service`` and ``flared@.socket``; ``flared@data`` runs ``/etc/flare/data.toml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from flared.config.settings import ApiConfig, Config
from flared.http.address import resolve

CONFIGURATION = Path("/etc/flare")
"""systemd runs the nodes whose TOML file is here."""
DROP_INS = Path("/etc/systemd/system")

_INSTANCE = re.compile(r"[A-Za-z0-9_.-]+")
_HEAD = "# Made from {file} by flared; `flared prepare {file}` makes it anew.\n"


def is_service(file: Path) -> bool:
    """Return whether systemd runs the node of this TOML file."""
    return file.absolute().parent == CONFIGURATION


def check_name(file: Path) -> None:
    """Raise ValueError if the file's name is not valid for a unit."""
    if file.suffix != ".toml" or not _INSTANCE.fullmatch(file.stem):
        raise ValueError(f"{file}: the file of a node of systemd must be NAME.toml, with NAME of A-Za-z0-9_.-")


def drop_ins(config: Config, file: Path) -> dict[Path, str]:
    """Return the node's drop-ins and their content. Raise OSError if the address to listen on does not resolve."""
    head = _HEAD.format(file=file)
    unit = DROP_INS / f"flared@{file.stem}"
    paths = " ".join(quote(path) for path in storage(config))
    writable = " ".join(quote(path, optional=True) for path in storage(config))
    streams = "".join(f"ListenStream={address}\n" for address in sorted(resolve(config.listen)))
    return {
        Path(f"{unit}.service.d/storage.conf"): (
            f"{head}[Unit]\nRequiresMountsFor={paths}\n\n[Service]\nReadWritePaths={writable}\n"
        ),
        Path(f"{unit}.socket.d/listen.conf"): f"{head}[Socket]\nListenStream=\n{streams}",
    }


def storage(config: Config) -> Sequence[Path]:
    """Return the directories that the node writes into."""
    return (config.metadata.parent,) if isinstance(config, ApiConfig) else config.volumes


def stale(wanted: Mapping[Path, str]) -> list[str]:
    """Return a sentence for each drop-in that is missing or has other content than it should."""
    mistakes = []
    for path, content in wanted.items():
        try:
            found = path.read_text("utf-8")
        except OSError:
            mistakes.append(f"{path} is missing")
            continue
        if lines_of(found) != lines_of(content):
            mistakes.append(f"{path} has other settings: {', '.join(lines_of(found))}")
    return mistakes


def lines_of(content: str) -> list[str]:
    """Return the settings of a drop-in, without comments and sections."""
    lines = (line.strip() for line in content.splitlines())
    return [line for line in lines if "=" in line and line[0] not in "#;" and not line.endswith("=")]


def quote(path: Path, *, optional: bool = False) -> str:
    """Return the path as a word of a unit file; ``optional``: the unit starts also without it."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{"-" if optional else ""}{text}"'
