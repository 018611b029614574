from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from flared.config.load import load_config, parse_config
from flared.config.secret_files import read_secrets
from flared.config.settings import ApiConfig, DataConfig
from flared.config.templates import API_TEMPLATE, DATA_TEMPLATE
from flared.config.values import format_size, parse_duration, parse_listen, parse_size
from flared.errors import ConfigError
from flared.http.address import Address, Endpoint
from flared.http.tls_settings import TlsSettings

FILE = Path("/etc/flared/node.toml")
API = 'role = "api"\n'
DATA = 'role = "data"\nname = "data1"\nvolumes = ["/srv/a"]\n'


def read(text: str) -> ApiConfig | DataConfig:
    return parse_config(tomllib.loads(text), FILE)


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return list(caught.value.mistakes)


def check_mistake(text: str, *words: str) -> None:
    (mistake,) = mistakes(text)
    assert mistake.startswith(f"{FILE}: ")
    assert [word for word in words if word not in mistake] == []


def test_an_api_node_needs_only_its_role() -> None:
    config = read(API)
    assert isinstance(config, ApiConfig)
    assert config.listen == Address("127.0.0.1", 8000)
    assert config.metadata == Path("/etc/flared/meta.db")
    assert (config.memory, config.scheme, config.upload_ttl) == (96 << 20, "replica:3", 86400.0)
    assert config.multipart_ttl == 7 * 86400.0


def test_a_data_node_needs_a_name_and_volumes() -> None:
    config = read(DATA)
    assert isinstance(config, DataConfig)
    assert config.listen == Address("127.0.0.1", 9000)
    assert config.advertise == Endpoint("127.0.0.1", 9000)
    assert config.volumes == (Path("/srv/a"),)
    assert len(mistakes('role = "data"')) == 2


def test_tls_needs_both_files() -> None:
    assert read(API).tls is None
    config = read(API + '[tls]\ncertificate = "tls/cert.pem"\nkey = "/k.pem"\nplain = "local"\n')
    assert config.tls == TlsSettings(FILE.parent / "tls/cert.pem", Path("/k.pem"), "local")
    check_mistake(API + '[tls]\ncertificate = "cert.pem"\n', "tls.key", "is missing")
    assert len(mistakes(DATA + '[tls]\nplain = "refuse"\n')) == 2
    check_mistake(DATA + '[tls]\ncertificate = "c"\nkey = "k"\nplain = "no"\n', "tls.plain", "'refuse'")


def test_tls_between_nodes() -> None:
    files = '[tls]\ncertificate = "c"\nkey = "k"\nca = "ca.pem"\n'
    nodes = (
        f'api = ["https://10.0.0.1:8000", "http://10.0.0.2:8000"]\nadvertise = "https://10.0.0.3:9000"\n{DATA}{files}'
    )
    config = read(f'{nodes}client_ca = "clients.pem"\n')
    assert isinstance(config, DataConfig)
    assert config.api == (Endpoint("10.0.0.1", 8000, tls=True), Endpoint("10.0.0.2", 8000))
    assert str(config.advertise) == "https://10.0.0.3:9000"
    assert config.tls is not None
    assert (config.tls.ca, config.tls.client_ca) == (FILE.parent / "ca.pem", FILE.parent / "clients.pem")
    check_mistake(f'advertise = "https://10.0.0.3:9000"\n{DATA}', "advertise", "needs [tls]")
    check_mistake(f"{DATA}{files}node_key = 'k'\n", "tls.node_certificate", "needs tls.node_key")
    check_mistake(f'{API}{files}client_ca = "clients.pem"\n', "tls.client_ca", "is not a key of this role")
    api = read(f'{API}{files}ca_key = "ca.key"\n')
    assert isinstance(api, ApiConfig)
    assert api.ca_key == FILE.parent / "ca.key"


def test_every_mistake_is_named_at_once() -> None:
    text = DATA + 'zone = ""\nadvertize = "x:1"\nsegment_size = 1\n[storage]\ndirect = "yes"\n[log]\nlevel = "inof"\n'
    found = mistakes(text)
    assert len(found) == 5
    assert "did you mean advertise?" in "".join(found)
    assert "did you mean storage.segment_size?" in "".join(found)
    assert "did you mean 'info'?" in "".join(found)


def test_without_a_role_the_other_mistakes_are_named_all_the_same() -> None:
    found = mistakes('name = "data1"\nvolumes = ["/a"]\nzone = "a b"\n')
    assert [mistake.split(": ")[1] for mistake in found] == ["role", "zone"]


def test_mistakes_say_what_is_allowed() -> None:
    check_mistake(API + '[defaults]\nscheme = "replica:0"', "defaults.scheme", "'replica:0'", "replica:N")
    check_mistake(API + '[defaults]\nchunk_size = "1KiB"', "from 64KiB to 64MiB")
    check_mistake(API + "[limits]\nconnections = true", "from 1 to 100000")
    check_mistake(API + "[cluster]\nrepair_after = 600", "'10min'")
    check_mistake(API + 'listen = "8000"', "host:port")
    check_mistake(DATA + 'api = ["localhost:8000"]', "http://127.0.0.1:8000")
    check_mistake(DATA.replace("/srv/a", 'x", "./x'), "volumes", "twice")
    check_mistake(DATA + "[limits]\nmemory = 1", "limits.memory")


def test_names_that_a_node_may_be_called_by() -> None:
    for text in (API, DATA):
        assert read(text).hosts == ()
        assert read(text + 'hosts = ["flare.example.com", "box"]').hosts == ("flare.example.com", "box")
        for wrong in ('"box"', '["box:8000"]', '["http://box"]', '[""]', "[1]", '["*.example.com"]'):
            check_mistake(text + f"hosts = {wrong}", "hosts", "without ports")


def test_beyond_loopback_a_secret_is_a_must(tmp_path: Path) -> None:
    check_mistake(API + 'listen = "0.0.0.0:8000"', "secret_file")
    check_mistake(API + 'secret_file = "/nowhere/secret"', "cannot be read")
    for address in ("localhost:1", "127.0.0.2:1", "[::1]:1"):
        assert read(API + f'listen = "{address}"').secrets == ()
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef\n")
    secret.chmod(0o600)
    file = tmp_path / "api.toml"
    file.write_text(API + 'listen = "10.0.0.1:8000"\nsecret_file = "secret"')
    assert load_config(file).secrets == (b"0123456789abcdef",)
    (tmp_path / "secret").write_text("short\n")
    with pytest.raises(ConfigError, match="from 16 to"):
        load_config(file)


def test_a_secret_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0" * 16)
    for mode, word in ((0o644, "everybody"), (0o602, "everybody")):
        secret.chmod(mode)
        with pytest.raises(ValueError, match=word):
            read_secrets(secret)
    secret.chmod(0o640)
    assert read_secrets(secret) == (b"0" * 16,)


def test_a_credential_stands_in_for_the_file_beside_the_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tmp_path / "credentials" / "secret"
    loaded.parent.mkdir()
    loaded.write_text("from systemd 0123")
    loaded.chmod(0o400)
    file = tmp_path / "api.toml"
    file.write_text(API + 'secret_file = "secret"')
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(loaded.parent))
    assert load_config(file).secrets == (b"from systemd 0123",)
    secret = tmp_path / "secret"
    secret.write_text("from systemd 0123")
    secret.chmod(0o604)
    with pytest.raises(ConfigError, match=f"{secret} can be read by everybody"):
        load_config(file)
    secret.unlink()
    file.write_text(API + 'secret_file = "other/secret"')
    with pytest.raises(ConfigError, match="other/secret cannot be read"):
        load_config(file)
    loaded.chmod(0o600)
    loaded.write_text("-")
    file.write_text(API + 'secret_file = "secret"')
    with pytest.raises(ConfigError, match=f"{tmp_path}/secret cannot be read"):
        load_config(file)


def test_what_a_reload_brought_is_newer_than_the_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "api.toml"
    file.write_text(API + 'secret_file = "secret"')
    for place, text in (
        ("credentials", "from the start 0"),
        ("runtime", "from a reload 01"),
        (".", "from the file 01"),
    ):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "secret").write_text(text)
        (tmp_path / place / "secret").chmod(0o400)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "runtime"))
    assert load_config(file).secrets == (b"from the file 01",)  # another unit's directory, perhaps
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert load_config(file).secrets == (b"from a reload 01",)
    assert load_config(file, handed=False).secrets == (b"from the file 01",)
    (tmp_path / "runtime" / "secret").unlink()
    assert load_config(file).secrets == (b"from the start 0",)


def test_an_unreachable_address_is_not_advertised(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0" * 16)
    secret.chmod(0o600)
    check_mistake(DATA + f'listen = "0.0.0.0:9000"\nsecret_file = "{secret}"', "advertise", "0.0.0.0:9000")


def test_unreadable_files_are_one_mistake(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    for content, word in ((None, "cannot be read"), (b"\xff", "UTF-8"), (b"role = \n", "line 1")):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigError, match=word):
            load_config(file)


def test_sizes_durations_addresses() -> None:
    assert [parse_size(x) for x in (5, "5B", "1.5KiB", "2 MB", "5TiB")] == [5, 5, 1536, 2 * 10**6, 5 << 40]
    assert [parse_duration(x) for x in ("500ms", "30s", "10min", "1.5h", "30d")] == [0.5, 30, 600, 5400, 2592000]
    assert parse_listen("[::1]:80") == Address("::1", 80)
    assert str(parse_listen("[::1]:80")) == "[::1]:80"
    for size in (1, 1023, 1024, 96 << 20, 5 << 40):
        assert parse_size(format_size(size)) == size
    for wrong in ("::1:80", "x", "x:", ":80", "x:65536", "x:-1", 80):
        with pytest.raises(ValueError, match="host:port"):
            parse_listen(wrong)


@pytest.mark.parametrize(("template", "minimal"), [(API_TEMPLATE, API), (DATA_TEMPLATE, DATA)])
def test_the_starting_file_shows_the_defaults(template: str, minimal: str, tmp_path: Path) -> None:
    uncommented = re.sub(r"^# (?=[a-z_]+ = )", "", template, flags=re.MULTILINE)
    uncommented = re.sub(r"^(?:secret_file|metrics_listen).*\n", "", uncommented, flags=re.MULTILINE)
    # What it speaks beside the native face is a choice of whoever writes the file.
    chosen = re.compile(r"^(?:s3_listen|domain|file).*\n", re.MULTILINE)
    template, uncommented = chosen.sub("", template), chosen.sub("", uncommented)
    plain = read(minimal.replace("/srv/a", "/srv/flare"))
    assert read(template) == plain
    assert read(uncommented) == plain


def test_metrics_have_a_listener_of_their_own_or_none() -> None:
    for text in (API, DATA):
        assert read(text).metrics_listen is None
        assert read(text + 'metrics_listen = "0.0.0.0:8001"\n').metrics_listen == Address("0.0.0.0", 8001)
        check_mistake(text + 'metrics_listen = "8001"\n', "metrics_listen", "host:port")
        check_mistake(text + 'listen = "127.0.0.1:7"\nmetrics_listen = "127.0.0.1:7"\n', "use another port")


def test_s3_has_a_listener_of_its_own_or_none() -> None:
    config = read(API)
    assert isinstance(config, ApiConfig)
    assert (config.s3_listen, config.s3_domain, config.s3_region) == (None, "", "us-east-1")
    config = read(API + 's3_listen = "127.0.0.1:8333"\n[s3]\ndomain = "S3.Example.com"\nregion = "here"\n')
    assert isinstance(config, ApiConfig)
    assert config.s3_listen == Address("127.0.0.1", 8333)
    assert (config.s3_domain, config.s3_region) == ("s3.example.com", "here")
    check_mistake(API + 's3_listen = "0.0.0.0:8333"\n', "secret_file", "speaking S3 on 0.0.0.0:8333 needs one")
    check_mistake(API + 'listen = "127.0.0.1:7"\ns3_listen = "127.0.0.1:7"\n', "s3_listen", "use another port")
    check_mistake(API + '[s3]\ndomain = "a/b"\n', "s3.domain", "a host name")
    check_mistake(API + '[s3]\nregion = ""\n', "s3.region", "the name of a region")


def test_the_man_page_names_every_key() -> None:
    page = Path(__file__).parents[2].joinpath("man/flared.toml.5").read_text().replace("\\", "")
    for template in (API_TEMPLATE, DATA_TEMPLATE):
        for key in re.findall(r"^(?:# )?([a-z_]+) = ", template, flags=re.MULTILINE):
            assert re.search(rf"^\.B {key}$", page, flags=re.MULTILINE), key


@pytest.mark.parametrize("form", [2, 0, "1"])
def test_a_file_of_a_format_that_is_not_known_is_refused(tmp_path: Path, form: object) -> None:
    file = tmp_path / "api.toml"
    with pytest.raises(ConfigError, match=r"^\S+: format: .* this version of Flare knows format 1$"):
        parse_config({"role": "api", "format": form, "strange": 1}, file)
    assert parse_config({"role": "api", "format": 1}, file) == parse_config({"role": "api"}, file)


def test_workers_are_counted_or_one_for_each_core() -> None:
    config = read('role = "api"\nworkers = 3')
    assert isinstance(config, ApiConfig)
    assert config.workers == 3
    config = read('role = "api"\nworkers = "auto"')
    assert isinstance(config, ApiConfig)
    assert config.workers == min(64, len(os.sched_getaffinity(0)))
    check_mistake('role = "api"\nworkers = 0', "workers", "from 1 to 64", "auto")
    check_mistake('role = "api"\nworkers = 2\n[cluster]\ngarbage_grace = "5s"', "garbage_grace", "60 s")
