"""Attacks on real daemons: marked ``process`` and run alone on the machine, with the fixtures of ``tests/process``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.conftest import directory as directory
from tests.process.conftest import shared as shared
from tests.process.conftest import start as start

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.process)
