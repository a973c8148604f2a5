"""Ways to run a session, to kill the run, and to look at what it left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from pyflowreg.simulation import SimulationConfig

from .conftest import Workspace

THOROUGH = "PYFLOWREG_ALL_KILLS" in os.environ
LONGER = SimulationConfig(n_recordings=2, n_frames=60, height=64, width=64)
FLOW = {
    "quality_setting": "quality",
    "iterations": 10,
    "reference_frames": [0, 1, 2, 3, 4, 5],
    "buffer_size": 6,
    "save_w": True,
}
CLI = [sys.executable, "-m", "pyflowreg.session.cli", "run", "--config", "settings.yaml"]


def prepared(folder: Path) -> Workspace:
    workspace = Workspace(folder)
    workspace.configure(
        center="recording_02.tif", checkpoint_seconds=0.05, n_workers=1, flow_options=FLOW
    )
    return workspace


def files(workspace: Workspace) -> dict[str, bytes]:
    """Every file in the folders of results by its name, also those that should not be there."""
    return {
        str(path.relative_to(workspace.root)): path.read_bytes()
        for folder in ("compensated_outputs", "final_results")
        for path in (workspace.root / folder).rglob("*")
        if path.is_file()
    }


class Door:
    """One way to run the session, and to kill it.

    Parameters
    ----------
    name : str
        Who is killed: `cli`; `snakemake`, with all its processes; `main`, Snakemake's own process
        alone; `job`, one of its jobs.
    """

    def __init__(self, name: str, workspace: Workspace) -> None:
        self.name = name
        self.workspace = workspace
        self.command = CLI if name == "cli" else workspace.command()
        self.told = 0

    def kill(self, seconds: float) -> bool:
        """Run the command and kill it after some time; False if it, or the job, had ended."""
        with subprocess.Popen(
            self.command,
            cwd=self.workspace.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert process.wait(seconds) == 0
                return False
            if self.name == "job":
                return self._kill_job(process)
            hit = process.poll() is None
            (os.kill if self.name == "main" else os.killpg)(process.pid, signal.SIGKILL)
        return hit

    def _kill_job(self, process: subprocess.Popen[bytes]) -> bool:
        jobs = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if ".snakemake/scripts" in " ".join(child.cmdline()[1:2]):
                        jobs.append(child)
        for job in jobs[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                job.kill()
        return process.wait() != 0

    def go_on(self) -> None:
        """Run the same command to its end; orphans may make it wait."""
        for _ in range(20):
            result = self.workspace.run(self.command)
            if "but its jobs go on" not in result.text:
                break
            self.told += 1
        assert result.status == 0, result.text

    def leftovers(self) -> list[Path]:
        """What should not be there after a run."""
        state = self.workspace.folder / ".snakemake"
        found = [*state.glob("pyflowreg/*/head.json"), *state.glob("locks/*")]
        return found + [path for path in state.glob("incomplete/**/*") if path.is_file()]
