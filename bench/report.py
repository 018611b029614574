"""The report: figures beside their goals, as a table and as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One row. ``ratio`` is to the yardstick; goals are lower bounds of it unless ``at_most``."""

    name: str
    value: float
    unit: str
    yardstick: float | None = None
    goal: float | None = None
    at_most: bool = False
    details: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.value / self.yardstick if self.yardstick else None

    @property
    def holds(self) -> bool | None:
        """Return whether the goal is reached; None without one."""
        reached = self.value if self.ratio is None else self.ratio
        if self.goal is None:
            return None
        return reached <= self.goal if self.at_most else reached >= self.goal


DURABILITY = (
    "durable: a PUT is answered after the data node's fdatasync and the metadata's fsync (SQLite, synchronous=FULL); "
    "nginx writes nothing"
)


def text(figure: Figure) -> str:
    """One line of the table."""
    ratio = "" if figure.ratio is None else f"{figure.ratio:6.2f} x"
    goal = "" if figure.goal is None else f"{'<=' if figure.at_most else '>='} {figure.goal:g}"
    verdict = {None: "", True: "ok", False: "MISSED"}[figure.holds]
    details = "  ".join(f"{name} {value:.4g}" for name, value in figure.details.items())
    return f"{figure.name:<34} {figure.value:>9.4g} {figure.unit:<6} {ratio:>8} {goal:>8} {verdict:<6}  {details}"


HEADING = f"{'':<34} {'':>9} {'':<6} {'nginx':>8} {'goal':>8}"


def write_json(path: Path, figures: Sequence[Figure]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**dataclasses.asdict(figure), "ratio": figure.ratio, "holds": figure.holds} for figure in figures]
    path.write_text(json.dumps({"machine": machine(), "durability": DURABILITY, "figures": rows}, indent=1) + "\n")


def machine() -> dict[str, object]:
    """The environment that the figures depend on."""
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "revision": revision.stdout.strip(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
