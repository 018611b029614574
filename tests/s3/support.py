"""What the tests of the suite share: errors by code, raw requests, and objects by the dozen."""

from __future__ import annotations

import http.client
from typing import Any

import pytest
from botocore.exceptions import ClientError


def check_error(status: int, code: str, call: Any, **arguments: Any) -> dict[str, Any]:
    """The call fails with this status and S3's code; returns the whole answer. HEAD has no code: its status stands."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer: dict[str, Any] = caught.value.response
    found = (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"])
    assert found == (status, code), answer
    return answer


def status_of(answer: dict[str, Any]) -> int:
    status: int = answer["ResponseMetadata"]["HTTPStatusCode"]
    return status


def body_of(answer: dict[str, Any]) -> bytes:
    content: bytes = answer["Body"].read()
    return content


def put_all(s3: Any, bucket: str, keys: list[str]) -> None:
    """Put an object under each key; its content is the key."""
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())


def keys_of(answer: dict[str, Any]) -> list[str]:
    return [entry["Key"] for entry in answer.get("Contents", [])]


def prefixes_of(answer: dict[str, Any]) -> list[str]:
    return [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])]


def raw(
    port: int, method: str, target: str, body: bytes | None = None, fields: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """A request as it stands, without a client's help."""
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True, skip_host="host" in (fields or {}))
        for name, value in (fields or {}).items():
            connection.putheader(name, value)
        if body is not None and not {"content-length", "transfer-encoding"} & {name.lower() for name in fields or {}}:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()
