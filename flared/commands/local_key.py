"""The secret and the first access key of a local cluster, so that S3 tools work at once.

The key may do everything. It stands in a file that a shell reads (``. DIR/s3.env``) and the AWS tools and SDKs go by;
the cluster keeps its secret sealed, so a file that was removed cannot be made again: the key is replaced then.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
from typing import TYPE_CHECKING

from flared.access.keys import API_AUDIENCE, authorization, node_token
from flared.http.json_body import parse_json

if TYPE_CHECKING:
    from pathlib import Path

    from flared.config.settings import ApiConfig

SECRET_FILE = "secret"
KEY_FILE = "s3.env"
KEY_NAME = "local"
TIMEOUT_SECONDS = 10.0
ANSWER_BYTES_MAX = 64 * 1024


def write_secret(directory: Path) -> None:
    """Draw the secret of a new cluster; one that is there stays."""
    path = directory / SECRET_FILE
    if not path.exists():
        _write_private(path, secrets.token_hex(32) + "\n")


def ensure_key(directory: Path, config: ApiConfig) -> Path | None:
    """Return the file that holds the key; made now, if it is not there. None if the cluster gives none.

    Blocks for TIMEOUT_SECONDS at most.
    """
    path = directory / KEY_FILE
    if path.exists() or not config.secrets or config.s3_listen is None:
        return path if path.exists() else None
    made = _call(config, "POST", "/cluster/key", {"name": KEY_NAME, "grants": ["admin"]})
    if made is None:  # it is there, and its file is gone
        made = _call(config, "PUT", f"/cluster/key?name={KEY_NAME}", {"grace_seconds": 0})
    if made is None:
        return None
    lines = {
        "AWS_ACCESS_KEY_ID": made["id"],
        "AWS_SECRET_ACCESS_KEY": made["secret"],
        "AWS_ENDPOINT_URL": f"http://{config.s3_listen}",
        "AWS_DEFAULT_REGION": config.s3_region,
    }
    try:
        _write_private(path, "".join(f"export {name}={value}\n" for name, value in lines.items()))
    except OSError:  # a full disk, say: the cluster runs without the file, and the next start makes it
        return None
    return path


def _call(config: ApiConfig, method: str, path: str, body: dict[str, object]) -> dict[str, object] | None:
    """Return the answer of the api node to this call, shown the secret; None if it refuses, or does not answer."""
    proof = authorization(node_token(config.secrets[0], API_AUDIENCE))
    connection = http.client.HTTPConnection(config.listen.host, config.listen.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, json.dumps(body), {"authorization": proof, "content-type": "application/json"})
        reply = connection.getresponse()
        answer = parse_json(reply.read(ANSWER_BYTES_MAX))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer if reply.status in (200, 201) and isinstance(answer, dict) else None


def _write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read; it is there as a whole, or not at all."""
    new = path.with_name(f".{path.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # the metadata are synced, and keys in them are sealed with the secret
    new.rename(path)
