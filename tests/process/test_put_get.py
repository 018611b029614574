"""The README's first steps: put and get with curl alone, and with flarectl."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.bodies import body
from tests.support.daemons import API, Cluster
from tests.support.flarectl import flarectl

MIB = 1024 * 1024
SIZES = (0, 1, 4096, 256 * 1024 + 1, 17 * MIB + 3)

needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")


def curl(cluster: Cluster, *arguments: str) -> str:
    command = ["curl", "-sS", "--path-as-is", *arguments]
    url = f"http://127.0.0.1:{cluster.daemons[API].port}"
    done = subprocess.run(
        [word.replace("URL", url) for word in command], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@needs_curl
@pytest.mark.parametrize("size", SIZES)
def test_curl_gets_back_what_it_put(shared: Cluster, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "file", tmp_path / "out"
    source.write_bytes(body(f"curl {size}", size))
    put = json.loads(curl(shared, "-f", "-X", "PUT", "--data-binary", f"@{source}", f"URL/object/my-object-{size}"))
    assert put["size"] == size
    curl(shared, "-f", "-o", str(target), f"URL/object/my-object-{size}")
    assert target.read_bytes() == source.read_bytes()


@needs_curl
def test_curl_uploads_a_form(shared: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "a picture.jpg"
    source.write_bytes(body("form", MIB))
    curl(shared, "-f", "-F", f"file=@{source}", "URL/object/named")
    curl(shared, "-f", "-F", f"file=@{source}", "URL/object/")
    for key in ("named", "a%20picture.jpg"):
        curl(shared, "-f", "-o", str(tmp_path / "out"), f"URL/object/{key}")
        assert (tmp_path / "out").read_bytes() == source.read_bytes()


@needs_curl
def test_curl_streams_a_body_of_unknown_length(shared: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(body("chunked", 9 * MIB))
    chunked = ("-H", "Transfer-Encoding: chunked", "-T", str(source))
    curl(shared, "-f", *chunked, "URL/object/streamed")
    curl(shared, "-f", "-o", str(tmp_path / "out"), "URL/object/streamed")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("size", SIZES)
def test_flarectl_gets_back_what_it_put(shared: Cluster, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "file", tmp_path / "out"
    source.write_bytes(body(f"flarectl {size}", size))
    port = shared.daemons[API].port
    flarectl(port, "put", str(source), f"by-flarectl-{size}")
    flarectl(port, "get", f"by-flarectl-{size}", str(target))
    assert target.read_bytes() == source.read_bytes()


def test_flarectl_tells_what_is_there(shared: Cluster, tmp_path: Path) -> None:
    port = shared.daemons[API].port
    (tmp_path / "file").write_bytes(b"hello")
    flarectl(port, "put", str(tmp_path / "file"), "stored/hello")
    assert "stored/hello" in flarectl(port, "ls", "stored/")
    assert flarectl(port, "cat", "stored/hello") == "hello"
    assert json.loads(flarectl(port, "status", "--json"))["health"] == "ok"
    flarectl(port, "rm", "stored/hello")
    flarectl(port, "ls", "stored/", code=4)
