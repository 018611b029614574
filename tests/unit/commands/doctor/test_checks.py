"""Each finding of a host, and its absence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flared.commands.doctor.checks import CHECKS
from flared.commands.doctor.facts import Access, Certificate, HostFacts, Mount, NodeFacts, Package, Place, Unit
from flared.findings import Finding, Severity, diagnose, summary, worst

GIB = 1024**3
ETC = Path("/etc/flare")
DISK = Mount("/srv", "ext4", frozenset({"rw", "noatime"}))
VOLUME = Place(
    Path("/srv/a"), ETC / "data.toml", is_volume=True, mount=DISK, device="/dev/sda", capacity=100 * GIB,
    free=50 * GIB, reserve=GIB, inodes=10**6, inodes_free=10**6, sync_seconds=0.001,
)  # fmt: skip
OTHER = replace(VOLUME, path=Path("/srv/b"), device="/dev/sdb")
METADATA = replace(VOLUME, path=Path("/var/lib/flare/api"), file=ETC / "api.toml", is_volume=False)
SECRET = Access(ETC / "secret", 0o600, "root", "root")
TOML = Access(ETC / "data.toml", 0o640, "root", "flare")
UNIT = Unit("flared@data.service", "active", "success", "enabled", 0)
DATA = NodeFacts(ETC / "data.toml", is_service=True, places=(VOLUME, OTHER), access=TOML, secret=SECRET, unit=UNIT)
CERTIFICATE = Certificate(
    ETC / "tls/data.pem", ETC / "data.toml", days_left=300.0, names=("data1", "h1.example"),
    host_names=("h1.example",), node_name="data1", is_own=True,
    keys=(Access(ETC / "tls/data.key", 0o640, "root", "flare"),),
)  # fmt: skip
DATA = replace(DATA, certificates=(CERTIFICATE,))
API = replace(DATA, file=ETC / "api.toml", places=(METADATA,), has_metadata=True)
PACKAGES = (Package("flared", "0.2-1", "ii"), Package("python3-flare", "0.2-1", "ii"))
WELL = HostFacts(
    (API, DATA),
    directory=Access(ETC, 0o750, "root", "flare"),
    packages=PACKAGES,
    clock_synchronised=True,
    newest_backup_seconds=3600.0,
)
OK, WARNING, CRITICAL = Severity


def data(**change: object) -> HostFacts:
    return replace(WELL, nodes=(API, replace(DATA, **change)))  # type: ignore[arg-type]


def place(**change: object) -> HostFacts:
    return data(places=(replace(VOLUME, **change), OTHER))  # type: ignore[arg-type]


def mount(kind: str = "ext4", *options: str) -> HostFacts:
    return place(mount=Mount("/srv/a", kind, frozenset(options)))


def unit(**change: object) -> HostFacts:
    return data(unit=replace(UNIT, **change))  # type: ignore[arg-type]


def certificate(**change: object) -> HostFacts:
    return data(certificates=(replace(CERTIFICATE, **change),))  # type: ignore[arg-type]


def troubles(host: HostFacts) -> list[Finding]:
    return [finding for finding in diagnose(CHECKS, host) if finding.severity]


def test_a_sound_host_has_every_check_well() -> None:
    findings = diagnose(CHECKS, WELL)
    assert [finding.code for finding in findings] == [check.code for check in CHECKS]
    assert worst(findings) is OK


def test_a_certificate_with_a_wildcard_names_the_host_below_it() -> None:
    assert not troubles(certificate(node_name="", names=("*.example",), is_own=False))


@pytest.mark.parametrize(
    ("code", "severity", "word", "host"),
    [
        ("F101", WARNING, "no TOML file", replace(WELL, nodes=(), directory=None)),
        ("F101", WARNING, "user jo cannot see", replace(WELL, nodes=(), directory=None, user="jo")),
        ("F102", CRITICAL, "listen", data(mistakes=["data.toml: listen: 5 is not allowed"], places=())),
        ("F102", WARNING, "as user jo", replace(data(mistakes=["x: Permission denied"], places=()), user="jo")),
        ("F103", WARNING, "listen.conf is missing", data(stale=["listen.conf is missing"])),
        ("F104", CRITICAL, "mode 0644", data(secret=replace(SECRET, mode=0o644))),
        ("F104", WARNING, "group adm", data(secret=replace(SECRET, mode=0o660, group="adm"))),
        ("F104", WARNING, "jo", data(secret=replace(SECRET, path=ETC / "other", owner="jo"))),
        ("F105", CRITICAL, "by everybody", data(access=replace(TOML, mode=0o646))),
        ("F105", CRITICAL, "cannot be read by the nodes", data(access=replace(TOML, mode=0o600))),
        ("F105", WARNING, "jo", data(access=replace(TOML, owner="jo"))),
        ("F105", CRITICAL, "cannot be read", replace(WELL, directory=Access(ETC, 0o750, "root", "root"))),
        ("F106", WARNING, "ends in 20 days", certificate(days_left=20.0)),
        ("F106", CRITICAL, "has ended", certificate(days_left=-1.0)),
        ("F106", CRITICAL, "cannot be read", certificate(mistake="x.pem cannot be read: no such file")),
        ("F106", CRITICAL, "does not name node data1", certificate(names=("h1.example",))),
        ("F106", WARNING, "none of which is a name", certificate(node_name="", names=("elsewhere",))),
        (
            "F106",
            CRITICAL,
            "mode 0644",
            certificate(keys=(Access(ETC / "tls/data.key", 0o644, "root", "flare"),)),
        ),
        ("F201", CRITICAL, "not mounted", place(unmounted=Path("/srv/a"))),
        (
            "F201",
            CRITICAL,
            "is missing",
            place(exists=False, marked=False, mount=None, device="", capacity=0, inodes=0),
        ),
        ("F201", CRITICAL, "has no volume", place(marked=False)),
        ("F201", WARNING, "may not look", place(is_hidden=True, obstacle="jo may not look")),
        ("F202", WARNING, "/srv/a and /srv/b", place(device="/dev/sdb")),
        ("F203", CRITICAL, "memory", mount("tmpfs")),
        ("F203", WARNING, "network", mount("nfs4")),
        ("F203", WARNING, "overlay", mount("overlay")),
        ("F204", CRITICAL, "read-only", mount("ext4", "ro")),
        ("F204", CRITICAL, "nobarrier", mount("ext4", "rw", "nobarrier")),
        ("F204", CRITICAL, "data=writeback", mount("ext4", "rw", "data=writeback")),
        ("F205", CRITICAL, "5.0 µs", place(sync_seconds=5e-6)),
        ("F205", WARNING, "300 ms", place(sync_seconds=0.3)),
        ("F205", WARNING, "permission denied", place(sync_seconds=None, obstacle="permission denied")),
        ("F206", CRITICAL, "is full", place(free=GIB)),
        ("F206", WARNING, "nearly full", place(free=9 * GIB)),
        ("F207", WARNING, "inodes", place(inodes_free=20_000)),
        ("F207", CRITICAL, "inodes", place(inodes_free=10)),
        ("F301", CRITICAL, "has failed (exit-code)", unit(active="failed", result="exit-code")),
        (
            "F301",
            CRITICAL,
            "cannot start: no port",
            unit(active="activating", sub="auto-restart", text="failed: no port"),
        ),
        (
            "F301",
            CRITICAL,
            "cannot start: exit-code",
            unit(active="activating", sub="auto-restart", result="exit-code"),
        ),
        ("F301", WARNING, "is starting", unit(active="activating", sub="start")),
        ("F301", WARNING, "accepts its heartbeats: answered 409", unit(text="2 pieces; not heard: answered 409")),
        ("F301", WARNING, "is inactive", unit(active="inactive")),
        ("F301", WARNING, "not after a reboot", unit(enabled="disabled")),
        ("F301", WARNING, "9 times", unit(restarts=9)),
        ("F302", WARNING, "0.1-1", replace(WELL, packages=(*PACKAGES, Package("flarectl", "0.1-1", "ii")))),
        ("F302", CRITICAL, "half installed", replace(WELL, packages=(Package("flared", "0.2-1", "iF"),))),
        ("F303", WARNING, "clock", replace(WELL, clock_synchronised=False)),
        ("F304", WARNING, "no backup", replace(WELL, newest_backup_seconds=None)),
        ("F304", WARNING, "3 days old", replace(WELL, newest_backup_seconds=3 * 86400.0)),
    ],
)
def test_what_is_wrong_is_found_and_nothing_else(code: str, severity: Severity, word: str, host: HostFacts) -> None:
    found = troubles(host)
    assert [(finding.code, finding.severity) for finding in found] == [(code, severity)]
    assert word in found[0].cause
    assert found[0].command


def test_a_read_only_volume_is_reported_once() -> None:
    host = place(mount=Mount("/srv/a", "ext4", frozenset({"ro"})), sync_seconds=None, obstacle="read-only file system")
    assert [finding.code for finding in troubles(host)] == ["F204"]


def test_what_is_in_memory_has_no_sync_to_measure() -> None:
    host = place(mount=Mount("/srv/a", "tmpfs", frozenset()), sync_seconds=1e-6)
    assert [finding.code for finding in troubles(host)] == ["F203"]


def test_a_volume_that_its_node_makes_need_not_be_there() -> None:
    assert not troubles(
        place(made_at_start=True, exists=False, marked=False, mount=None, device="", capacity=0, inodes=0)
    )


def test_nodes_that_systemd_does_not_run_need_no_backup() -> None:
    assert not troubles(HostFacts((replace(API, is_service=False, unit=None),), clock_synchronised=None))


def test_packages_that_were_removed_do_not_count() -> None:
    assert not troubles(replace(WELL, packages=(*PACKAGES, Package("flarectl", "0.1-1", "rc"))))


def test_what_was_not_looked_at_is_not_called_well() -> None:
    assert [finding.code for finding in diagnose(CHECKS, HostFacts(()))] == ["F101"]


def test_the_summary_counts() -> None:
    host = replace(WELL, nodes=(API,), clock_synchronised=False, newest_backup_seconds=None)
    assert summary(diagnose(CHECKS, host)).startswith("2 warnings, ")
