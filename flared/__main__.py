"""The command line of the daemon. Each command imports only what it needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flared import __version__

EXIT_FAILURE = 1
EXIT_MISTAKES = 2
"""A command line or a TOML file with mistakes; argparse uses it too."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``flared``; the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "check-config":
            return check_config(options.file)
        if options.command == "init":
            return init(options.role, options.file)
        if options.command == "local":
            return local(options)
        if options.command == "demo":
            from flared.demo import run_demo

            return run_demo(options.files, options.keep)
    except KeyboardInterrupt:
        return 130
    if options.config is None:
        parser.print_usage(sys.stderr)
        print("flared: say what to do: --config FILE, or one of the commands; --help explains them", file=sys.stderr)
        return EXIT_MISTAKES
    return run(options.config)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flared",
        description="Flare's daemon: an api node or a data node, as its TOML file says.",
        epilog="Manual pages: flared(8), flared.toml(5). The client is flarectl(1).",
    )
    parser.add_argument("--version", action="version", version=f"flared {__version__}")
    parser.add_argument("--config", metavar="FILE", type=Path, help="run the node that this TOML file describes")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    check = commands.add_parser("check-config", help="name every mistake in a TOML file")
    check.add_argument("file", metavar="FILE", type=Path)
    start = commands.add_parser("init", help="write a commented starting file")
    start.add_argument("role", choices=("api", "data"))
    start.add_argument("file", metavar="FILE", type=Path, nargs="?", help="default: ROLE.toml; - is standard output")
    cluster = commands.add_parser("local", help="run a little cluster on this machine, until Ctrl-C")
    cluster.add_argument("--dir", metavar="DIR", type=Path, required=True, help="holds the TOML files and all data")
    cluster.add_argument("--nodes", metavar="N", type=int, help="data nodes; default 3")
    cluster.add_argument("--port", metavar="PORT", type=int, help="of the api node; default 8000")
    cluster.add_argument("--data-port", metavar="PORT", type=int, help="of the first data node; default 9000")
    cluster.add_argument("--scheme", metavar="S", help="of new buckets; default replica:N, N at most 3")
    demo = commands.add_parser("demo", help="show a cluster at work on real files, with a node killed")
    demo.add_argument(
        "files", metavar="FILE", type=Path, nargs="*", help="what to store; default: some of this machine"
    )
    demo.add_argument("--keep", metavar="DIR", type=Path, help="leave the cluster's directory behind, here")
    return parser


def run(file: Path) -> int:
    """Run one node until it is told to stop."""
    from flared.config import load_config
    from flared.errors import ConfigError

    try:
        config = load_config(file)
    except ConfigError as error:
        return _show_mistakes(error)
    from flared.daemon import run_node

    return run_node(config, file)


def check_config(file: Path) -> int:
    from flared.config import load_config
    from flared.errors import ConfigError

    try:
        load_config(file)
    except ConfigError as error:
        return _show_mistakes(error)
    print(f"{file}: no mistakes")
    return 0


def init(role: str, file: Path | None) -> int:
    from flared.config import API_TEMPLATE, DATA_TEMPLATE

    template = API_TEMPLATE if role == "api" else DATA_TEMPLATE
    if file == Path("-"):
        sys.stdout.write(template)
        return 0
    file = file or Path(f"{role}.toml")
    try:
        with open(file, "x", encoding="utf-8") as output:
            output.write(template)
    except FileExistsError:
        return _fail(f"{file} is there already; it is not touched")
    except OSError as error:
        return _fail(f"{file} cannot be written: {error.strerror}")
    print(f"{file} is written; start the node with: flared --config {file}")
    return 0


def local(options: argparse.Namespace) -> int:
    from flared.errors import Busy, ConfigError, FlareError
    from flared.local import NODES_MAX, open_directory, prepare, run_local

    if options.nodes is not None and not 1 <= options.nodes <= NODES_MAX:
        return _fail(f"--nodes {options.nodes}: from 1 to {NODES_MAX}", EXIT_MISTAKES)
    wanted = {"nodes": options.nodes, "port": options.port, "data_port": options.data_port}
    try:
        with open_directory(options.dir):
            nodes = prepare(options.dir, **wanted, scheme=options.scheme)
            return run_local(nodes, lambda line: print(line, flush=True))
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
