from __future__ import annotations

import json
from pathlib import Path

import pytest

from flared.__main__ import main
from flared.commands import prepare
from flared.commands.doctor.facts import Mount, Package, Unit
from flared.commands.doctor.gather import find_mount, gather, parse_packages, parse_unit
from flared.findings import Finding, Severity, screen

TABLE = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
30 22 8:1 / /srv rw,noatime shared:9 master:2 - xfs /dev/sda1 rw,attr2
31 22 8:2 / /srv/my\040disk ro - ext4 /dev/sdb1 ro,data=writeback
32 30 0:40 / /srv rw - tmpfs tmpfs rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/home/x", Mount("/", "ext4", frozenset({"rw", "relatime", "errors=remount-ro"}))),
        ("/srv/my disk/v", Mount("/srv/my disk", "ext4", frozenset({"ro", "data=writeback"}))),
        ("/srv/a", Mount("/srv", "tmpfs", frozenset({"rw"}))),
        ("/srvother", Mount("/", "ext4", frozenset({"rw", "relatime", "errors=remount-ro"}))),
    ],
)
def test_a_path_lies_on_the_deepest_and_last_mount(path: str, mount: Mount) -> None:
    assert find_mount(TABLE, Path(path)) == mount


def test_without_a_table_there_is_no_mount() -> None:
    assert find_mount("", Path("/srv")) is None


def test_units_and_packages_are_read() -> None:
    answer = "Result=success\nNRestarts=2\nActiveState=active\nUnitFileState=enabled\n"
    assert parse_unit("u", answer) == Unit("u", "active", "success", "enabled", 2)
    answer = "ActiveState=activating\nSubState=auto-restart\nStatusText=failed: a = b\n"
    assert parse_unit("u", answer) == Unit("u", "activating", "", "", 0, "auto-restart", "failed: a = b")
    assert parse_unit("u", "") == Unit("u", "", "", "", 0)
    assert parse_packages("flared ii 0.1-1\nflarectl un \n") == [Package("flared", "0.1-1", "ii")]


def test_a_host_is_examined_with_any_part_missing(tmp_path: Path) -> None:
    file = tmp_path / "data.toml"
    here, gone = tmp_path / "here", tmp_path / "gone"
    here.mkdir()
    file.write_text(f'role = "data"\nname = "data1"\nvolumes = ["{here}", "{gone}"]\n')
    first, second = gather([file]).nodes[0].places
    assert first.exists
    assert first.mount
    assert first.sync_seconds
    assert not first.marked
    assert not second.exists
    assert not list(here.iterdir())


def test_what_lies_below_an_unmounted_disk_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, disk = tmp_path / "data.toml", tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "fstab").write_text(f"UUID=1 {disk} ext4 defaults,nofail 0 2\n")
    monkeypatch.setattr(prepare, "FSTAB", tmp_path / "fstab")
    file.write_text(f'role = "data"\nname = "data1"\nvolumes = ["{disk}"]\n')
    (place,) = gather([file]).nodes[0].places
    assert (place.unmounted, place.mount, place.device, place.capacity, place.sync_seconds) == (disk, None, "", 0, None)


def test_the_exit_code_is_the_severity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--config", str(tmp_path / "no.toml")]) == 2
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[0]["code"] == "F102"
    assert set(records[0]) == {"code", "severity", "cause", "command"}


def test_commands_are_never_broken() -> None:
    finding = Finding("F900", Severity.WARNING, "a word " * 30, "type " * 30)
    lines = screen([finding], 80)
    assert max(map(len, lines[:-2])) <= 80
    assert "type " * 30 in lines[-2]


def test_every_code_is_documented() -> None:
    from flared.commands.doctor.checks import CHECKS

    text = Path(__file__).parents[4].joinpath("docs/doctor.md").read_text()
    assert all(f"| {check.code} | " in text for check in CHECKS)
