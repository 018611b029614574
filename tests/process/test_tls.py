"""TLS at the ports of real nodes: beside plain HTTP, instead of it, and with a certificate that is renewed."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.process.test_reload import reload
from tests.support.bodies import body
from tests.support.certificates import OTHER_CERTIFICATE, OTHER_KEY, trusting, write_certificate
from tests.support.client import Client
from tests.support.daemons import API
from tests.support.flarectl import flarectl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemons import Start

SIZES = (0, 1, 4096, 70_000, 5_000_000)


def test_objects_go_in_by_one_way_and_come_out_by_the_other(start: Start, directory: Path) -> None:
    certificate, key = write_certificate(directory)
    cluster = start(nodes=2, scheme="replica:2", api={"tls": {"certificate": str(certificate), "key": str(key)}})
    covered, plain = Client(cluster.daemons[API].port, context=trusting()), cluster.client()
    for size in SIZES:
        for there, back in ((covered, plain), (plain, covered)):
            content = body(f"{size}", size)
            assert there.put("key", content).status in (200, 201)
            assert back.get("key").body == content
    covered.close()


def test_flarectl_over_tls(start: Start, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = write_certificate(directory)
    cluster = start(api={"tls": {"certificate": str(certificate), "key": str(key)}})
    endpoint = f"https://localhost:{cluster.daemons[API].port}"
    file, back = directory / "file", directory / "back"
    file.write_bytes(body("file", 20_000_000))

    def call(*arguments: str, code: int = 0) -> str:
        return flarectl(0, "--endpoint", endpoint, *arguments, code=code)

    for arguments in (("put", str(file)), ("ls",)):
        call(*arguments, code=6)
    monkeypatch.setenv("FLARE_CA_FILE", str(certificate))
    call("put", str(file))
    assert "file" in call("ls")
    call("get", "file", str(back))
    assert back.read_bytes() == file.read_bytes()


def test_a_renewed_certificate_is_taken_over_and_a_bad_one_is_not(start: Start, directory: Path) -> None:
    certificate, key = write_certificate(directory)
    cluster = start(api={"tls": {"certificate": str(certificate), "key": str(key)}})
    api = cluster.daemons[API]
    open_before = Client(api.port, context=trusting())
    assert open_before.put("a", b"1").status == 201
    write_certificate(directory, OTHER_CERTIFICATE, OTHER_KEY)
    assert "event=node_reloaded" in reload(cluster, api)
    assert Client(api.port, context=trusting(OTHER_CERTIFICATE)).get("a").body == b"1"
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(api.port, context=trusting()).get("a")
    assert open_before.get("a").body == b"1"
    key.write_text("nothing")
    assert "event=reload_refused" in reload(cluster, api)
    assert Client(api.port, context=trusting(OTHER_CERTIFICATE)).get("a").body == b"1"


def test_this_machine_may_do_without_where_others_may_not(start: Start, directory: Path) -> None:
    certificate, key = write_certificate(directory)
    files = {"certificate": str(certificate), "key": str(key)}
    cluster = start(api={"tls": {**files, "plain": "local"}}, data={"tls": {**files, "plain": "local"}})
    assert cluster.client().put("a", b"1").status == 201
    data = cluster.daemons[cluster.data_names()[0]]
    assert Client(data.port, context=trusting()).call("GET", "/healthz").status == 200


def test_a_node_does_not_start_with_a_key_that_is_not_the_certificates(start: Start, directory: Path) -> None:
    cluster = start()
    assert cluster.terminate(API) == 0
    certificate, key = write_certificate(directory, key=OTHER_KEY)
    config = cluster.daemons[API].config
    config.write_text(config.read_text() + f'\n[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
    cluster.launch(API)
    process = cluster.daemons[API].process
    assert process is not None
    assert process.wait(30) == 1
    assert "are not a certificate in PEM and its key: key values mismatch" in cluster.log_tail(API)
