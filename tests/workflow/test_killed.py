"""The command and the workflow, killed at random moments, or told to stop; `make test-kills`."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pyflowreg.simulation import SimulationConfig, simulate_session

from .conftest import Workspace, shared

THOROUGH = "PYFLOWREG_ALL_KILLS" in os.environ
MOMENTS = range(20 if THOROUGH else 2)
LONGER = SimulationConfig(n_recordings=2, n_frames=60, height=64, width=64)
FLOW = {
    "quality_setting": "quality",
    "iterations": 10,
    "reference_frames": [0, 1, 2, 3, 4, 5],
    "buffer_size": 6,
    "save_w": True,
}
OTHER_LEFTOVER = re.compile(r"final_results/\.|/\.(w_to_reference|stage[23]_\w+)-\w+\.tmp")
CLI = [sys.executable, "-m", "pyflowreg.session.cli", "run", "--config", "settings.yaml"]


def prepared(folder: Path) -> Workspace:
    workspace = Workspace(folder)
    workspace.configure(
        center="recording_02.tif", checkpoint_seconds=0.05, n_workers=1, flow_options=FLOW
    )
    return workspace


def files(workspace: Workspace) -> dict[str, bytes]:
    """Every result by its name, without pictures.

    What stages 2 and 3 have left under temporary names when they were killed does not count.
    """
    return {
        str(path.relative_to(workspace.root)): path.read_bytes()
        for folder in ("compensated_outputs", "final_results")
        for path in (workspace.root / folder).rglob("*")
        if path.is_file() and path.suffix != ".png" and not OTHER_LEFTOVER.search(str(path))
    }


@pytest.fixture(scope="session")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, worker_name: str
) -> tuple[Path, dict[str, bytes], dict[str, float]]:
    """Recordings, the results of a run at one go, and the seconds that it takes."""

    def make(folder: Path) -> None:
        simulate_session(LONGER, folder / "session")
        shutil.copytree(folder / "session", folder / "done" / "session")
        workspace = prepared(folder / "done")
        spans = []
        for command in (CLI, workspace.command()):
            shutil.rmtree(workspace.root / "compensated_outputs", ignore_errors=True)
            shutil.rmtree(workspace.root / "final_results", ignore_errors=True)
            started = time.monotonic()
            result = workspace.run(command)
            assert result.status == 0, result.text
            spans.append(time.monotonic() - started)
        (folder / "seconds").write_text(" ".join(map(str, spans)))

    folder = shared(tmp_path_factory, worker_name, "uninterrupted", make)
    cli, workflow = map(float, (folder / "seconds").read_text().split())
    seconds = {"cli": cli, "snakemake": workflow}
    return folder / "session", files(Workspace(folder / "done")), seconds


@pytest.fixture
def longer(tmp_path: Path, uninterrupted: Any) -> Workspace:
    shutil.copytree(uninterrupted[0], tmp_path / "session")
    return prepared(tmp_path)


def killed(workspace: Workspace, command: list[str], seconds: float) -> bool:
    """Run a command and kill it with all its processes; False if it was done before."""
    with subprocess.Popen(
        command,
        cwd=workspace.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert process.wait(seconds) == 0
            return False
        os.killpg(process.pid, signal.SIGKILL)
    return True


@pytest.mark.parametrize("seed", MOMENTS)
@pytest.mark.parametrize("door", ["cli", "snakemake"])
def test_killed_at_random_moments(
    longer: Workspace, uninterrupted: Any, door: str, seed: int
) -> None:
    _, whole, seconds = uninterrupted
    moments = random.Random(seed)
    command = CLI if door == "cli" else longer.command()
    for _ in range(2):
        if not killed(longer, command, moments.uniform(0.1, 0.9) * seconds[door]):
            break
        if door == "snakemake":
            assert longer.snakemake("--unlock").status == 0
    result = longer.run(command)
    assert result.status == 0, result.text
    made = files(longer)
    assert sorted(made) == sorted(whole)
    assert [name for name in whole if made[name] != whole[name]] == []


def lines_before(stream: Any, awaited: str) -> str:
    """Read lines until one is what is awaited."""
    lines = []
    for line in stream:
        if awaited in line:
            break
        lines.append(line)
    return "".join(lines)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_told_to_stop_it_saves_and_ends(tmp_path: Path, signum: int, status: int) -> None:
    frames = np.random.default_rng(0).integers(0, 4000, (400, 64, 64)).astype(np.uint16)
    (tmp_path / "session").mkdir()
    tifffile.imwrite(tmp_path / "session" / "long.tif", frames, photometric="minisblack")
    workspace = Workspace(tmp_path)
    # Nothing is saved by itself but the reference.
    workspace.configure(
        center=None,
        n_workers=2,
        checkpoint_seconds=3600,
        flow_options={**FLOW, "iterations": 100, "buffer_size": 20},
    )
    frame, awaited = 0, "The reference is moved"
    for _ in range(2):
        with subprocess.Popen(
            CLI, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stderr is not None
            before = lines_before(process.stderr, awaited)
            time.sleep(0.5)
            process.send_signal(signum)
            started = time.monotonic()
            _, text = process.communicate(timeout=60)
            assert process.returncode == status, before + text
            assert time.monotonic() - started < 5
        stopped = re.search(r"Stopped after frame ([0-9]+)", text)
        assert stopped, before + text
        assert int(stopped[1]) > frame
        frame = int(stopped[1])
        awaited = f"Going on from frame {frame} of 400."
