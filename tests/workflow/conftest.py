"""Real Snakemake on tiny simulated sessions; one cold run is made once and copied."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyflowreg.simulation import SimulationConfig, simulate_session

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, Any] = {
    "root": "session",
    "pattern": "*.tif",
    "center": "recording_02.tif",
    "flow_options": {"quality_setting": "fast", "iterations": 10, "reference_frames": [0, 1, 2]},
    "iterations_between": 20,
}
TINY = SimulationConfig(n_recordings=3, n_frames=12, height=48, width=48)


@dataclass(frozen=True)
class Result:
    """Exit status and text of a command."""

    status: int
    text: str

    @property
    def jobs(self) -> dict[str, int]:
        """Jobs per rule, from Snakemake's table."""
        found = re.findall(r"^(\w+) +(\d+)$", self.text, flags=re.MULTILINE)
        return {rule: int(count) for rule, count in found if rule not in ("total", "all")}


@dataclass(frozen=True)
class Workspace:
    """A folder with a session and its settings."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "session"

    def configure(self, **changes: Any) -> None:
        text = yaml.safe_dump({**SETTINGS, **changes}, allow_unicode=True)
        (self.folder / "settings.yaml").write_text(text, encoding="utf-8")

    def command(self, *arguments: str, configfile: str | None = "settings.yaml") -> list[str]:
        settings = ["--configfile", configfile] if configfile else []
        snakefile = str(REPOSITORY / "Snakefile")
        start = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--cores", "2"]
        return [*start, *settings, *arguments]

    def snakemake(self, *arguments: str, configfile: str | None = "settings.yaml") -> Result:
        return self.run(self.command(*arguments, configfile=configfile))

    def dry_run(self) -> Result:
        return self.snakemake("--dry-run", "--quiet", "rules")

    def cli_command(self, *arguments: str) -> list[str]:
        start = [sys.executable, "-m", "pyflowreg.session.cli", "run"]
        return [*start, "--config", "settings.yaml", *arguments]

    def cli(self, *arguments: str) -> Result:
        return self.run(self.cli_command(*arguments))

    def run(self, command: list[str], **environment: str) -> Result:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return Result(done.returncode, done.stdout)


def shared(
    factory: pytest.TempPathFactory, worker: str, name: str, make: Callable[[Path], None]
) -> Path:
    """Make a folder once, also when several processes run tests."""
    base = factory.getbasetemp()
    base = base.parent if worker != "master" else base
    folder = base / name
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / ".made").touch()
    return folder


@pytest.fixture(scope="session")
def worker_name() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "master")


@pytest.fixture(scope="session")
def raw_session(tmp_path_factory: pytest.TempPathFactory, worker_name: str) -> Path:
    """Folder with `session/`, never processed."""

    def make(folder: Path) -> None:
        simulate_session(TINY, folder / "session")

    return shared(tmp_path_factory, worker_name, "raw", make)


@pytest.fixture(scope="session")
def finished_session(
    tmp_path_factory: pytest.TempPathFactory, worker_name: str, raw_session: Path
) -> Path:
    """Folder in which the workflow ran to its end, with its output in `output.txt`."""

    def make(folder: Path) -> None:
        shutil.copytree(raw_session / "session", folder / "session")
        workspace = Workspace(folder)
        workspace.configure()
        result = workspace.snakemake()
        assert result.status == 0, result.text
        (folder / "output.txt").write_text(result.text)

    return shared(tmp_path_factory, worker_name, "finished", make)


@pytest.fixture
def fresh(tmp_path: Path, raw_session: Path) -> Workspace:
    """A session nothing was done with."""
    shutil.copytree(raw_session / "session", tmp_path / "session")
    workspace = Workspace(tmp_path)
    workspace.configure()
    return workspace


@pytest.fixture
def finished(tmp_path: Path, finished_session: Path) -> Workspace:
    """A copy of a finished session, with all times and Snakemake's records."""
    shutil.copytree(finished_session, tmp_path, dirs_exist_ok=True)
    return Workspace(tmp_path)
