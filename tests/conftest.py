"""Counts that tests keep, such as kills survived, as a table at the end."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "PYFLOWREG_TEST_COUNTS"


def pytest_configure(config: pytest.Config) -> None:
    """Make the file that all processes of this run append to."""
    if not hasattr(config, "workerinput"):
        descriptor, os.environ[VARIABLE] = tempfile.mkstemp(".jsonl", "pyflowreg-test-counts-")
        os.close(descriptor)


@pytest.fixture(scope="session")
def tally() -> Callable[..., None]:
    """Add to counts: tally("what", tried=1, survived=1)."""

    def add(name: str, **counts: int) -> None:
        with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, {k: int(v) for k, v in counts.items()}]) + "\n")

    return add


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write the table."""
    path = Path(os.environ[VARIABLE])
    totals: dict[str, Counter[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, counts = json.loads(line)
        totals.setdefault(name, Counter()).update(counts)
    path.unlink()
    if totals:
        terminalreporter.section("counts")
    for name, counts in sorted(totals.items()):
        shown = ", ".join(f"{what} {count}" for what, count in counts.items())
        terminalreporter.write_line(f"{name}: {shown}")
