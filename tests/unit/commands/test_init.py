"""``flared init`` and ``flared prepare``: what is written is what starts, and nothing is overwritten or guessed."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from flared.__main__ import main
from flared.commands import prepare, units
from flared.config.load import load_config
from flared.config.settings import ApiConfig, DataConfig

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with the package: /etc/flare, systemd's directory, no user of ours, no fstab."""
    configuration = tmp_path / "flare"
    configuration.mkdir()
    monkeypatch.setattr(units, "CONFIGURATION", configuration)
    monkeypatch.setattr(units, "DROP_INS", tmp_path / "system")
    monkeypatch.setattr("flared.commands.init.STATE", tmp_path / "state")
    monkeypatch.setattr(prepare, "FSTAB", tmp_path / "fstab")
    monkeypatch.setattr(prepare, "USER", "nobody-of-this-name")
    monkeypatch.setattr(prepare.subprocess, "run", lambda *_, **__: None)
    return configuration


def settings(etc: Path, unit: str) -> list[str]:
    (drop_in,) = (etc.parent / "system" / f"flared@{unit}.d").iterdir()
    return units.lines_of(drop_in.read_text())


def test_a_host_with_both_roles_needs_no_argument(etc: Path) -> None:
    volume = etc.parent / "disk"
    assert main(["init", "api"]) == 0
    assert main(["init", "data", "--name", "d1", "--volume", str(volume)]) == 0
    api, data = load_config(etc / "api.toml"), load_config(etc / "data.toml")
    assert isinstance(api, ApiConfig)
    assert isinstance(data, DataConfig)
    assert api.secrets == data.secrets
    assert len(api.secrets) == 1
    assert stat.S_IMODE((etc / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((etc / "api.toml").stat().st_mode) == 0o640
    assert (api.anonymous, data.name, data.volumes, data.new_volumes) == ("none", "d1", (volume,), False)
    assert (volume / "volume.toml").exists()
    assert settings(etc, "api.socket") == ["ListenStream=127.0.0.1:8000"]
    assert settings(etc, "data.service") == [f'RequiresMountsFor="{volume}"', f'ReadWritePaths="-{volume}"']
    assert settings(etc, "api.service") == [
        f'RequiresMountsFor="{etc.parent}/state/api"',
        f'ReadWritePaths="-{etc.parent}/state/api"',
    ]
    for name in ("api", "data"):
        assert main(["check-config", str(etc / f"{name}.toml")]) == 0
        assert main(["init", name]) == 1


def test_a_host_joins_with_the_secret_it_was_given(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = etc.parent / "given"
    arguments = ["init", "data", "--name", "d1", "--api", "http://192.0.2.1:8000", "--advertise", "192.0.2.7:9000"]
    arguments += ["--volume", str(etc.parent / "disk")]
    assert main(arguments) == 1
    assert "--secret-file" in capsys.readouterr().err
    given.write_text("0123456789abcdef0123456789abcdef\n")
    given.chmod(0o644)
    assert main([*arguments, "--secret-file", str(given)]) == 1
    assert "everybody" in capsys.readouterr().err
    given.chmod(0o600)
    assert main([*arguments, "--secret-file", str(given)]) == 0
    config = load_config(etc / "data.toml")
    assert isinstance(config, DataConfig)
    assert config.secrets == (b"0123456789abcdef0123456789abcdef",)
    assert (str(config.listen), str(config.advertise)) == ("0.0.0.0:9000", "192.0.2.7:9000")
    assert [str(api) for api in config.api] == ["192.0.2.1:8000"]
    given.write_text("another cluster's secret\n")
    assert main(["init", "api", "--secret-file", str(given)]) == 1
    assert "another secret" in capsys.readouterr().err


def test_what_cannot_be_is_refused_and_nothing_is_left(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (etc.parent / "full").mkdir()
    (etc.parent / "full" / "letters").touch()
    for arguments, word in (
        (["data", "--volume", str(etc.parent / "full")], "not empty"),
        (["data", "--api", "ftp://x"], "http://HOST:PORT"),
        (["data", "--name", "a b"], "name"),
        (["api", "--listen", "8000"], "host:port"),
        (["api", "--anonymous", "some"], "read-write"),
        (["api", str(etc / "api")], "NAME.toml"),
    ):
        assert main(["init", *arguments]) > 0
        assert word in capsys.readouterr().err
        assert list(etc.iterdir()) == []


def test_a_disk_that_is_not_mounted_does_not_become_a_volume(
    etc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, mounts = etc.parent / "disk 1", etc.parent / "mountinfo"
    monkeypatch.setattr(prepare, "MOUNTS", mounts)
    written = str(disk).replace(" ", "\\040")
    (etc.parent / "fstab").write_text(f"# the disks\nUUID=1 / ext4\nUUID=2 {written} ext4 defaults 0 2\n")
    disk.mkdir()
    arguments = ["init", "data", "--name", "d1", "--volume", str(disk / "flare")]
    assert main(arguments) == 1
    assert "not mounted" in capsys.readouterr().err
    assert list(disk.iterdir()) == []
    mounts.write_text(f"36 35 98:0 / {written} rw,noatime - ext4 /dev/sda rw\n")
    assert main(arguments) == 0


def test_a_missing_volume_is_created_only_on_request(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk, file = etc.parent / "disk", str(etc / "data.toml")
    assert main(["init", "data", "--name", "d1", "--volume", str(disk)]) == 0
    (disk / "volume.toml").unlink()
    assert main(["prepare", file]) == 1
    assert "mount its disk" in capsys.readouterr().err
    assert main(["prepare", file, "--new", str(disk)]) == 0
    assert (disk / "volume.toml").exists()
    assert main(["prepare", file]) == 0


def test_a_disk_of_another_node_or_cluster_is_refused(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, file = etc.parent / "disk1", etc.parent / "disk2", str(etc / "data.toml")
    assert main(["init", "data", "--name", "d1", "--volume", str(first), "--volume", str(second)]) == 0
    mark = (second / "volume.toml").read_text()
    (second / "volume.toml").write_text(mark.replace('"d1"', '"d9"'))
    assert main(["prepare", file]) == 2
    assert f"{second}: this volume belongs to node 'd9', not to 'd1': remove the" in capsys.readouterr().err
    (second / "volume.toml").write_text(mark)
    for disk, cluster in ((first, "one"), (second, "two")):
        content = (disk / "volume.toml").read_text()
        (disk / "volume.toml").write_text(content.replace('cluster = ""', f'cluster = "{cluster}"'))
    assert main(["prepare", file]) == 2
    assert f"different clusters, {first} to one, {second} to two: remove the" in capsys.readouterr().err
    (second / "volume.toml").write_text(mark)
    assert main(["prepare", file]) == 0


def test_a_copy_of_a_volume_beside_it_is_refused(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, file = etc.parent / "disk1", etc.parent / "disk2", str(etc / "data.toml")
    assert main(["init", "data", "--name", "d1", "--volume", str(first), "--volume", str(second)]) == 0
    (second / "volume.toml").write_text((first / "volume.toml").read_text())
    assert main(["prepare", file]) == 2
    assert f"{first} and {second} hold one volume" in capsys.readouterr().err


def test_units_that_say_something_else_are_a_mistake(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = etc / "api.toml"
    assert main(["init", "api"]) == 0
    file.write_text(file.read_text().replace('# listen = "127.0.0.1:8000"', 'listen = "127.0.0.1:8001"'))
    assert main(["check-config", str(file)]) == 2
    assert "listen.conf has other settings: ListenStream=127.0.0.1:8000" in capsys.readouterr().err
    assert main(["prepare", str(file)]) == 0
    assert main(["check-config", str(file)]) == 0


def test_paths_are_one_word_of_a_unit_file(etc: Path) -> None:
    disk = etc.parent / 'a "b" 100%'
    assert main(["init", "data", "--name", "d1", "--volume", str(disk)]) == 0
    assert settings(etc, "data.service")[0] == f'RequiresMountsFor="{etc.parent}/a \\"b\\" 100%%"'


def test_a_reload_hands_the_secret_over_to_the_node(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runtime, file = etc.parent / "runtime", etc / "api.toml"
    runtime.mkdir(mode=0o700)
    assert main(["init", "api"]) == 0
    elsewhere = etc.parent / "not to be written"
    elsewhere.write_text("as it was")
    (runtime / "secret").symlink_to(elsewhere)
    (runtime / ".secret.0").symlink_to(elsewhere)
    command = ["check-config", "--hand-over", str(runtime), str(file)]
    assert main(command) == 0
    assert [path.name for path in runtime.iterdir()] == ["secret"]
    assert not (runtime / "secret").is_symlink()
    assert stat.S_IMODE((runtime / "secret").stat().st_mode) == 0o400
    assert (runtime / "secret").read_text() == (etc / "secret").read_text()
    assert elsewhere.read_text() == "as it was"

    (etc / "secret").write_text("  new-secret-0123456789\n\nold-secret-0123456789\n")
    assert main(command) == 0
    assert (runtime / "secret").read_text() == "new-secret-0123456789\nold-secret-0123456789\n"
    (etc / "secret").write_text("short\n")
    assert main(command) == 2
    assert "line 1 holds 5 bytes" in capsys.readouterr().err
    assert (runtime / "secret").read_text().startswith("new-secret")

    file.write_text(file.read_text().replace('secret_file = "secret"', '# secret_file = "secret"'))
    assert main(command) == 0
    assert list(runtime.iterdir()) == []
    runtime.rename(etc.parent / "moved")
    runtime.symlink_to(etc.parent / "moved")
    assert main(command) == 1
    assert "runtime" in capsys.readouterr().err


def test_a_secret_that_lies_elsewhere_is_not_handed_over(etc: Path) -> None:
    runtime, file = etc.parent / "runtime", etc / "api.toml"
    runtime.mkdir(mode=0o700)
    assert main(["init", "api"]) == 0
    (etc / "secret").rename(etc.parent / "secret")
    file.write_text(file.read_text().replace('secret_file = "secret"', 'secret_file = "../secret"'))
    assert main(["check-config", "--hand-over", str(runtime), str(file)]) == 0
    assert list(runtime.iterdir()) == []
