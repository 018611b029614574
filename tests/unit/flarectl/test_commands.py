"""The commands against the fake api node, as a user types them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.fake_api import FakeApi
    from tests.unit.flarectl.conftest import Run


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def files_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["tree/a.txt"], ["a.txt"]),
        (["tree/a.txt", "x"], ["x"]),
        (["tree/a.txt", "x/"], ["x/a.txt"]),
        (["tree/a.txt", "tree/b.log", "x/"], ["x/a.txt", "x/b.log"]),
        (["tree/*.txt", ":"], ["a.txt"]),
        (["-r", "tree", "x"], ["x/a.txt", "x/b.log", "x/sub/c.txt", "x/sub/deep/d.txt"]),
        (["-r", "tree", "x/"], ["x/tree/a.txt", "x/tree/b.log", "x/tree/sub/c.txt", "x/tree/sub/deep/d.txt"]),
        (["-r", "tree/", "x/"], ["x/a.txt", "x/b.log", "x/sub/c.txt", "x/sub/deep/d.txt"]),
        (["-r", "tree/", "--exclude", "deep", "--exclude", "*.log"], ["a.txt", "sub/c.txt"]),
        (["-r", "tree/*", "x/", "--exclude", "b.log"], ["x/a.txt", "x/sub/c.txt", "x/sub/deep/d.txt"]),
    ],
)
def test_put_names_its_objects_as_cp_would(
    api: FakeApi, run: Run, tree: Path, arguments: list[str], keys: list[str]
) -> None:
    done = run("put", *arguments)
    assert done == (0, "", "")
    assert api.keys() == keys


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["p/a"], ["a"]),
        (["p/a", "b"], ["b"]),
        (["p/a", "dir/"], ["dir/a"]),
        (["p/a", "here"], ["here/a"]),
        (["p/a", "q", "new/"], ["new/a", "new/q"]),
        (["p/*", "here"], ["here/a"]),
        (["-r", "p/*", "here"], ["here/a", "here/s/b"]),
        (["-r", "p"], ["p/a", "p/s/b"]),
        (["-r", "p/"], ["a", "s/b"]),
        (["-r", "p", "new"], ["new/a", "new/s/b"]),
        (["-r", "p", "here"], ["here/p/a", "here/p/s/b"]),
        (["-r", "p/", "here", "--exclude", "s"], ["here/a"]),
        (["-r", "default:", "all"], ["all/p/a", "all/p/s/b", "all/q"]),
    ],
)
def test_get_names_its_files_as_cp_would(api: FakeApi, run: Run, arguments: list[str], names: list[str]) -> None:
    for key in ("p/a", "p/s/b", "q"):
        api.store(key, key.encode())
    Path("here").mkdir()
    done = run("get", *arguments)
    assert (done.code, done.out) == (0, "")
    assert files_below(Path()) == names
    assert all(Path(name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["put", "tree", "x"], 2, "use -r"),
        (["put", "tree/a.txt", "tree/b.log", "x"], 2, "ends in a slash"),
        (["put", "nothing", "x"], 4, "no such file"),
        (["put", "tree/a.txt", "none-such:x"], 3, "no bucket"),
        (["put", "tree/a.txt", "x" * 1025], 6, "1025 bytes"),
        (["put", "-", "x/"], 2, "needs a name"),
        (["get", "nothing"], 4, "there is no object"),
        (["get", "none-such:x"], 3, "there is no bucket"),
        (["get", "-r", "nothing/"], 4, "nothing is stored"),
        (["get", "p/"], 2, "with -r"),
        (["get", "p"], 2, "p: is a prefix, not an object; use -r"),
        (["get", "q", "p", "out/"], 2, "p: is a prefix, not an object; use -r"),
        (["rm", "p"], 2, "use -r"),
        (["cp", "p", "x"], 2, "use -r"),
        (["mv", "p", "x"], 2, "use -r"),
        (["cat", "p"], 2, "flarectl ls p/ lists it"),
        (["stat", "p"], 2, "flarectl ls p/ lists it"),
        (["get", "p/*", "new"], 2, "need a directory"),
        (["get", "x*y", "tree"], 4, "no object matches"),
        (["get", "q", "/dev/full"], 6, "not a regular file"),
        (["get", "q", "/none/such"], 6, ""),
        (["cat", "nothing"], 4, "there is no object"),
        (["ls", "nothing"], 4, "nothing is stored"),
        (["ls", "none-such:"], 3, "no bucket"),
        (["rm", "nothing"], 4, "there is no object"),
        (["rm", "p/"], 2, "with -r"),
        (["stat", "nothing"], 4, "there is no object"),
        (["cp", "q", "q"], 6, "the same object"),
        (["mv", "q", "default:q"], 6, "the same object"),
        (["cp", "-r", "p", "p/x"], 2, "into itself"),
        (["cp", "-r", "p/", "p"], 2, "into itself"),
        (["cp", "nothing", "x"], 4, "no object"),
        (["mv", "p/a", "q", "x"], 2, "ends in a slash"),
        (["bucket", "rm", "default"], 6, "still holds objects"),
        (["bucket", "rm", "nope"], 3, "there is no bucket nope"),
        (["bucket", "create", "NO"], 2, "not a valid bucket name"),
        (["ls", "--endpoint", "ftp://x"], 2, "is not a valid endpoint"),
        (["ls", "--endpoint", "http://127.0.0.1:1"], 5, "connection refused"),
        (["put", "tree/a.txt", "--endpoint", "http://127.0.0.1:1"], 5, "connection refused"),
        (["get", "q", "--endpoint", "http://no.such.host.invalid"], 5, "cannot reach"),
        (["frobnicate"], 2, "No such command"),
        (["put"], 2, "Missing argument"),
        (["get", "q", "--parallel", "0"], 2, "--parallel"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_a_documented_code(
    api: FakeApi, run: Run, tree: Path, arguments: list[str], code: int, sentence: str
) -> None:
    for key in ("p/a", "q"):
        api.store(key, key.encode())
    if arguments[-1] == "/none/such" and os.access("/", os.W_OK):
        pytest.skip("root may make any directory")
    done = run(*arguments)
    assert done.code == code
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_what_was_put_comes_back_with_its_time(api: FakeApi, run: Run) -> None:
    Path("page.html").write_bytes(b"<html>")
    os.utime("page.html", ns=(1, 1700000000123456789))
    assert run("put", "page.html", "x").code == 0
    assert api.objects["default", "x"].content_type == "text/html"
    assert run("get", "x", "back").code == 0
    assert Path("back").stat().st_mtime_ns == 1700000000123456789


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 131072, 1048576, 1048577, 3_000_001])
def test_any_size_comes_back(api: FakeApi, run: Run, size: int) -> None:
    data = os.urandom(size)
    Path("in").write_bytes(data)
    assert run("put", "in", "x") == (0, "", "")
    assert api.read("x") == data
    assert run("get", "x", "out", "--parallel", "3") == (0, "", "")
    assert Path("out").read_bytes() == data
    assert files_below(Path()) == ["in", "out"]


def test_a_tree_comes_back_as_it_was(api: FakeApi, run: Run, tree: Path) -> None:
    assert run("put", "-r", "tree/", "p").code == 0
    assert run("get", "-r", "p", "back").code == 0
    assert files_below(Path("back")) == files_below(tree)


def test_if_not_exists_leaves_alone_what_is_there(api: FakeApi, run: Run, tree: Path) -> None:
    api.store("a.txt", b"old")
    done = run("put", "tree/a.txt", "--if-not-exists")
    assert done.code == 9
    assert "it exists already" in done.err
    assert api.read("a.txt") == b"old"
    assert run("put", "-r", "tree/", "--if-not-exists").code == 0
    assert run("get", "a.txt", "tree/a.txt", "--if-not-exists").code == 9
    assert Path("tree/a.txt").read_text() == "A"
    assert run("cp", "a.txt", "b.log", "--if-not-exists").code == 9
    assert run("put", "tree/b.log", "a.txt", "--json", "--if-not-exists").code == 9


def test_many_that_are_there_already_are_only_counted(api: FakeApi, run: Run, tree: Path) -> None:
    run("put", "-r", "tree/")
    assert run("put", "-r", "tree/", "--if-not-exists") == (9, "", "skipped: 4 that exist already\n")
    assert run("put", "-r", "tree/", "--if-not-exists", "--quiet").err == ""
    reports = lines(run("put", "-r", "tree/", "--if-not-exists", "--json").out)
    assert {record["skipped"] for record in reports[:-1]} == {"a.txt", "b.log", "sub/c.txt", "sub/deep/d.txt"}


def test_a_put_without_its_bucket_ends_at_once(api: FakeApi, run: Run, tree: Path) -> None:
    done = run("put", "-r", "tree/", "nope:", "--parallel", "1")
    assert (done.code, done.err.count("there is no bucket nope")) == (3, 1)
    assert sum(method == "PUT" for method, _, _ in api.requests) == 1


def test_a_dry_run_changes_nothing(api: FakeApi, run: Run, tree: Path) -> None:
    api.store("q", b"q")
    assert run("put", "tree/a.txt", "-n").out == "would be put: tree/a.txt -> a.txt\n"
    assert run("get", "q", "new/", "-n").out == "would be got: q -> new/q\n"
    assert run("mv", "q", "r", "-n").out == "would be moved: q\n"
    assert run("rm", "q", "-n").out == "would be removed: q\n"
    assert api.keys() == ["q"]
    assert not Path("new").exists()


def test_what_no_file_can_be_called_is_refused_and_the_rest_goes_on(api: FakeApi, run: Run) -> None:
    for key in ("d/../../x", "d//abs", "d/a", "d/a/b", "d/ok"):
        api.store(key, b"x")
    api.store("d/mark/", b"")
    done = run("get", "-r", "d/", "out")
    assert done.code == 6
    assert files_below(Path()) == ["out/a", "out/ok"]
    assert done.err.count("flarectl: ") == 4  # three refused, and how many
    assert "it only marks a directory" in done.err


def test_links_and_pipes_are_passed_over_with_a_word(api: FakeApi, run: Run, tree: Path) -> None:
    (tree / "dir").symlink_to("sub")
    (tree / "file").symlink_to("a.txt")
    os.mkfifo(tree / "pipe")
    os.symlink("nowhere", tree / "broken")
    done = run("put", "-r", "tree/")
    assert done.code == 0
    assert api.keys() == ["a.txt", "b.log", "file", "sub/c.txt", "sub/deep/d.txt"]
    assert "symbolic link to a directory" in done.err
    assert "not a regular file" in done.err
    assert "skipped: tree/broken: it is a symbolic link to nowhere, which does not exist" in done.err


def test_a_file_name_that_is_not_utf8_is_refused_and_the_rest_goes_on(api: FakeApi, run: Run, tree: Path) -> None:
    Path(os.fsdecode(b"tree/\xff")).write_text("x")
    done = run("put", "-r", "tree/", "--json")
    assert done.code == 6
    assert len(api.keys()) == 4
    assert lines(done.out)[-1]["summary"] == lines(done.out)[-1]["summary"] | {"put": 4, "failed": 1}  # type: ignore[operator]


def test_cat_writes_objects_one_after_the_other(api: FakeApi, run: Run) -> None:
    data = "".join(chr(97 + n % 26) for n in range(200_000))
    api.store("big", data.encode())
    api.store("small", b"end")
    assert run("cat", "big", "small") == (0, data + "end", "")
    assert run("get", "small", "-") == (0, "end", "")


def test_standard_input_is_put(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"", b"hello", os.urandom(2_500_000)):
        Path("in").write_bytes(data)
        with open("in", "rb") as source:
            saved = os.dup(0)
            os.dup2(source.fileno(), 0)
            try:
                assert run("put", "-", "x") == (0, "", "")
            finally:
                os.dup2(saved, 0)
                os.close(saved)
        assert api.read("x") == data


def test_ls_lists_what_a_name_stands_for(api: FakeApi, run: Run) -> None:
    for key in ("a", "a!", "a/b", "a/c/d", "ab"):
        api.store(key, b"12345")
    assert run("ls").out.split() == ["a", "a!", "a/", "ab"]
    assert run("ls", "a").out.split() == ["a", "a/b", "a/c/"]
    assert run("ls", "a/").out.split() == ["a/b", "a/c/"]
    assert run("ls", "-r", "a/").out.split() == ["a/b", "a/c/d"]
    assert run("ls", "a/*").out.split() == ["a/b", "a/c/"]
    assert run("ls", "*/*/d").out.split() == ["a/c/d"]
    assert run("ls", "-r", "a/?").out.split() == ["a/b", "a/c/d"]
    assert "            5  " in run("ls", "-l", "ab").out
    assert "          5 B  " in run("ls", "-lh", "ab").out
    record = lines(run("ls", "--json", "ab").out)[0]
    assert record == record | {"bucket": "default", "key": "ab", "size": 5, "modified": "2026-11-21T09:18:48.123Z"}


def test_long_listings_come_in_pages(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flarectl.client.Client.list_page.__kwdefaults__", {"delimiter": "", "after": "", "limit": 3})
    for number in range(10):
        api.store(f"p/{number}/x", b"")
    assert len(run("ls", "p/").out.split()) == 10
    assert len(run("ls", "-r").out.split()) == 10


def test_rm_removes_what_it_was_given_and_nothing_else(api: FakeApi, run: Run) -> None:
    for key in ("a", "a/b", "a/c", "ab", "a/"):
        api.store(key, b"")
    assert run("rm", "ab") == (0, "", "")
    assert run("rm", "-f", "ab") == (0, "", "")
    assert run("rm", "-r", "a", "--exclude", "c") == (0, "", "")
    assert api.keys() == ["a/c"]


def test_rm_asks_on_a_terminal(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    api.store("p/a", b"12")
    api.store("p/b", b"3")
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    done = run("rm", "-r", "p")
    assert done.code == 6
    assert "Remove p (2 objects, 3 B)?" in done.err
    assert len(api.keys()) == 2
    monkeypatch.setattr("sys.stdin", Terminal(""))  # Ctrl-D
    assert run("rm", "-r", "p").code == 130
    assert len(api.keys()) == 2
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert run("rm", "-r", "p").code == 0
    assert api.keys() == []


def test_cp_and_mv_work_on_the_cluster(api: FakeApi, run: Run) -> None:
    api.store("p/a", b"A", mtime="5")
    api.store("p/s/b", b"B")
    assert run("cp", "p/a", "q") == (0, "", "")
    assert api.objects["default", "q"].user == {"mtime": "5"}
    assert run("cp", "-r", "p", "r/") == (0, "", "")
    assert run("mv", "-r", "p/", "t") == (0, "", "")
    assert run("mv", "t/*", "u/") == (0, "", "skipped: t/s/: it is a prefix; -r would take what is below it\n")
    assert api.keys() == ["q", "r/p/a", "r/p/s/b", "t/s/b", "u/a"]


def test_mv_keeps_a_source_that_was_changed_meanwhile(api: FakeApi, run: Run) -> None:
    api.store("a", b"old")

    def change(_: object) -> bool:
        api.store("a", b"new")
        return False

    api.fail("DELETE", "/object/a", change)
    done = run("mv", "a", "b")
    assert done.code == 6
    assert "copied, but not removed" in done.err
    assert (api.read("a"), api.read("b")) == (b"new", b"old")


def test_stat_tells_everything(api: FakeApi, run: Run) -> None:
    api.store("k", b"x" * 100_000, mtime="7")
    shown = run("stat", "k", "--chunks").out
    assert "100000 (97.7 KiB)" in shown
    assert "meta mtime" in shown
    assert "chunk 1 at 65536: 34464 bytes, plain, replica:3, on data1, data2, - (missing)" in shown
    first, chunk, *_ = lines(run("stat", "k", "--json", "--chunks").out)
    assert first == first | {"key": "k", "size": 100_000, "meta": {"mtime": "7"}}
    assert chunk == chunk | {"chunk": 0, "offset": 0, "nodes": ["data1", "data2", "-"], "missing": [2]}


def test_buckets_are_created_listed_and_removed(api: FakeApi, run: Run) -> None:
    assert run("bucket", "create", "logs", "--chunk-size", "1MiB").out == "bucket logs created\n"
    assert run("bucket", "create", "logs:").out == "bucket logs exists already\n"
    assert api.buckets["logs"] == 1 << 20
    assert [line.split()[0] for line in run("bucket", "ls").out.splitlines()] == ["default", "logs"]
    assert lines(run("bucket", "ls", "--json").out)[1]["chunk_size"] == 1 << 20
    assert run("bucket", "rm", "logs").out == "bucket logs removed\n"


def test_status_is_one_screen(api: FakeApi, run: Run) -> None:
    node = {"name": "data1", "role": "data", "state": "offline", "zone": "z1", "used": 5, "capacity": 10}
    api.status = {
        "health": "degraded",
        "version": "0.1.0",
        "objects": 3,
        "bytes": 2048,
        "chunks": 1,
        "degraded_chunks": 1,
        "reasons": ["data1 is [offline]"],
        "nodes": [node | {"last_seen_seconds": 75.0}],
        "workers": [{"pid": 7, "connections": 1, "requests": 2}],
    }
    done = run("status")
    assert done.code == 0
    for part in (
        "degraded",
        "3 objects, 2.0 KiB, 1 chunk",
        "data1 is [offline]",
        "5 B of 10 B (50%)",
        "75 s ago",
        "2 processes of the api node",
    ):
        assert part in done.out
    assert json.loads(run("status", "--json").out) == api.status
    api.status = {"health": "down"}
    assert run("status").code == 5


NODES = [
    {"name": "api", "role": "api", "state": "online", "state_since_seconds": 7200.0, "address": "127.0.0.1:8000"},
    {
        "name": "data1", "role": "data", "state": "suspect", "state_since_seconds": 300.0, "zone": "z1", "used": 5,
        "capacity": 10, "last_seen_seconds": 310.0, "pieces": 1234, "address": "10.0.0.1:9000", "version": "0.1.0",
        "volumes": [
            {"id": "v1", "path": "/srv/a", "state": "ok", "used": 5, "capacity": 10, "free": 5},
            {
                "id": "/srv/bb", "path": "/srv/bb", "state": "failed", "used": 0, "capacity": 0, "free": 0,
                "reason": "Input/output error",
                "state_seconds": 90.0, "repair": "its 7 pieces are being rebuilt elsewhere", "repaired": False,
            },
        ],
        "advice": ["on data1 (10.0.0.1): systemctl status 'flared@*'"],
    },
]  # fmt: skip


def test_each_screen_of_a_watch_is_out_before_the_next(
    api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def sleep(_: float) -> None:
        seen.append(capfd.readouterr().out)
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("flarectl.commands.status.time.sleep", sleep)
    assert run("status", "--watch").code == 0
    assert ["health" in screen for screen in seen] == [True, True]


def test_nodes_are_listed(api: FakeApi, run: Run) -> None:
    api.status = {"health": "ok", "nodes": NODES}
    listed = run("node", "ls").out
    for part in ("node", "suspect", "5 min", "2 h", "z1", "1 of 2 ok"):
        assert part in listed
    assert lines(run("node", "ls", "--json").out) == NODES
    api.status = {"health": "ok", "nodes": []}
    assert run("node", "ls").out.startswith("node")


def test_a_node_is_shown(api: FakeApi, run: Run) -> None:
    api.status = {"health": "ok", "nodes": NODES}
    shown = run("node", "show", "data1")
    assert shown.code == 0
    for part in (
        "suspect for 5 min",
        "1,234",
        "/srv/bb  failed  for 90 s",
        "  Input/output error",
        "its 7 pieces are being rebuilt elsewhere",
        "7 chunks have a copy here",
        "1 chunk would be unreadable",
        "2 chunks would have fewer copies",
        "not now: node data9 is offline",
        "systemctl status 'flared@*'",
    ):
        assert part in shown.out
    (record,) = lines(run("node", "show", "data1", "--json").out)
    assert record["obstacle"] == "node data9 is offline"
    assert record["failure"] == {"chunks": 7, "below_quorum": 3, "unreadable": 1, "complete": True}
    assert "failure" not in run("node", "show", "api").out
    missing = run("node", "show", "data7")
    assert (missing.code, missing.err.count("flarectl node ls")) == (4, 1)


def test_a_bucket_that_wants_more_nodes_than_there_are_is_warned_of(api: FakeApi, run: Run) -> None:
    api.status = {"health": "ok", "nodes": NODES}
    assert "are 1: until there are more, puts lack copies" not in run("bucket", "create", "one").err
    assert (
        "replica:5 needs 5 data nodes, and there are 1" in run("bucket", "create", "many", "--scheme", "replica:5").err
    )
    assert "puts are refused" in run("bucket", "create", "two", "--scheme", "replica:3").err
    assert run("bucket", "create", "fine", "--scheme", "replica:1").err == ""


def test_a_node_is_removed_and_waited_for(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    removing = {**NODES[1], "state": "removing", "removal": {"share": 0.5, "waiting": 3}}
    api.status = {"health": "degraded", "nodes": [NODES[0], removing]}
    looked: list[float] = []

    def sleep(seconds: float) -> None:
        looked.append(seconds)
        api.status = {"health": "ok", "nodes": NODES[:1]}

    monkeypatch.setattr("flarectl.commands.removal.time.sleep", sleep)
    done = run("node", "rm", "data1")
    assert (done.code, done.out, looked) == (0, "", [1.0])
    assert "node data1 is removed" in done.err
    assert lines(run("node", "rm", "data1", "--json").out) == [{"removed": "data1"}]
    assert lines(run("node", "rm", "data1", "--no-wait", "--json").out) == [{"removing": "data1"}]
    assert api.removals == ["node=data1"] * 3
    api.status = {"health": "ok", "nodes": [NODES[0], {**NODES[1], "state": "online"}]}
    off = run("node", "rm", "data1")
    assert (off.code, "was cancelled" in off.err) == (6, True)


def test_a_removal_that_is_refused_says_why(api: FakeApi, run: Run) -> None:
    api.answer_with("DELETE", "/cluster/node", 409, "Conflict", message="node data1 is online: stop it first")
    refused = run("node", "rm", "data1")
    assert (refused.code, "stop it first" in refused.err) == (6, True)


def test_by_force_a_node_goes_after_it_was_said_what_is_lost(api: FakeApi, run: Run) -> None:
    api.removal = {"waiting": 1234, "unreadable": 5, "complete": False}
    refused = run("node", "rm", "data1", "--force", "--no-wait")
    assert refused.code == 6
    for part in ("at least 5 chunks have no other copy", "at least 1,234 chunks lack", "there may be more", "--yes"):
        assert part in refused.err
    assert not api.removals
    assert run("node", "rm", "data1", "--force", "--yes", "--no-wait").code == 0
    api.removal = {"waiting": 0, "unreadable": 0, "complete": True}
    assert run("node", "rm", "data1", "--force", "--no-wait").code == 0
    assert api.removals == ["node=data1&force=1"] * 2


def test_old_metadata_is_accepted_only_on_purpose(api: FakeApi, run: Run) -> None:
    refused = run("metadata", "accept", "--yes")
    assert (refused.code, "there is nothing to accept" in refused.err) == (6, True)
    old = {"older": True, "objects": 7, "seen": [{"node": "data1", "time": 1_700_000_000}]}
    api.metadata = old | {"orphans_kept_seconds": 7 * 86400}
    refused = run("metadata", "accept")
    assert (refused.code, api.metadata["older"]) == (6, True)
    for part in ("knows 7 objects", "node data1, on ", "kept for 7 days", "flared restore", "needs --yes"):
        assert part in refused.err
    assert run("metadata", "accept", "--yes").code == 0
    assert api.metadata["older"] is False
    api.metadata = old
    (record,) = lines(run("metadata", "accept", "--yes", "--json").out)
    assert record["older"] is False


def test_held_orphans_are_shown_and_deleted_only_on_purpose(api: FakeApi, run: Run) -> None:
    assert run("node", "orphans", "data1").out == "nothing is held back on node data1\n"
    refused = run("node", "orphans", "data1", "--delete", "--yes")
    assert (refused.code, "nothing to delete" in refused.err) == (6, True)
    api.orphans = {
        "held": 4000, "bytes": 5 << 20, "since": 1.7e9, "seconds_left": 6 * 86400, "sample": ["ab.cd.0"],
        "obstacles": ["the metadata came from a backup"],
    }  # fmt: skip
    shown = run("node", "orphans", "data1")
    for part in ("4,000 pieces", "5.0 MiB", "2023-11-14", "in 6 d", "ab.cd.0", "came from a backup"):
        assert part in shown.out, part
    for part in ("flared restore", "flarectl node orphans data1 --delete"):
        assert part in shown.err
    (record,) = lines(run("node", "orphans", "data1", "--json").out)
    assert record["held"] == 4000
    refused = run("node", "orphans", "data1", "--delete")
    assert (refused.code, "--yes" in refused.err) == (6, True)
    assert not api.allowed
    assert run("node", "orphans", "data1", "--delete", "--yes").code == 0
    assert lines(run("node", "orphans", "data1", "--delete", "--yes", "--json").out)[0]["allowed"] == 4000
    assert api.allowed == ["node=data1&pieces=4000"] * 2


def test_a_removed_node_may_return(api: FakeApi, run: Run) -> None:
    assert "may return" in run("node", "add", "data1").err
    assert lines(run("node", "add", "data1", "--json").out) == [{"welcome": "data1"}]


def test_json_tells_of_each_thing_and_sums_up(api: FakeApi, run: Run, tree: Path) -> None:
    done = run("put", "tree/a.txt", "nothing", "x/", "--json")
    records = lines(done.out)
    assert done.code == 4
    assert any(record.get("done") == "put" and record["key"] == "x/a.txt" for record in records)
    assert any(record.get("name") == "nothing" and record["exit_code"] == 4 for record in records)
    assert "summary" in records[-1]


def test_an_etag_in_json_has_the_quotes_of_json_only(api: FakeApi, run: Run, tree: Path) -> None:
    put = lines(run("put", "tree/a.txt", "k", "--json").out)[0]
    etag = api.objects["default", "k"].etag
    assert put["etag"] == etag
    for words in (["get", "k", "out", "--json"], ["stat", "k", "--json"], ["ls", "--json"]):
        assert lines(run(*words).out)[0]["etag"] == etag


def test_a_version_is_a_number_in_all_json(api: FakeApi, run: Run, tree: Path) -> None:
    lines_of = [run("put", "tree/a.txt", "k", "--json"), run("get", "k", "out", "--json"), run("stat", "k", "--json")]
    lines_of += [run("ls", "--json", "k")]
    version = api.objects["default", "k"].version
    assert [lines(done.out)[0]["version"] for done in lines_of] == [version] * 4


def test_an_error_of_the_server_carries_its_request_id(api: FakeApi, run: Run) -> None:
    api.store("a", b"")
    api.answer_with("DELETE", "/object/a", 503, "QuorumNotReached", times=9)
    done = run("rm", "a")
    assert done.code == 5
    assert done.err == "flarectl: a: it is so (request r-1)\n"


def test_a_server_that_is_not_flare_is_said_to_be_none(api: FakeApi, run: Run) -> None:
    def html(handler: object) -> bool:
        handler.reply(404, b"<html>nginx")  # type: ignore[attr-defined]
        return True

    api.fail("GET", "/bucket", html, times=9)
    api.fail("HEAD", "/bucket", html, times=9)
    for words in (["ls"], ["stat", "a"], ["cat", "a"], ["get", "a"]):
        done = run(*words)
        assert done.code == 6
        assert f"{api.endpoint} is not an api node of Flare; is the endpoint right?" in done.err


def test_a_data_node_is_no_endpoint(api: FakeApi, run: Run) -> None:
    api.answer_with("GET", "/bucket", 404, "NoSuchPath", times=9)
    done = run("stat", "a")
    assert (done.code, "is the endpoint right?" in done.err) == (6, True)


def test_keys_cannot_write_to_the_terminal(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    api.store("a\x1b[2J\n", b"")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run("ls").out == "a\\x1b[2J\\n\n"
    assert "\\x1b" in run("rm", "b\x1b").err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(run: Run, shell: str) -> None:
    assert "_FLARECTL_COMPLETE" in run("completion", shell).out


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_no_cell_of_a_screen_is_cut(api: FakeApi, run: Run, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    advice = "on data1 (10.0.0.1): flared doctor; journalctl -u 'flared@*' -n 50"
    reason = "node data1 is suspect: silent for 5 min; unless it returns, its 1,234 pieces are rebuilt elsewhere"
    api.status = {"health": "degraded", "nodes": NODES, "reasons": [reason], "advice": [advice]}
    for command in (("status",), ("node", "ls"), ("node", "show", "data1")):
        shown = run(*command).out.splitlines()
        assert [
            line for line in shown if len(line) > columns and "journalctl" not in line and "systemctl" not in line
        ] == []
        assert "data1" in "\n".join(shown)
        assert "suspect" in "\n".join(shown)
    assert advice in run("status").out, "what is to be typed is never broken"


def test_a_screen_in_a_pipe_is_not_wrapped(api: FakeApi, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    reason = "node data1 is suspect " * 20
    api.status = {"health": "degraded", "nodes": NODES, "reasons": [reason.strip()]}
    assert reason.strip() in run("status").out


def test_a_whole_bucket_is_no_object(run: Run) -> None:
    assert run("cat", "bad:").err.startswith("flarectl: bad: is a whole bucket, not one object")


def test_a_link_to_nowhere_is_reported_as_one(api: FakeApi, run: Run) -> None:
    Path("link").symlink_to("gone")
    assert "link: it is a symbolic link to gone, which does not exist" in run("put", "link").err
    Path("dir").mkdir()
    Path("dir/link").symlink_to("gone")
    assert "dir/link: it is a symbolic link to gone, which does not exist" in run("put", "-r", "dir", "x/").err


def test_a_dry_run_looks_whether_it_is_there_and_says_would(api: FakeApi, run: Run) -> None:
    api.store("x", b"x")
    done = run("get", "--dry-run", "x", "gone", "missing", "out/")
    assert done.code == 4
    assert done.out == "would be got: x -> out/x\n"
    assert done.err.endswith("flarectl: 2 failed, 1 would be got\n")
