"""The rules of the architecture: arrows point down, no circles, pure rooms import no I/O."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Top to bottom; a room imports only from lines below its own.
LAYERS = [
    {"__main__"},
    {"commands"},
    {"api_worker"},
    {"daemon"},
    {"api_role", "data_role"},
    {"api_process", "api_reports"},
    {"role"},
    {"workers"},
    {"config"},
    {"api"},
    {"upkeep"},
    {"objects"},
    {"catalog"},
    {"meta", "chunks"},
    {"data"},
    {"access"},
    {"http", "cluster"},
    {"errors", "names", "log", "metrics", "background", "systemd", "findings"},
]
FOUNDATION = LAYERS[-1]
# Inside data/ the same holds, from what carries pieces down to what keeps them; the files beside are shared values.
DATA_ROOMS = ["transport", "volume", "index", "disk"]
# So does it inside upkeep/: what reads all rooms, the rooms, and below them what they share.
UPKEEP_ROOMS = [
    "status",
    "failure",
    "workers",
    "problems",
    "removal",
    "deletion",
    "repair",
    "membership",
    "survey",
    "walk",
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
# Values that both ends of a wire share stand beside the rooms of data/, not inside them.
FLARECTL_MAY_IMPORT = {"http", "chunks", "access", "errors", "names", "findings", "data.pieces", "data.report"}
PURE = {"cluster", "access"}
IMPURE_MODULES = {"trio", "socket", "time", "random", "secrets", "os", "threading"}


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file; `from a import b` counts as a and as a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def files_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "flared").parts
    return parts[0].removesuffix(".py")


def modules_of(imports: set[str]) -> set[Path]:
    """The project's files that these imports name."""
    files = set()
    for name in imports:
        path = ROOT / name.replace(".", "/")
        if path.with_suffix(".py").is_file():
            files.add(path.with_suffix(".py"))
    return files


@pytest.mark.parametrize("path", [p for p in files_of("flared") if p.name != "__init__.py"], ids=str)
def test_arrows_point_down(path: Path) -> None:
    room = room_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "flarectl":
            pytest.fail(f"{path}: the daemon never imports its client")
        if parts[0] != "flared" or len(parts) < 2 or parts[1] == "__version__":
            continue
        target = parts[1]
        if target == room or (target in FOUNDATION and room in FOUNDATION):
            continue
        assert LEVEL[room] < LEVEL[target], f"{path.name} in {room} imports {name}, which is not below it"


@pytest.mark.parametrize("package", ["data", "upkeep"])
def test_arrows_point_down_inside(package: str) -> None:
    rooms = {"data": DATA_ROOMS, "upkeep": UPKEEP_ROOMS}[package]
    house = ROOT / "flared" / package

    def depth_of(path: Path) -> int:
        room = path.relative_to(house).parts[0].removesuffix(".py")
        return rooms.index(room) if room in rooms else len(rooms)

    for path in files_of(f"flared/{package}"):
        for target in modules_of(imports_of(path)):
            if target.is_relative_to(house):
                assert depth_of(path) <= depth_of(target), f"{path}: {target.name} is not below it"


def test_no_circles() -> None:
    graph = {path: modules_of(imports_of(path)) for package in ("flared", "flarectl") for path in files_of(package)}
    done: set[Path] = set()

    def walk(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, "circle: " + " -> ".join(str(p.relative_to(ROOT)) for p in (*trail, path))
        if path not in done:
            for target in graph.get(path, ()):
                walk(target, (*trail, path))
            done.add(path)

    for path in graph:
        walk(path, ())


@pytest.mark.parametrize("room", sorted(PURE))
def test_pure_rooms_do_no_input_or_output(room: str) -> None:
    for path in files_of(f"flared/{room}"):
        impure = {name.split(".")[0] for name in imports_of(path)} & IMPURE_MODULES
        assert not impure, f"{path} imports {impure}"


def test_flarectl_stands_beside_the_daemon() -> None:
    for path in files_of("flarectl"):
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] != "flared" or len(parts) < 2 or parts[1] == "__version__":
                continue
            assert parts[1] in FLARECTL_MAY_IMPORT or ".".join(parts[1:3]) in FLARECTL_MAY_IMPORT, f"{path}: {name}"


def test_every_file_is_known_to_a_layer() -> None:
    assert {room_of(path) for path in files_of("flared")} - {"__init__"} <= set(LEVEL)
