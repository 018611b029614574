"""The command line of the daemon. Each command imports only what it needs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flared import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flared.commands.init import InitOptions

EXIT_FAILURE = 1
EXIT_MISTAKES = 2
"""For mistakes in the command line or a TOML file; argparse uses it too."""
LINE_CHARS_MAX = 8192
"""Longest join token read from standard input: twice the longest possible."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``flared``; return the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    # A node catches its own signals; Ctrl-C of any other command ends here.
    try:
        if options.command == "check-config":
            return check_config(options.file, options.hand_over)
        if options.command == "init":
            return init(options)
        if options.command == "prepare":
            return prepare(options.file, options.new)
        if options.command == "renew-certificates":
            return renew_certificates(options.files, force=options.force)
        if options.command in ("backup", "restore"):
            return copy_metadata(options)
        if options.command == "doctor":
            from flared.commands.doctor.command import run_doctor

            return run_doctor(options.files, as_json=options.json)
        if options.command == "local":
            return local(options)
        if options.command == "demo":
            from flared.commands.demo.command import run_demo

            return run_demo(options.files, options.keep)
    except KeyboardInterrupt:
        return 130
    if options.config is None:  # --config cannot be required: only `flared --config FILE`, without a command, needs it
        parser.print_usage(sys.stderr)
        print("flared: nothing to do: give --config FILE or a command; --help lists the commands", file=sys.stderr)
        return EXIT_MISTAKES
    return run(options.config)


class _Parser(argparse.ArgumentParser):
    """Refuses an empty argument or option of any command.

    A failed ``$(command)`` must not create the secret of a new cluster, or name the current directory.
    """

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:  # type: ignore[explicit-any]  # argparse's own
        if options.get("action", "store") in ("store", "append") and options.get("type", str) in (str, Path):
            options["type"] = _named_path if options.get("type") is Path else _named
        return super().add_argument(*names, **options)


def _named(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; was a variable not set, or did a $(command) fail?")
    return text


def _named_path(text: str) -> Path:
    return Path(_named(text))


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="flared",
        description="Flare's daemon: runs an api node or a data node, as its TOML file says.",
        epilog="Manual pages: flared(8), flared.toml(5). The client is flarectl(1).",
    )
    parser.add_argument("--version", action="version", version=f"flared {__version__}")
    parser.add_argument("--config", metavar="FILE", type=Path, help="run the node that this TOML file describes")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    check = commands.add_parser("check-config", help="name every mistake in a TOML file")
    check.add_argument("file", metavar="FILE", type=Path)
    check.add_argument("--hand-over", metavar="DIR", type=Path, help="put a copy of the secret here, for its owner")
    _add_init(commands.add_parser("init", help="write the TOML file of a node, and create what it needs"))
    ready = commands.add_parser("prepare", help="create what a TOML file names: volumes, systemd's drop-ins")
    ready.add_argument("file", metavar="FILE", type=Path)
    ready.add_argument(
        "--new", metavar="DIR", type=Path, action="append", default=[], help="a new disk is mounted here"
    )
    renew = commands.add_parser("renew-certificates", help="make or renew what the cluster's own authority makes")
    renew.add_argument("files", metavar="FILE", type=Path, nargs="*", help="default: /etc/flare/*.toml")
    renew.add_argument("--force", action="store_true", help="also a certificate that is good for long")
    _add_backup(commands.add_parser("backup", help="copy the metadata of an api node, which may be running"))
    back = commands.add_parser("restore", help="replace the metadata of a stopped api node by a backup")
    back.add_argument("--config", metavar="FILE", type=Path, required=True, dest="file", help="the node's TOML file")
    back.add_argument("path", metavar="SOURCE", type=Path, help="a backup; it stays unchanged")
    back.add_argument("--cut-log", action="store_true", help="SOURCE has a damaged log: use the part before the damage")
    doctor = commands.add_parser("doctor", help="show what is wrong with this host, and what to type")
    where = "default: /etc/flare/*.toml"
    doctor.add_argument("--config", metavar="FILE", type=Path, action="append", default=[], dest="files", help=where)
    doctor.add_argument("--json", action="store_true", help="JSON, one line for each finding")
    cluster = commands.add_parser("local", help="run a small cluster on this machine, until Ctrl-C")
    cluster.add_argument("--dir", metavar="DIR", type=Path, required=True, help="holds the TOML files and all data")
    cluster.add_argument("--nodes", metavar="N", type=int, help="data nodes; default 3")
    cluster.add_argument("--port", metavar="PORT", type=int, help="the api node's; default 8000")
    cluster.add_argument("--s3-port", metavar="PORT", type=int, help="for S3; default 8333")
    cluster.add_argument("--data-port", metavar="PORT", type=int, help="the first data node's; default 9000")
    cluster.add_argument("--scheme", metavar="S", help="scheme of new buckets; default replica:N, N at most 3")
    demo = commands.add_parser("demo", help="show a cluster at work on real files, with a node killed")
    demo.add_argument(
        "files", metavar="FILE", type=Path, nargs="*", help="what to store; default: some of this machine"
    )
    demo.add_argument("--keep", metavar="DIR", type=Path, help="leave the cluster's directory behind, here")
    return parser


def _add_init(parser: argparse.ArgumentParser) -> None:
    roles = parser.add_subparsers(dest="role", metavar="api|data", required=True)
    api = roles.add_parser("api", help="an api node; creates the secret of the cluster")
    data = roles.add_parser("data", help="a data node")
    for role in (api, data):
        where = "default: /etc/flare/ROLE.toml, else ROLE.toml; - prints it with all defaults"
        role.add_argument("file", metavar="FILE", type=Path, nargs="?", help=where)
        role.add_argument("--name", metavar="NAME", help="the node's identity for life")
        role.add_argument("--listen", metavar="HOST:PORT", help="0.0.0.0:PORT: on every interface")
        role.add_argument("--secret-file", metavar="FILE", type=Path, help="the secret of an existing cluster")
    api.add_argument("--s3-listen", metavar="HOST:PORT", help="where S3 is spoken; default port 8333")
    api.add_argument("--tls", action="store_true", help="make an authority for the cluster, and a certificate")
    api.add_argument("--scheme", metavar="S", help="scheme of new buckets; default replica:3")
    api.add_argument("--anonymous", metavar="WHAT", help="access without the secret: none, read or read-write")
    data.add_argument(
        "--join",
        metavar="TOKEN",
        help="what `flarectl node invite` printed; - reads it from standard input",
    )
    data.add_argument("--api", metavar="URL", action="append", default=[], help="URL of an api node")
    data.add_argument("--volume", metavar="DIR", type=Path, action="append", default=[], help="one for each disk")
    data.add_argument("--advertise", metavar="HOST:PORT", help="where the api node reaches this one")
    data.add_argument("--zone", metavar="ZONE", help="name shared by nodes that fail together")


def _add_backup(parser: argparse.ArgumentParser) -> None:
    # It needs another dest than the --config that runs a node: with one dest, argparse would overwrite the value.
    parser.add_argument("--config", metavar="FILE", type=Path, required=True, dest="file", help="the node's TOML file")
    parser.add_argument("--keep", metavar="N", type=int, help="TARGET is a directory that keeps the last N backups")
    parser.add_argument("--overwrite", action="store_true", help="replace TARGET if it exists")
    parser.add_argument("path", metavar="TARGET", type=Path, help="the file to write")


def run(file: Path) -> int:
    """Run one node until a signal stops it."""
    from flared.config.load import load_config
    from flared.errors import ConfigError

    try:
        config = load_config(file)
    except ConfigError as error:
        return _show_mistakes(error)
    from flared.daemon import run_node

    return run_node(config, file)


def check_config(file: Path, directory: Path | None = None) -> int:
    """Report every mistake in the file. ``directory``: put a copy of the secrets there for the running node."""
    from flared.commands import units
    from flared.config.load import load_config
    from flared.errors import ConfigError

    try:
        config = load_config(file, handed=directory is None)
    except ConfigError as error:
        return _show_mistakes(error)
    # systemd calls this at a reload, which must fail if the file contradicts the drop-ins that systemd has loaded.
    if units.is_service(file):
        stale = units.stale(units.drop_ins(config, file))
        if stale:
            return _show_mistakes(ConfigError([*stale, f"make it agree with the file: flared prepare {file}"]))
    if directory is not None:
        from flared.commands.certificates import seal_authority
        from flared.commands.prepare import hand_over

        try:
            seal_authority(config, print)
            hand_over(config, file, directory)
        except OSError as error:
            return _fail(f"{directory}: {error.strerror}")
    print(f"{file}: no mistakes")
    return 0


def init(options: argparse.Namespace) -> int:
    from flared.commands import units
    from flared.commands.init import default_file, init_api, init_data
    from flared.commands.prepare import NotPrepared
    from flared.errors import ConfigError

    # Refuse what contradicts itself before anything is written, and before a join token is used up.
    role: str = options.role
    if options.file == Path("-"):
        return _show_template(options)
    if role == "data" and options.join and options.secret_file:
        return _fail("init data: --join fetches the secret: leave out --secret-file", EXIT_MISTAKES)
    file: Path = options.file or default_file(role)
    init_role = init_api if role == "api" else init_data
    try:
        init_role(file, _init_options(options), print)
    except ConfigError as error:
        return _show_mistakes(error)
    except NotPrepared as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or file}: {error.strerror}")
    start = f"systemctl enable --now flared@{file.stem}" if units.is_service(file) else f"flared --config {file}"
    print(f"start the node with: {start}")
    return 0


def _show_template(options: argparse.Namespace) -> int:
    from flared.config.templates import API_TEMPLATE, DATA_TEMPLATE

    beside = [name for name, value in vars(options).items() if value and name not in ("command", "role", "file")]
    if beside:
        option = f"--{beside[0].replace('_', '-')}"
        return _fail(f"init {options.role} - prints the file with all defaults; leave out {option}", EXIT_MISTAKES)
    sys.stdout.write(API_TEMPLATE if options.role == "api" else DATA_TEMPLATE)
    return 0


def _init_options(options: argparse.Namespace) -> InitOptions:
    """Return the options of ``init``; read a join token of ``-`` from standard input."""
    from flared.commands.init import InitOptions
    from flared.commands.prepare import NotPrepared

    chosen = InitOptions(options.name or "", options.listen or "", options.secret_file)
    if options.role == "api":
        return replace(
            chosen,
            s3_listen=options.s3_listen or "",
            scheme=options.scheme or "",
            anonymous=options.anonymous or "",
            tls=options.tls,
        )
    word = sys.stdin.readline(LINE_CHARS_MAX) if options.join == "-" else options.join or ""
    if options.join and not word.strip():
        raise NotPrepared("--join -: standard input is empty; did `flarectl node invite` fail?")
    return replace(
        chosen,
        api=options.api,
        advertise=options.advertise or "",
        zone=options.zone or "",
        volumes=options.volume,
        join=word.strip(),
    )


def prepare(file: Path, new: Sequence[Path]) -> int:
    from flared.commands.prepare import NotPrepared
    from flared.commands.prepare import prepare as prepare_node
    from flared.config.load import load_config
    from flared.errors import ConfigError

    try:
        prepare_node(load_config(file), file, [path.absolute() for path in new], print)
    except ConfigError as error:
        return _show_mistakes(error)
    except (NotPrepared, ValueError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or file}: {error.strerror}")
    print(f"{file}: the host is prepared")
    return 0


def renew_certificates(files: Sequence[Path], *, force: bool) -> int:
    """Renew the certificates that these TOML files name, and have the nodes that run take them over."""
    from flared.commands import units
    from flared.commands.certificates import reload_node, renew
    from flared.commands.prepare import NotPrepared
    from flared.config.load import load_config
    from flared.errors import ConfigError

    failed = 0
    for file in files or sorted(units.CONFIGURATION.glob("*.toml")):
        try:
            if renew(load_config(file, handed=False), file, print, force=force):
                reload_node(file, print)
        except ConfigError as error:
            failed = max(failed, _show_mistakes(error))
        except NotPrepared as error:
            failed = max(failed, _fail(str(error)))
        except OSError as error:
            failed = max(failed, _fail(f"{error.filename or file}: {error.strerror}"))
    return failed


def copy_metadata(options: argparse.Namespace) -> int:
    """Run ``flared backup`` or ``flared restore``; return the exit code."""
    import sqlite3

    from flared.commands.backup import NotDone, back_up, restore
    from flared.config.load import load_config
    from flared.errors import Busy, ConfigError, FlareError

    try:
        config = load_config(options.file)
    except ConfigError as error:
        return _show_mistakes(error)
    # The errors below are expected ones, so each ends as a sentence; anything else is a bug and keeps its traceback.
    try:
        if options.command == "restore":
            restore(config, options.path, print, cut_log=options.cut_log)
        elif options.keep is not None and options.keep < 1:
            return _fail(f"--keep {options.keep}: must be at least 1", EXIT_MISTAKES)
        else:
            back_up(config, options.path, keep=options.keep, overwrite=options.overwrite, say=print)
    except Busy as error:
        return _fail(f"{error}: stop the node and its socket unit, which would start it again")
    except (NotDone, FlareError) as error:
        return _fail(str(error))
    except sqlite3.Error as error:
        return _fail(f"the metadata or its copy: {error}")
    except OSError as error:
        return _fail(f"{error.filename or options.path}: {error.strerror}")
    return 0


def local(options: argparse.Namespace) -> int:
    from flared.commands.local import NODES_MAX, open_directory, start
    from flared.errors import Busy, ConfigError, FlareError

    if options.nodes is not None and not 1 <= options.nodes <= NODES_MAX:
        return _fail(f"--nodes {options.nodes}: must be from 1 to {NODES_MAX}", EXIT_MISTAKES)
    ports = {"port": options.port, "s3_port": options.s3_port, "data_port": options.data_port}
    wanted = {"nodes": options.nodes, **ports}
    try:
        with open_directory(options.dir):
            return start(options.dir, lambda line: print(line, flush=True), **wanted, scheme=options.scheme)
    except ConfigError as error:
        return _show_mistakes(error)
    except Busy as error:
        return _fail(str(error))
    except FlareError as error:
        return _fail(str(error), EXIT_MISTAKES)
    except OSError as error:
        return _fail(f"{options.dir}: {error.strerror}")


def _show_mistakes(error: Exception) -> int:
    print(error, file=sys.stderr)
    return EXIT_MISTAKES


def _fail(sentence: str, code: int = EXIT_FAILURE) -> int:
    print(f"flared: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
