"""Gather the facts of this host. Read-only, except for an unlinked file that measures syncs.

Facts that cannot be found out are left out: doctor must work on a host that does not.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import stat
import statistics
import subprocess
import tempfile
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flared.access.certificates import is_signed_by, read_certificate
from flared.commands import units
from flared.commands.certificates import LOOPBACK_NAMES, names_of
from flared.commands.doctor.facts import Access, Certificate, HostFacts, Mount, NodeFacts, Package, Place, Unit
from flared.commands.init import STATE
from flared.commands.prepare import MOUNTS, find_unmounted, unescape
from flared.config.load import load_config
from flared.config.settings import ApiConfig, Config, DataConfig
from flared.data.disk.real_disk import RealDisk
from flared.data.disk.space import find_reserve
from flared.data.volume.identity import require_volume
from flared.errors import ConfigError, FlareError

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKUPS = STATE / "backup"
PACKAGES = ("python3-flare", "flared", "flarectl")
SYSTEMD = Path("/run/systemd/system")
SYNCS = 9
BLOCK = b"\0" * 4096
PROGRAM_SECONDS = 10.0
CLOCK_ERROR_MAX = 16_000_000
"""In microseconds; with a smaller error systemd, too, considers the clock synchronised."""


def gather(files: Sequence[Path]) -> HostFacts:
    """Return the facts of the nodes of these TOML files, and of the host."""
    return HostFacts(
        nodes=[_node(file) for file in files],
        user=_user(os.geteuid()),
        directory=_access(units.CONFIGURATION) if any(map(units.is_service, files)) else None,
        packages=parse_packages(
            _ask("dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev} ${Version}\n", *PACKAGES)
        ),
        clock_synchronised=_clock_synchronised(),
        newest_backup_seconds=_newest_backup(),
    )


def default_files() -> list[Path]:
    """Return the TOML files of the nodes that systemd runs."""
    try:
        return sorted(units.CONFIGURATION.glob("*.toml"))
    except OSError:
        return []


def _node(file: Path) -> NodeFacts:
    is_service = units.is_service(file)
    access = _access(file)
    unit = _unit(f"flared@{file.stem}.service") if is_service and SYSTEMD.is_dir() else None
    secret = _secret(file)
    try:
        config = load_config(file)
    except ConfigError as error:
        mistakes = str(error).splitlines()
        return NodeFacts(file, mistakes=mistakes, is_service=is_service, access=access, secret=secret, unit=unit)
    return NodeFacts(
        file,
        is_service=is_service,
        stale=_stale(config, file) if is_service else (),
        places=[_place(path, file, config) for path in units.storage(config)],
        has_metadata=isinstance(config, ApiConfig),
        access=access,
        secret=secret,
        certificates=_certificates(config, file),
        unit=unit,
    )


def _certificates(config: Config, file: Path) -> list[Certificate]:
    tls = config.tls
    if tls is None:
        return []
    pairs = [(tls.certificate, tls.key)]
    if tls.node_certificate is not None and tls.node_key is not None:
        pairs.append((tls.node_certificate, tls.node_key))
    called = isinstance(config, DataConfig) and config.advertise.tls
    authority = (config.ca_key,) if isinstance(config, ApiConfig) and config.ca_key is not None else ()
    ours = tuple(name for name in names_of(config) if name not in LOOPBACK_NAMES)
    found = []
    for certificate, key in pairs:
        keys = tuple(filter(None, map(_access, (key, *authority))))
        one = Certificate(certificate, file, host_names=ours, node_name=config.name if called else "", keys=keys)
        try:
            content = certificate.read_bytes()
            facts = read_certificate(content)
            own = tls.ca is not None and is_signed_by(content, tls.ca.read_bytes())
        except OSError as error:
            found.append(replace(one, mistake=f"{error.filename} cannot be read: {error.strerror}"))
        except ValueError:
            found.append(replace(one, mistake=f"{certificate} is not a certificate in PEM"))
        else:
            found.append(replace(one, days_left=facts.days_left(time.time()), names=facts.names, is_own=own))
    return found


def _stale(config: Config, file: Path) -> list[str]:
    try:
        return units.stale(units.drop_ins(config, file))
    except OSError as error:
        return [f"its address cannot be found: {error.strerror}"]


def _place(path: Path, file: Path, config: Config) -> Place:
    place = Place(path, file, is_volume=False, unmounted=find_unmounted(path))
    if isinstance(config, DataConfig):
        place = replace(place, is_volume=True, made_at_start=config.new_volumes)
    if place.unmounted:
        return place  # the directory is on another file system than the volume's: do not measure or report that one
    try:
        seen, space = path.stat(), os.statvfs(path)
        marked = not place.is_volume or bool(_is_volume(path))
    except FileNotFoundError:
        return replace(place, exists=False, marked=False)
    except OSError as error:
        return replace(place, is_hidden=True, obstacle=f"{_user(os.geteuid())} may not look: {error.strerror}")
    sync_seconds, obstacle = _measure(path)
    capacity = space.f_blocks * space.f_frsize
    return replace(
        place,
        marked=marked,
        mount=find_mount(_read(MOUNTS), path.resolve()),
        device=_disk(seen.st_dev),
        capacity=capacity,
        reserve=find_reserve(config.reserve, capacity) if isinstance(config, DataConfig) else 0,
        free=space.f_bavail * space.f_frsize,
        inodes=space.f_files,
        inodes_free=space.f_favail,
        sync_seconds=sync_seconds,
        obstacle=obstacle,
    )


def _is_volume(path: Path) -> bool:
    os.listdir(path)  # raises without permission, so that the directory does not seem empty
    try:
        require_volume(RealDisk(), str(path))
    except FlareError:
        return False
    return True


def _measure(directory: Path) -> tuple[float | None, str]:
    """Return the median time of some syncs in this directory, or why there is none."""
    times = []
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            for _ in range(SYNCS):
                file.write(BLOCK)
                started = time.perf_counter()
                os.fdatasync(file.fileno())
                times.append(time.perf_counter() - started)
    except OSError as error:
        return None, (error.strerror or "it fails").lower()
    return statistics.median(times), ""


def find_mount(table: str, path: Path) -> Mount | None:
    """Return the mount that a path is on, from the text of /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    found: Mount | None = None
    for line in table.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if len(before) < 6 or len(after) < 3:
            continue
        point = unescape(before[4])
        if not path.is_relative_to(point):
            continue
        if found is None or len(Path(point).parts) >= len(Path(found.point).parts):  # a later mount covers an earlier
            found = Mount(point, after[0], frozenset([*before[5].split(","), *after[2].split(",")]))
    return found


def _disk(device: int) -> str:
    """Return the disk of a device, such as ``/dev/sda`` for its first partition; else the device's number."""
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    try:
        place = place.resolve(strict=True)
    except OSError:
        return f"device {os.major(device)}:{os.minor(device)}"
    return f"/dev/{(place.parent if (place / 'partition').exists() else place).name}"


def _access(path: Path) -> Access | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    try:
        group = grp.getgrgid(seen.st_gid).gr_name
    except KeyError:
        group = str(seen.st_gid)
    return Access(path, stat.S_IMODE(seen.st_mode), _user(seen.st_uid), group)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _secret(file: Path) -> Access | None:
    """Return the permissions of the secret that the TOML file names, even if the TOML file has mistakes."""
    try:
        name: object = tomllib.loads(_read(file)).get("secret_file")
    except tomllib.TOMLDecodeError:
        return None
    return _access(file.absolute().parent / name) if isinstance(name, str) else None


def _unit(name: str) -> Unit | None:
    answer = _ask("systemctl", "show", name, "-p", "ActiveState,SubState,Result,UnitFileState,NRestarts,StatusText")
    return parse_unit(name, answer) if answer else None


def parse_unit(name: str, answer: str) -> Unit:
    """Parse the output of ``systemctl show``; fields that it omits are empty."""
    fields = dict(line.partition("=")[::2] for line in answer.splitlines())
    restarts = fields.get("NRestarts", "")
    return Unit(
        name,
        active=fields.get("ActiveState", ""),
        result=fields.get("Result", ""),
        enabled=fields.get("UnitFileState", ""),
        restarts=int(restarts) if restarts.isdecimal() else 0,
        sub=fields.get("SubState", ""),
        text=fields.get("StatusText", ""),
    )


def parse_packages(answer: str) -> list[Package]:
    """Parse lines of name, abbreviated status and version; a package that is not installed has no version."""
    rows = [line.split() for line in answer.splitlines()]
    return [Package(row[0], row[2], row[1]) for row in rows if len(row) == 3]


def _clock_synchronised() -> bool | None:
    """Return whether the clock is synchronised, as ``timedatectl`` does; None if this machine does not report it."""
    words = (ctypes.c_long * 64)()  # struct timex is smaller; modes = 0 only reads (adjtimex(2))
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(words)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return bool(words[3] < CLOCK_ERROR_MAX)  # modes, offset, freq, maxerror


def _newest_backup() -> float | None:
    try:
        times = [path.stat().st_mtime for path in BACKUPS.rglob("*.db")]
    except OSError:
        return None
    return max(0.0, time.time() - max(times)) if times else None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def _ask(*command: str) -> str:
    """Return a program's output with any exit code; empty if the program is missing or does not answer."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=PROGRAM_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")
