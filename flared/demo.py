"""``flared demo``: a real cluster on this machine, real files, a killed node; every claim it prints was checked.

It works as a user would: ``flarectl`` in a process of its own moves the files, the nodes are processes of their own,
the killed one gets ``kill -9``. Everything lies in one directory that is removed at the end.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import trio

from flared import __version__
from flared.local import leaves, prepare
from flared.supervisor import NotStarted, Supervisor

DATA_NODES = 3
VICTIM = "data2"
BIG_BYTES = 210_000_000
SMALL_BYTES_MAX = 4_000_000
SMALL_FILES = 5
WELL_SECONDS = 60.0
HEAL_SECONDS = 180.0
POLL_SECONDS = 0.2
COMPARE_BYTES = 1024 * 1024
WIDTH = 58
COPIES = DATA_NODES + 2
"""How often the files lie on this disk at the worst: on the nodes, and read back twice."""
PREFIX = "demo/"
LATER_PREFIX = "while-down/"


class Failed(Exception):  # a claim that did not hold, in a sentence
    """Something the demo shows did not hold."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One file and the key it is put under."""

    file: Path
    key: str
    size: int


class Screen:
    """What a person sees: one line a step, commands and their answers beneath."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._step = 0
        self.checks = 0

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Time a step; what is said inside stands behind its time."""
        self._step += 1
        remarks: list[str] = []
        self._print(f"{self._step:2}  {title:{WIDTH}}", end="", flush=True)
        began = time.monotonic()
        try:
            yield remarks.append
        except trio.Cancelled:
            self._print(self._paint("31", "  interrupted"))
            raise
        except BaseException:
            self._print(self._paint("31", "  failed"))
            raise
        self.checks += 1
        self._print(self._paint("32", f"{time.monotonic() - began:6.1f} s  ") + "".join(remarks))

    def heading(self, text: str) -> None:
        self._print(self._paint("1", text) + "\n")

    def command(self, words: Sequence[str], answer: str) -> None:
        """A command as a user would type it, and the first lines of what it says."""
        self._print(self._paint("2", f"    $ {' '.join(words)}"))
        for line in answer.rstrip().splitlines()[:24]:
            self._print(f"      {line}".rstrip())

    def end(self, good: bool, text: str) -> None:
        self._print("\n" + self._paint("1;32" if good else "1;31", text))

    def _print(self, text: str, *, end: str = "\n", flush: bool = True) -> None:
        print(text, end=end, flush=flush)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def run_demo(files: Sequence[Path], keep: Path | None) -> int:
    """Show it; the exit code is 0 only if everything held."""
    screen = Screen()
    try:
        check_files(files)
        with _directory(files, keep) as directory:
            return trio.run(_run, files, directory, screen, strict_exception_groups=True)
    except (Failed, OSError) as error:
        screen.end(False, f"The demo cannot run: {error}")
        return 1


async def _run(files: Sequence[Path], directory: Path, screen: Screen) -> int:
    failure = ""
    interrupted = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:

        async def stop_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
            nonlocal interrupted
            async for _ in signals:
                interrupted = True
                scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop_at_signal, signals, nursery.cancel_scope)
                await Demo(directory, screen).show(files)
                nursery.cancel_scope.cancel()
        except* Failed as group:
            failure = "\n".join(str(error) for error in group.exceptions)
        except* NotStarted as group:
            failure = "\n".join(str(error) for error in leaves(group))
    if interrupted:
        screen.end(False, "Interrupted; everything is stopped.")
        return 130
    if failure:
        screen.end(False, failure)
        return 1
    return 0


class Demo:
    """The steps, in order. Each raises Failed when what it shows does not hold."""

    def __init__(self, directory: Path, screen: Screen) -> None:
        self._directory = directory
        self._screen = screen
        self._port = free_ports(DATA_NODES + 1)

    async def show(self, files: Sequence[Path]) -> None:
        self._screen.heading(f"Flare {__version__}: a cluster on this machine, in {self._directory}")
        cluster = self._directory / "cluster"
        cluster.mkdir()
        nodes = prepare(cluster, nodes=DATA_NODES, port=self._port, data_port=self._port + 1, scheme=None)
        supervisor = Supervisor(nodes, lambda line: None)
        try:
            async with trio.open_nursery() as nursery:
                await self._start(nursery, supervisor)
                try:
                    uploads = await self._store(files)
                    await self._lose_a_node(supervisor, uploads)
                except Failed as error:
                    tails = "\n".join(node.log_tail() for node in nodes)
                    raise Failed(f"{error}\n{tails}") from None
                nursery.cancel_scope.cancel()
        except* Failed as group:
            raise _first(group) from None
        self._check_nothing_runs(supervisor)
        self._screen.end(
            True,
            f"All {self._screen.checks} steps held: {count_text(uploads)} came back byte for byte, with all nodes, "
            "with one killed, and after it returned.",
        )

    async def _start(self, nursery: trio.Nursery, supervisor: Supervisor) -> None:
        with self._screen.step(f"start 1 api node and {DATA_NODES} data nodes, each a process") as say:
            await nursery.start(supervisor.run)
            await self._wait_for("ok", WELL_SECONDS)
            say(f"http://127.0.0.1:{self._port}")

    async def _store(self, files: Sequence[Path]) -> list[Upload]:
        if not files:
            with self._screen.step("find some files, and make a large one"):
                files = await trio.to_thread.run_sync(find_files, self._directory)
        uploads = name_uploads(files, PREFIX)
        with self._timed(f"put {count_text(uploads)}", uploads):
            await self._put(uploads)
        with self._screen.step("list them"):
            listing = await self._flarectl("ls", "-l", PREFIX)
            await self._check_listing(PREFIX, uploads)
        self._screen.command(["flarectl", "ls", "-l", PREFIX], listing)
        await self._get_all("get them back and compare every byte", uploads, PREFIX)
        return uploads

    async def _lose_a_node(self, supervisor: Supervisor, uploads: list[Upload]) -> None:
        with self._screen.step(f"kill -9 {VICTIM}, and keep it down"):
            await supervisor.kill(VICTIM)
        await self._get_all("get everything without it, and compare", uploads, PREFIX)
        small = [upload.file for upload in uploads if upload.size <= SMALL_BYTES_MAX] or [Path(__file__)]
        later = name_uploads(small, LATER_PREFIX)
        with self._timed(f"put {count_text(later)} more without it", later):
            await self._put(later)
        await self._get_all("get those back and compare", later, LATER_PREFIX)
        with self._screen.step("the cluster says what it lacks"):
            await self._wait_until_missed()
        self._screen.command(["flarectl", "status"], await self._flarectl("status"))
        with self._screen.step(f"let {VICTIM} return; it gets what it missed"):
            supervisor.revive(VICTIM)
            await self._wait_for("ok", HEAL_SECONDS)
            for upload in [*uploads, *later]:
                await self._check_copies(upload)
        self._screen.command(["flarectl", "status"], await self._flarectl("status"))

    async def _get_all(self, title: str, uploads: list[Upload], prefix: str) -> None:
        target = self._directory / "back"
        with self._timed(title, uploads):
            await self._flarectl("get", "-r", prefix, f"{target}/")
            for upload in uploads:
                back = target / upload.key.removeprefix(prefix)
                same = await trio.to_thread.run_sync(same_bytes, upload.file, back)
                if not same:
                    raise Failed(f"{upload.key} did not come back as {upload.file} is")
        await trio.to_thread.run_sync(shutil.rmtree, target)

    async def _put(self, uploads: list[Upload]) -> None:
        plain = [upload for upload in uploads if upload.key.count("/") == 1]
        prefix = uploads[0].key.partition("/")[0] + "/"
        await self._flarectl("put", *[str(upload.file) for upload in plain], prefix)
        for upload in uploads:
            if upload not in plain:
                await self._flarectl("put", str(upload.file), upload.key)

    async def _check_listing(self, prefix: str, uploads: list[Upload]) -> None:
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
            raise Failed(f"the listing has {len(found)} objects and is not what was put")

    async def _check_copies(self, upload: Upload) -> None:
        """Every chunk lies on every node again, and none of its pieces is known missing."""
        after: object = 0
        while after is not None:
            page = await self._ask(f"/object/{quote(upload.key)}?chunks&after={after}")
            chunks = page["chunks"]
            assert isinstance(chunks, list)
            for chunk in chunks:
                if chunk["missing"] or len({node for node in chunk["nodes"] if node}) != DATA_NODES:
                    raise Failed(f"a chunk of {upload.key} is not on {DATA_NODES} nodes: {chunk['nodes']}")
            after = page["next"]

    async def _wait_until_missed(self) -> None:
        """The health is degraded, and the killed node is not online any more."""
        await self._wait_for("degraded", WELL_SECONDS)
        with trio.move_on_after(WELL_SECONDS):
            while True:
                nodes = (await self._ask("/status"))["nodes"]
                assert isinstance(nodes, list)
                if any(node["name"] == VICTIM and node["state"] != "online" for node in nodes):
                    return
                await trio.sleep(POLL_SECONDS)
        raise Failed(f"after {WELL_SECONDS:.0f} s the cluster still believes that {VICTIM} is online")

    async def _wait_for(self, health: str, seconds: float) -> None:
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

    async def _flarectl(self, *words: str) -> str:
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

    @contextmanager
    def _timed(self, title: str, uploads: Sequence[Upload]) -> Iterator[None]:
        began = time.monotonic()
        with self._screen.step(title) as say:
            yield
            size = sum(upload.size for upload in uploads)
            if size > SMALL_BYTES_MAX:
                say(f"{size / 1e6 / (time.monotonic() - began):.0f} MB/s")

    def _check_nothing_runs(self, supervisor: Supervisor) -> None:
        for node in supervisor.nodes.values():
            if node.process is not None and node.process.poll() != 0 and node.process.returncode != -signal.SIGTERM:
                raise Failed(f"{node.name} did not end in order: {node.process.returncode}\n{node.log_tail()}")


def name_uploads(files: Sequence[Path], prefix: str) -> list[Upload]:
    """A key for each file: its name, in a numbered folder if another file has that name already."""
    uploads: dict[str, Upload] = {}
    for file in files:
        key, number = f"{prefix}{file.name}", 1
        while key in uploads:
            number += 1
            key = f"{prefix}{number}/{file.name}"
        uploads[key] = Upload(file, key, file.stat().st_size)
    return list(uploads.values())


def count_text(uploads: Sequence[Upload]) -> str:
    size = sum(upload.size for upload in uploads)
    amount = f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
    return f"{len(uploads)} file{'s' if len(uploads) > 1 else ''}, {amount}"


def check_files(files: Sequence[Path]) -> None:
    """Raises Failed for what is no readable file."""
    for file in files:
        if not file.is_file():
            raise Failed(f"{file} is no file")
        if not os.access(file, os.R_OK):
            raise Failed(f"{file} cannot be read")


def find_files(directory: Path) -> list[Path]:
    """A few real files of this machine, and a large one made of real and random bytes."""
    interpreter = Path(sys.executable).resolve()
    library = sorted(Path(os.__file__).parent.glob("*.py"), key=lambda path: path.stat().st_size)
    small = [path for path in library[:: max(1, len(library) // SMALL_FILES)] if path.stat().st_size][:SMALL_FILES]
    big = directory / "large.bin"
    texts = b"".join(path.read_bytes() for path in library[-20:])
    with open(big, "wb") as output:
        source = random.Random(BIG_BYTES)
        while output.tell() < BIG_BYTES:
            output.write(source.randbytes(6_000_000))
            output.write(texts[:2_000_000])
    return [*small, interpreter, big]


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes; False if one of them is not there."""
    try:
        with open(one, "rb") as first, open(other, "rb") as second:
            while True:
                ours, theirs = first.read(COMPARE_BYTES), second.read(COMPARE_BYTES)
                if ours != theirs:
                    return False
                if not ours:
                    return True
    except FileNotFoundError:
        return False


def get_json(port: int, target: str) -> dict[str, object]:
    """What the api node answers to a GET; OSError if nobody does."""
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
    """The first of ``count`` free ports in a row, below those the kernel gives to clients.

    A node that is down must find its port free when it returns.
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


@contextmanager
def _directory(files: Sequence[Path], keep: Path | None) -> Iterator[Path]:
    """Where everything lies: ``keep``, or one with room for it that is removed at the end."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise Failed(f"{keep} is not empty")
        yield keep.resolve()
        print(f"Kept: {keep}; run it again with: flared local --dir {keep / 'cluster'}")
        return
    size = sum(file.stat().st_size for file in files) or BIG_BYTES * 2
    with tempfile.TemporaryDirectory(prefix="flare-demo-", dir=_roomy(COPIES * size + 2**30)) as directory:
        yield Path(directory)


def _roomy(size: int) -> Path:
    # /tmp may be memory; /var/tmp is a disk.
    places = [Path(os.environ["TMPDIR"])] if "TMPDIR" in os.environ else [Path("/var/tmp"), Path("/tmp"), Path.cwd()]
    for place in places:
        if os.access(place, os.W_OK) and shutil.disk_usage(place).free > size:
            return place
    raise Failed(f"no place with {size / 1e9:.1f} GB free among {', '.join(map(str, places))}; set TMPDIR to one")


def _first(group: BaseExceptionGroup[Failed]) -> Failed:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
