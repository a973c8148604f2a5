"""Runs that are stopped, and go on from the files they made."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from typing import Any

import pytest


def heed_ctrl_c() -> None:
    """Undo that a shell starts background jobs with this signal ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop_after_first_stage1(workspace: Any, how: signal.Signals, alone: bool) -> None:
    """Run the workflow and stop it, or it alone, when one recording is through stage 1."""
    with subprocess.Popen(
        workspace.command(),
        cwd=workspace.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Finished jobid" in line and "stage1_compensate" in line:
                (os.kill if alone else os.killpg)(process.pid, how)
                break
        process.communicate()
    assert process.returncode != 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_goes_on_from_finished_recordings(fresh: Any, how: signal.Signals) -> None:
    # One thread per job and two at a time: a second recording is being corrected when it stops.
    fresh.configure(n_workers=1)
    stop_after_first_stage1(fresh, how, alone=how is signal.SIGKILL)
    if how is signal.SIGKILL:
        # Its jobs go on, and nobody takes its locks away, nor the marks of unfinished files.
        wait_for_recordings(fresh, 2)
    partial = [path.name for path in fresh.root.rglob("final_valid_idx.*")]
    assert partial == []
    result = fresh.snakemake()
    assert result.status == 0, result.text
    assert ("was killed; this one goes on" in result.text) == (how is signal.SIGKILL)
    expected = [1, 2] if how is signal.SIGINT else [1]
    assert result.jobs["stage1_compensate"] in expected
    assert len(list((fresh.root / "final_results").glob("aligned_*.tif"))) == 3
    assert "Nothing to be done" in fresh.dry_run().text


def wait_for_recordings(workspace: Any, count: int) -> None:
    """Wait until jobs that outlive their run have finished so many recordings in all."""
    started = time.monotonic()
    folder = workspace.root / "compensated_outputs"
    while len(list(folder.glob("*/stage1_*.json"))) < count or list(folder.glob("*/.checkpoint")):
        time.sleep(0.1)
        assert time.monotonic() - started < 120


def test_a_failing_job_takes_no_other_with_it(finished: Any) -> None:
    folder = finished.root / "compensated_outputs"
    for name in ("recording_02", "recording_03"):
        shutil.rmtree(folder / name)
    # A folder where the result should go: Snakemake does not remove one that is not empty.
    (folder / "recording_03" / "compensated.hdf5").mkdir(parents=True)
    (folder / "recording_03" / "compensated.hdf5" / "in_the_way").write_text("")
    result = finished.snakemake("--keep-going")
    assert result.status != 0
    assert "recording_03" in result.text
    assert (folder / "recording_02" / "compensated.hdf5").is_file()
    shutil.rmtree(folder / "recording_03")
    again = finished.dry_run()
    assert again.jobs["stage1_compensate"] == 1
