"""A few cycles of the soak test, which else goes on for as long as one likes: `make soak`."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_a_few_cycles(tmp_path: Path) -> None:
    numbers = {"--seed": 4, "--cycles": 2, "--rounds": 1, "--iterations": 10}
    command = [sys.executable, "-m", "soak", *map(str, chain.from_iterable(numbers.items()))]
    some = ["--doors", "command", "--variants", "as it was", "sigma_smooth"]
    done = subprocess.run(
        [*command, *some, "--work", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "cycles: 2, survived: 2" in done.stdout
    assert "all identical: True" in done.stdout
