"""The table of changes with real runs of the command and of Snakemake: `make test-reruns`."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .changes import CHANGES, NOTHING, Change
from .lab import REPOSITORY, REVISION, Finished, Lab, expected_again

DOORS = ("command", "snakemake")
SECONDS = {"command": 4.0, "snakemake": 20.0}
ROWS = [change for change in CHANGES if not change.planned_only]
UNINTERRUPTED = ("scheduler", "output_root", "final_results", "root")

pytestmark = pytest.mark.skipif("PYFLOWREG_ALL_RERUNS" not in os.environ, reason="test-reruns")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("labs"))


@pytest.fixture(scope="module")
def revised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose numerics have another revision."""
    clone = tmp_path_factory.mktemp("revised") / "clone"
    for name in ("rules", "scripts", "envs", "profiles"):
        shutil.copytree(REPOSITORY / name, clone / name)
    shutil.copy(REPOSITORY / "Snakefile", clone)
    package = clone / "scripts" / "pyflowreg" / "__init__.py"
    lines = package.read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if line.startswith(REVISION))
    lines[number] += " + 1"
    package.write_text("\n".join(lines) + "\n")
    return clone


class Doors:
    """Runs the command or Snakemake in a session's folder, in processes of their own."""

    def __init__(self, lab: Lab, revised: Path) -> None:
        self.lab = lab
        self._revised = revised

    def start(self, door: str, *arguments: str) -> subprocess.Popen[str]:
        clone = self._revised if self.lab.revision else REPOSITORY
        start = [sys.executable, "-m", "pyflowreg.session.cli", "run", "--config", "settings.yaml"]
        if door == "snakemake":
            start = [sys.executable, "-m", "snakemake", "--snakefile", str(clone / "Snakefile")]
            start += ["--cores", "2", "--configfile", "settings.yaml"]
        return subprocess.Popen(
            [*start, *arguments],
            cwd=self.lab.folder,
            env={**os.environ, "PYTHONPATH": str(clone / "scripts")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, door: str, *arguments: str) -> str:
        """Run to the end."""
        if door == "command" and self.lab.settings.get("scheduler") == "array":
            self.lab.command()
            return ""
        with self.start(door, *arguments) as process:
            text, _ = process.communicate(timeout=300)
        assert process.returncode == 0, text
        return text

    def interrupt(self, door: str, how: int, seconds: float) -> None:
        """Begin, and end it with all its processes."""
        with self.start(door) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=seconds)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)
            process.communicate(timeout=60)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.run("snakemake", "--unlock")

    def has_nothing_to_do(self, door: str) -> bool:
        before = self.lab.stamps()
        if door == "snakemake":
            return "Nothing to be done" in self.run(door, "--dry-run")
        self.run(door)
        return self.lab.stamps() == before


@pytest.mark.parametrize("change", ROWS, ids=str)
@pytest.mark.parametrize("door", DOORS)
def test_a_change(
    finished: Finished, revised: Path, tmp_path: Path, change: Change, door: str
) -> None:
    lab = finished(change).copy(tmp_path / "changed")
    lab.apply(change)
    doors = Doors(lab, revised)
    other = DOORS[1 - DOORS.index(door)]
    with lab.watched() as watch:
        doors.run(door)
    redone = change.redone
    if door == "command" and change.by_command is not None:
        redone = change.by_command
    assert watch.redone == expected_again(redone, watch)
    if change.key != "resume":
        assert doors.has_nothing_to_do(other)
        assert doors.has_nothing_to_do(door)
    fresh = lab.emptied(tmp_path / "fresh")
    fresh.command()
    assert lab.differences(fresh) == []


def steps(change: Change, seed: int) -> Iterator[tuple[str, int, float]]:
    """Doors, signals, and shares of the time of a run."""
    moments = random.Random(f"{change} {seed}")
    for _ in range(2):
        how = moments.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        yield moments.choice(DOORS), how, moments.uniform(0.2, 0.9)


@pytest.mark.parametrize("onwards", [True, False], ids=["onwards", "back"])
@pytest.mark.parametrize(
    "change",
    [row for row in ROWS if row.redone != NOTHING and row.key not in UNINTERRUPTED],
    ids=str,
)
def test_an_interrupted_change(
    finished: Finished, revised: Path, tmp_path: Path, change: Change, onwards: bool
) -> None:
    base = finished(change)
    lab = base.copy(tmp_path / "changed")
    lab.apply(change)
    doors = Doors(lab, revised)
    fresh = lab.emptied(tmp_path / "fresh")
    fresh.command()
    for door, how, share in steps(change, int(onwards)):
        doors.interrupt(door, how, share * SECONDS[door])
    if not onwards:
        lab.undo(base, change)
    door = DOORS[len(str(change)) % 2]
    doors.run(door)
    assert lab.differences(fresh if onwards else base) == []
    assert doors.has_nothing_to_do(DOORS[1 - DOORS.index(door)])
