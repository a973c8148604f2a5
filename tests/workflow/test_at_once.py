"""Two runs of one session, by the command and the workflow, at the same time."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from pyflowreg.session import SessionConfig
from pyflowreg.session.locks import session_lock, video_lock
from pyflowreg.workflow.plan import Plan
from pyflowreg.workflow.run_owner import RunOwner

from .conftest import SETTINGS, Workspace
from .doors import CLI, THOROUGH, Door, files, prepared

TOLD = "is being worked on by process"
DEAD = {"host": os.uname().nodename, "pid": 2**22 + 5, "born": "1"}


def test_the_workflow_is_told_of_another_run(finished: Workspace) -> None:
    (finished.root / "final_results" / "aligned_recording_03.tif").unlink()
    before = files(finished)
    config = SessionConfig.from_mapping({**SETTINGS, "root": str(finished.root)})
    with session_lock(config, alone=True):
        held = files(finished)
        result = finished.snakemake()
        assert files(finished) == held, "nothing was removed or made"
    assert result.status != 0
    assert f"{TOLD} {os.getpid()}" in result.text
    assert "Traceback" not in result.text
    assert files(finished) == before


def test_jobs_of_a_killed_run_that_are_at_work(finished: Workspace, monkeypatch: Any) -> None:
    monkeypatch.chdir(finished.folder)
    plan = Plan.from_mapping(yaml.safe_load(Path("settings.yaml").read_text()))
    owner = RunOwner.of(plan)
    owner.path.parent.mkdir(parents=True)
    owner.path.write_text(str(DEAD).replace("'", '"'))
    Path("session/final_results/aligned_recording_03.tif").unlink()
    with video_lock(plan.config, "recording_02"):
        result = finished.snakemake()
    assert result.status != 0
    assert "but its jobs go on: the video of recording_02" in result.text
    assert f"process {os.getpid()} on" in result.text
    result = finished.snakemake()
    assert result.status == 0, result.text
    assert result.jobs == {"stage3_align": 1}
    assert not owner.path.exists()
    # Killed with nothing left to do, it leaves its note and the session's lock.
    owner.path.write_text(str(DEAD).replace("'", '"'))
    plan.paths.lock.touch()
    result = finished.snakemake()
    assert "Nothing to be done" in result.text
    assert not plan.paths.lock.exists()


SECONDS = {"cli": ("cli", "snakemake"), "snakemake": ("cli", "snakemake", "elsewhere")}
PAIRS = [(first, second) for first, seconds in SECONDS.items() for second in seconds]


@pytest.mark.skipif(not THOROUGH, reason="many runs; make test-kills")
@pytest.mark.parametrize("pair", PAIRS, ids=[" and ".join(pair) for pair in PAIRS])
def test_two_at_once(tmp_path: Path, session_copy: Any, tally: Any, pair: tuple[str, str]) -> None:
    moments = random.Random(str(pair))
    for number in range(5):
        workspace, whole, seconds = session_copy(tmp_path / str(number))
        first = start(workspace, pair[0])
        time.sleep(moments.uniform(0, seconds["cli"]))
        second = start(workspace, pair[1])
        texts = [process.communicate()[0] for process in (first, second)]
        statuses = [first.returncode, second.returncode]
        told = [TOLD in text or "cannot be locked" in text for text in texts]
        # Whoever was not told has finished.
        assert [status == 0 for status in statuses] == [not one for one in told], texts
        assert not all(told), texts
        assert files(workspace) == whole
        tally(f"two at once: {' and '.join(pair)}", tried=1, told=sum(told), identical=1)
        Door("cli" if pair[0] == "cli" else "snakemake", workspace).go_on()
        assert files(workspace) == whole


def start(workspace: Workspace, door: str) -> subprocess.Popen[str]:
    folder = workspace.folder
    command = CLI if door == "cli" else workspace.command()
    if door == "elsewhere":
        folder = workspace.folder / "elsewhere"
        folder.mkdir()
        for name in ("session", "settings.yaml"):
            (folder / name).symlink_to(workspace.folder / name)
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def session_copy(uninterrupted: Any) -> Any:
    """Makes workspaces with nothing done; also what they will hold and how long it takes."""
    session, whole, seconds = uninterrupted

    def make(folder: Path) -> tuple[Workspace, dict[str, bytes], dict[str, float]]:
        shutil.copytree(session, folder / "session")
        return prepared(folder), whole, seconds

    return make
