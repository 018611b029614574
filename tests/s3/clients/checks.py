"""What each client must do: multipart up and down, sync both ways with awkward names, delete, copy, pre-signed, and for
backup programs a backup that is made, pruned, restored and compared. A step that fails raises AssertionError.
"""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.s3.clients import tools
from tests.s3.clients.content import AWKWARD, PART, check_equal, write_large, write_tree
from tests.s3.clients.endpoint import Endpoint, Shell

SCRIPTS = Path(__file__).parent / "scripts"


def fetch(endpoint: Endpoint, url: str, method: str = "GET", body: bytes | None = None) -> bytes:
    """What a browser or curl does with a pre-signed URL."""
    context = ssl.create_default_context(cafile=endpoint.ca) if endpoint.ca else None
    with urllib.request.urlopen(urllib.request.Request(url, body, method=method), context=context, timeout=60) as reply:
        assert reply.status == 200
        content: bytes = reply.read()
        return content


def check_boto3(shell: Shell, bucket: str) -> None:
    shell.run(tools.PYTHON, SCRIPTS / "boto3_script.py", bucket, write_large(shell.directory / "large"))


def check_aws(shell: Shell, bucket: str) -> None:
    aws, here = tools.program("aws"), shell.directory
    # Without this `aws s3 presign` signs by version 2, which is refused.
    shell.run(aws, "configure", "set", "default.s3.signature_version", "s3v4")
    shell.run(aws, "s3", "mb", f"s3://{bucket}")
    tree, large = write_tree(here / "tree"), write_large(here / "large")
    shell.run(aws, "s3", "cp", large, f"s3://{bucket}/large")  # above 8 MiB by parts
    shell.run(aws, "s3", "cp", f"s3://{bucket}/large", here / "back")
    assert (here / "back").read_bytes() == large.read_bytes()
    shell.run(aws, "s3", "sync", tree, f"s3://{bucket}/tree")
    assert "upload" not in shell.run(aws, "s3", "sync", tree, f"s3://{bucket}/tree")
    shell.run(aws, "s3", "sync", f"s3://{bucket}/tree", here / "synced")
    check_equal(tree, here / "synced")
    shell.run(aws, "s3", "cp", f"s3://{bucket}/tree/plain.txt", f"s3://{bucket}/copied")
    url = shell.run(aws, "s3", "presign", f"s3://{bucket}/copied").strip()
    assert fetch(shell.endpoint, url) == (tree / "plain.txt").read_bytes()
    (tree / "plain.txt").unlink()
    assert "delete" in shell.run(aws, "s3", "sync", "--delete", tree, f"s3://{bucket}/tree")
    assert "plain.txt" not in shell.run(aws, "s3", "ls", "--recursive", f"s3://{bucket}/tree/")
    shell.run(aws, "s3", "rb", "--force", f"s3://{bucket}")


def check_rclone(shell: Shell, bucket: str) -> None:
    rclone, here, end = tools.program("rclone"), shell.directory, shell.endpoint
    (here / "rclone.conf").write_text(
        f"[flare]\ntype = s3\nprovider = Other\naccess_key_id = {end.key}\nsecret_access_key = {end.secret}\n"
        f"endpoint = {end.url}\nregion = {end.region}\n"
    )

    def run(*arguments: str | Path) -> str:
        ca = ("--ca-cert", end.ca) if end.ca else ()
        # Small limits, so that a body of four parts takes four.
        limits = ("--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", "--retries", "1", "--low-level-retries", "2")
        # It believes --ca-cert, and cannot cope with the variable of AWS's libraries.
        return shell.run(rclone, "--config", here / "rclone.conf", *ca, *limits, *arguments, AWS_CA_BUNDLE="")

    tree, large = write_tree(here / "tree"), write_large(here / "tree" / "large")
    run("mkdir", f"flare:{bucket}")
    run("sync", tree, f"flare:{bucket}/tree")
    run("check", "--download", tree, f"flare:{bucket}/tree")
    run("sync", f"flare:{bucket}/tree", here / "synced")
    check_equal(tree, here / "synced")
    run("copyto", f"flare:{bucket}/tree/large", f"flare:{bucket}/copied")
    assert fetch(end, run("link", f"flare:{bucket}/copied").strip()) == large.read_bytes()
    (tree / AWKWARD[1]).unlink()
    run("sync", tree, f"flare:{bucket}/tree")
    run("check", tree, f"flare:{bucket}/tree")
    run("purge", f"flare:{bucket}")


def check_restic(shell: Shell, bucket: str) -> None:
    restic, here, end = tools.program("restic"), shell.directory, shell.endpoint

    def run(*arguments: str | Path) -> str:
        ca = ("--cacert", end.ca) if end.ca else ()
        return shell.run(
            restic,
            "--no-cache",
            *ca,
            *arguments,
            RESTIC_PASSWORD="only a test",
            RESTIC_REPOSITORY=f"s3:{end.url}/{bucket}",
        )

    tree = write_tree(here / "tree")
    write_large(tree / "large")
    run("init")
    run("backup", tree)
    (tree / "plain.txt").write_bytes(b"changed")
    (tree / "large").unlink()
    run("backup", tree)
    run("forget", "--keep-last", "1", "--prune")
    run("check", "--read-data")
    run("restore", "latest", "--target", here / "restored")
    check_equal(tree, here / "restored" / tree.relative_to("/"))


def check_s3cmd(shell: Shell, bucket: str) -> None:
    s3cmd, here, end = tools.program("s3cmd"), shell.directory, shell.endpoint
    (here / "s3cfg").write_text(
        f"[default]\naccess_key = {end.key}\nsecret_key = {end.secret}\nhost_base = {end.host}\n"
        f"host_bucket = {end.host}\nbucket_location = {end.region}\nuse_https = {end.is_secure}\n"
        f"ca_certs_file = {end.ca or ''}\nmultipart_chunk_size_mb = {PART // 1024**2}\nmax_retries = 1\n"
    )

    def run(*arguments: str | Path) -> str:
        return shell.run(s3cmd, "--config", here / "s3cfg", "--no-progress", *arguments, LC_ALL="C.UTF-8")

    tree, large = write_tree(here / "tree"), write_large(here / "large")
    run("mb", f"s3://{bucket}")
    run("put", large, f"s3://{bucket}/large")
    run("get", f"s3://{bucket}/large", here / "back")
    assert (here / "back").read_bytes() == large.read_bytes()
    run("sync", f"{tree}/", f"s3://{bucket}/tree/")
    run("sync", f"s3://{bucket}/tree/", f"{here}/synced/")
    check_equal(tree, here / "synced")
    run("cp", f"s3://{bucket}/tree/plain.txt", f"s3://{bucket}/copied")
    run("del", f"s3://{bucket}/tree/plain.txt")
    assert "tree/plain.txt" not in run("ls", "--recursive", f"s3://{bucket}")
    run("del", "--recursive", "--force", f"s3://{bucket}")
    run("rb", f"s3://{bucket}")


def check_minio(shell: Shell, bucket: str) -> None:
    shell.run(tools.python("python"), SCRIPTS / "minio_script.py", bucket, write_large(shell.directory / "large"))


def check_s3fs(shell: Shell, bucket: str) -> None:
    shell.run(tools.python("s3fs"), SCRIPTS / "s3fs_script.py", bucket, write_large(shell.directory / "large"))


def check_aws_js(shell: Shell, bucket: str) -> None:
    modules, here = tools.node_modules(), shell.directory
    (here / "node_modules").symlink_to(modules)
    (here / "script.mjs").write_text((SCRIPTS / "aws_sdk.mjs").read_text())
    shell.run(tools.program("node"), here / "script.mjs", bucket, write_large(here / "large"))


def check_duplicity(shell: Shell, bucket: str) -> None:
    here, end = shell.directory, shell.endpoint
    python = tools.python("duplicity")
    modules = tools.CLIENTS / "debian" / "usr" / "lib" / "python3" / "dist-packages"
    program = tools.program("duplicity")
    library = next((tools.CLIENTS / "debian" / "usr" / "lib").glob("*-linux-gnu"))

    def run(*arguments: str | Path) -> str:
        return shell.run(
            python, program, *arguments, "--s3-endpoint-url", end.url, "--no-encryption", "--volsize", "6",
            "--archive-dir", here / "archive", PYTHONPATH=str(modules), LD_LIBRARY_PATH=str(library),
        )  # fmt: skip

    shell.run(tools.PYTHON, SCRIPTS / "make_bucket.py", bucket)
    tree = write_tree(here / "tree")
    write_large(tree / "large")
    url = f"boto3+s3://{bucket}/backup"
    run("full", tree, url)
    (tree / "plain.txt").write_bytes(b"changed")
    run("incremental", tree, url)
    run("verify", "--compare-data", url, tree)
    run("restore", url, here / "restored")
    check_equal(tree, here / "restored")
    run("full", tree, url)
    run("remove-all-but-n-full", "1", "--force", url)
    run("verify", "--compare-data", url, tree)


def check_s5cmd(shell: Shell, bucket: str) -> None:
    s5cmd, here = tools.program("s5cmd"), shell.directory

    def run(*arguments: str | Path) -> str:
        return shell.run(s5cmd, "--endpoint-url", shell.endpoint.url, *arguments)

    tree, large = write_tree(here / "tree"), write_large(here / "large")
    run("mb", f"s3://{bucket}")
    run("cp", "--part-size", "5", large, f"s3://{bucket}/large")
    run("cp", f"s3://{bucket}/large", here / "back")
    assert (here / "back").read_bytes() == large.read_bytes()
    run("sync", f"{tree}/", f"s3://{bucket}/tree/")
    run("sync", f"s3://{bucket}/tree/*", f"{here}/synced/")
    check_equal(tree, here / "synced")
    run("rm", f"s3://{bucket}/*")
    run("rb", f"s3://{bucket}")


class Client(NamedTuple):
    name: str
    check: Callable[[Shell, str], None]
    version: Callable[[], str]
    quick: bool = False


def _pip_version(environment: str, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return tools.versions([tools.python(environment), "-c", code])


def _boto3_version() -> str:
    return tools.versions([tools.PYTHON, "-c", "import boto3; print(boto3.__version__)"])


def _word(number: int, *command: str) -> Callable[[], str]:
    """One word of what a program says of its version."""
    return lambda: tools.versions([tools.program(command[0]), *command[1:]]).split()[number].rpartition("/")[2]


def _sdk_version() -> str:
    package = tools.node_modules() / "@aws-sdk/client-s3/package.json"
    return tools.versions([tools.program("node"), "-p", f"require({str(package)!r}).version"])


CLIENTS = (
    Client("boto3", check_boto3, _boto3_version, quick=True),
    Client("aws", check_aws, _word(0, "aws", "--version"), quick=True),
    Client("rclone", check_rclone, _word(-1, "rclone", "version"), quick=True),
    Client("restic", check_restic, _word(1, "restic", "version"), quick=True),
    Client("s3cmd", check_s3cmd, _word(-1, "s3cmd", "--version")),
    Client("minio-py", check_minio, lambda: _pip_version("python", "minio")),
    Client("s3fs and pyarrow", check_s3fs, lambda: _pip_version("s3fs", "s3fs")),
    Client("duplicity", check_duplicity, lambda: "0.8.22, Debian's"),
    Client("@aws-sdk/client-s3", check_aws_js, _sdk_version),
    Client("s5cmd", check_s5cmd, _word(-1, "s5cmd", "version")),
)
