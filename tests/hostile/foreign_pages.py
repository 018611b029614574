"""Web pages of other sites against an api node and a data node on their visitor's own machine.

``python -m tests.hostile.foreign_pages`` prints what each page was answered.
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, NamedTuple

from tests.support.client import Client
from tests.support.daemons import Cluster, running
from tests.support.scratch import scratch_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

FORM = b'--b\r\ncontent-disposition: form-data; name="f"; filename="stolen"\r\n\r\nx\r\n--b--\r\n'
FORM_TYPE = {"content-type": "multipart/form-data; boundary=b"}
TEXT = {"content-type": "text/plain"}
PAGES = {
    "a form of another site": {"origin": "http://evil.example"},
    "a page in a sandbox": {"origin": "null"},
    "another program on this machine": {"origin": "http://localhost:3000"},
    "a page without Origin": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    "a name made to lead here": {"host": "evil.example:8000"},
    "the same, of its own origin": {"host": "evil.example:8000", "origin": "http://evil.example:8000"},
    "a name only in its target": {},
}
CALLS = [
    ("POST", "/object/", FORM, FORM_TYPE),
    ("POST", "/object/stolen", FORM, FORM_TYPE),
    ("PUT", "/object/kept", b"overwritten", TEXT),
    ("POST", "/object/kept", b"overwritten", TEXT),
    ("DELETE", "/object/kept", b"", {}),
    ("PUT", "/bucket/stolen", b"{}", TEXT),
    ("DELETE", "/bucket/empty", b"", {}),
    ("DELETE", "/cluster/node?node=data1&force=1", b"", {}),
    ("POST", "/cluster/heartbeat", b"{}", TEXT),
    ("POST", "/cluster/invite", b'{"valid_seconds": 60}', TEXT),
    ("OPTIONS", "/object/kept", b"", {"access-control-request-method": "PUT"}),
    ("GET", "/object/kept", b"", {}),
    ("GET", "/object/", b"", {}),
    ("GET", "/bucket", b"", {}),
    ("GET", "/status", b"", {}),
    ("GET", "/metrics", b"", {}),
]


class Row(NamedTuple):
    page: str
    call: str
    status: int
    allowed: str
    """CORS fields of the answer; there should be none."""


def attack(port: int) -> Iterator[Row]:
    """Every call by every page."""
    for (page, marks), (method, target, body, fields) in itertools.product(PAGES.items(), CALLS):
        client = Client(port, timeout=10)
        asked = f"http://evil.example{target}" if page == "a name only in its target" else target
        answer = client.call(method, asked, body, fields | marks)
        client.close()
        allowed = ", ".join(name for name in answer.fields if name.startswith("access-control-"))
        yield Row(page, f"{method} {target}", answer.status, allowed)


def prepare(client: Client) -> None:
    assert client.call("PUT", "/object/kept", b"kept").status in (200, 201)
    assert client.call("PUT", "/bucket/empty").status in (200, 201)


def find_harm(client: Client) -> list[str]:
    """Return what the pages have changed."""
    harm = []
    if client.get("kept").body != b"kept":
        harm.append("an object was overwritten or deleted")
    if client.get("stolen").status != 404 or client.call("GET", "/bucket/stolen").status != 404:
        harm.append("an object or a bucket was made")
    if client.call("GET", "/bucket/empty").status != 200:
        harm.append("a bucket was deleted")
    return harm


def main() -> int:
    with scratch_directory() as fresh, running(Cluster(fresh)) as cluster:
        client = cluster.client()
        prepare(client)
        rows = list(attack(cluster.daemons["api"].port))
        for row in rows:
            print(f"{row.status}  {row.call:40} {row.page}  {row.allowed}")
        harm = find_harm(client)
        client.close()
    through = [row for row in rows if row.status < 400 or row.allowed]
    print(f"{len(rows)} calls, {len(through)} of them answered; {'; '.join(harm) or 'nothing was changed'}")
    return 1 if through or harm else 0


if __name__ == "__main__":
    sys.exit(main())
