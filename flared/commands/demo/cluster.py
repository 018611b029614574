"""The cluster as users see it: through ``flarectl`` processes and the api node's answers."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import sys
from contextlib import ExitStack
from urllib.parse import quote

import trio

from flared.commands.demo.failed import Failed
from flared.commands.demo.files import Upload

WELL_SECONDS = 60.0
POLL_SECONDS = 0.2


class DemoCluster:
    """One api node on ``port`` with so many data ``nodes``. A check that does not hold raises Failed."""

    def __init__(self, port: int, nodes: int) -> None:
        self._port = port
        self._nodes = nodes

    async def flarectl(self, *words: str) -> str:
        """Run flarectl and return what it prints. Raise Failed unless its exit code is 0."""
        done = await trio.run_process(
            [sys.executable, "-m", "flarectl", *words],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={**os.environ, "FLARE_ENDPOINT": f"http://127.0.0.1:{self._port}"},
        )
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise Failed(f"flarectl {words[0]} ended with exit code {done.returncode}: {said}")
        return done.stdout.decode(errors="replace")

    async def put(self, uploads: list[Upload]) -> None:
        plain = [upload for upload in uploads if upload.key.count("/") == 1]
        prefix = uploads[0].key.partition("/")[0] + "/"
        await self.flarectl("put", *[str(upload.file) for upload in plain], prefix)
        for upload in uploads:
            if upload not in plain:
                await self.flarectl("put", str(upload.file), upload.key)

    async def check_listing(self, prefix: str, uploads: list[Upload]) -> None:
        found: dict[str, int] = {}
        after = ""
        while True:
            page = await self._ask(f"/object/?prefix={quote(prefix)}&after={quote(after)}")
            objects = page["objects"]
            assert isinstance(objects, list)
            found.update({entry["key"]: entry["size"] for entry in objects})
            if not page["next"]:
                break
            after = str(page["next"])
        if found != {upload.key: upload.size for upload in uploads}:
            raise Failed(f"the listing has {len(found)} objects and differs from what was put")

    async def check_copies(self, upload: Upload) -> None:
        """Check that every chunk is on every data node, and that none of its pieces is recorded as missing."""
        after: object = 0
        while after is not None:
            page = await self._ask(f"/object/{quote(upload.key)}?chunks&after={after}")
            chunks = page["chunks"]
            assert isinstance(chunks, list)
            for chunk in chunks:
                if chunk["missing"] or len({node for node in chunk["nodes"] if node}) != self._nodes:
                    raise Failed(f"a chunk of {upload.key} is not on {self._nodes} nodes: {chunk['nodes']}")
            after = page["next"]

    async def wait_until_missed(self, name: str) -> None:
        """Wait until the health is degraded and the node is not online."""
        await self.wait_for("degraded", WELL_SECONDS)
        with trio.move_on_after(WELL_SECONDS):
            while True:
                nodes = (await self._ask("/status"))["nodes"]
                assert isinstance(nodes, list)
                if any(node["name"] == name and node["state"] != "online" for node in nodes):
                    return
                await trio.sleep(POLL_SECONDS)
        raise Failed(f"after {WELL_SECONDS:.0f} s the cluster still believes that {name} is online")

    async def wait_for(self, health: str, seconds: float) -> None:
        answer: dict[str, object] = {}
        with trio.move_on_after(seconds):
            while True:
                try:
                    answer = await self._ask("/status")
                except OSError:
                    answer = {}
                if answer.get("health") == health:
                    return
                await trio.sleep(POLL_SECONDS)
        raise Failed(f"the cluster is not {health!r} after {seconds:.0f} s: {answer.get('reasons', 'no answer')}")

    async def _ask(self, target: str) -> dict[str, object]:
        return await trio.to_thread.run_sync(get_json, self._port, target)


def get_json(port: int, target: str) -> dict[str, object]:
    """Return the api node's answer to a GET. Raise OSError if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        answer: object = json.loads(response.read())
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"GET {target}: {error}") from error
    finally:
        connection.close()
    if response.status != 200 or not isinstance(answer, dict):
        raise Failed(f"GET {target} answers {response.status}: {answer}")
    return answer


def free_ports(count: int) -> int:
    """Return the first of ``count`` free ports in a row, below those that the kernel gives to clients.

    So a node that is down finds its port free when it returns.
    """
    for _ in range(1000):
        first = random.randrange(12_000, 32_000 - count)
        try:
            with ExitStack() as stack:
                for port in range(first, first + count):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
        except OSError:
            continue
    raise Failed(f"no {count} free ports in a row")
