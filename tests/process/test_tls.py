"""TLS at the ports of real nodes: beside plain HTTP, instead of it, and with a certificate that is renewed."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tests.process.test_reload import Askers, reload
from tests.support.bodies import body
from tests.support.certificates import OTHER_CERTIFICATE, OTHER_KEY, OwnAuthority, trusting, write_certificate
from tests.support.client import Client
from tests.support.daemons import API
from tests.support.flarectl import flarectl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemons import Cluster, Start

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


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cluster_that_runs_moves_to_mutual_tls_node_by_node(start: Start, directory: Path, workers: int) -> None:
    """As docs/operations.md describes: first the api node takes both, then one data node after the other changes over,
    then nothing without TLS is taken. No request is refused in between."""
    cluster = start(nodes=3, scheme="replica:2", api={"workers": workers})
    own, port = OwnAuthority(directory), cluster.daemons[API].port
    for name in cluster.data_names():  # health is ok with two of them
        cluster.wait_until(lambda name=name: state_of(cluster.client(), name) == "online", f"{name} is not there")  # type: ignore[misc]
    with Askers(cluster) as askers:
        cluster.change(API, {"tls": own.write(API)})
        assert "changed=tls" in reload(cluster, cluster.daemons[API])
        for name in cluster.data_names():
            tls = own.write(name, ("127.0.0.1",)) | {"client_ca": str(own.ca)}
            urls = {
                "api": [f"https://127.0.0.1:{port}"],
                "advertise": f"https://127.0.0.1:{cluster.daemons[name].port}",
            }
            cluster.change(name, {**urls, "tls": tls})
            assert cluster.terminate(name) == 0
            cluster.launch(name)
            cluster.wait_until(
                lambda name=name: address_of(cluster, name).startswith("https://"), f"{name} is not back"
            )  # type: ignore[misc]
            cluster.wait_ready()
        for name in cluster.data_names():
            cluster.change(name, {"tls": {"plain": "refuse"}})
            assert "event=node_reloaded" in reload(cluster, cluster.daemons[name])
    assert askers.refused == []
    assert askers.answered > 0
    cluster.change(API, {"tls": {"plain": "refuse"}})
    assert "event=node_reloaded" in reload(cluster, cluster.daemons[API])
    client = Client(port, context=own.trusting())
    assert client.put("after", b"all of it").status == 201
    assert client.get("after").body == b"all of it"
    assert Client(port).get("after").status == 400
    data = cluster.daemons["data1"]
    assert b"TlsRequired" in Client(data.port).call("GET", "/healthz").body
    with pytest.raises(ssl.SSLError):  # it shows no certificate
        Client(data.port, context=own.trusting()).call("GET", "/healthz")
    cluster.kill("data2")
    assert client.put("still", b"a node less").status == 201
    cluster.launch("data2")
    cluster.wait_until(lambda: state_of(client, "data2") == "online", "data2 does not come back over TLS")


def test_a_data_node_with_a_certificate_of_another_name_is_not_called(start: Start, directory: Path) -> None:
    own = OwnAuthority(directory)
    cluster = start(api={"tls": own.write(API)})
    cluster.change(
        "data1", {"tls": own.write("data2"), "advertise": f"https://127.0.0.1:{cluster.daemons['data1'].port}"}
    )
    assert cluster.terminate("data1") == 0
    cluster.launch("data1")
    cluster.wait_until(lambda: "not valid for 'data1'" in cluster.log_tail(API), "the wrong name is not refused")


def address_of(cluster: Cluster, name: str) -> str:
    return str(node_of(cluster.client(), name).get("address"))


def state_of(client: Client, name: str) -> str:
    return str(node_of(client, name).get("state"))


def node_of(client: Client, name: str) -> dict[str, object]:
    nodes = client.call("GET", "/status").json()["nodes"]
    assert isinstance(nodes, list)
    return next((node for node in nodes if node["name"] == name), {})
