"""Runs that are stopped, and go on from the files they made."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import pytest


def stop_after_first_stage1(workspace: Any, how: signal.Signals) -> None:
    """Run the workflow and stop it, with its jobs, when one recording is through stage 1."""
    with subprocess.Popen(
        workspace.command(),
        cwd=workspace.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Finished jobid" in line and "stage1_compensate" in line:
                os.killpg(process.pid, how)
                break
        process.communicate()
    assert process.returncode != 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_goes_on_from_finished_recordings(fresh: Any, how: signal.Signals) -> None:
    # One thread per job and two at a time: a second recording is being corrected when it stops.
    fresh.configure(n_workers=1)
    stop_after_first_stage1(fresh, how)
    partial = [path.name for path in fresh.root.rglob("final_valid_idx.*")]
    assert partial == []
    if how is signal.SIGKILL:
        assert fresh.snakemake("--unlock").status == 0
    result = fresh.snakemake()
    assert result.status == 0, result.text
    assert 1 <= result.jobs["stage1_compensate"] <= 2
    assert len(list((fresh.root / "final_results").glob("aligned_*.tif"))) == 3
    assert "Nothing to be done" in fresh.dry_run().text


def test_a_failing_job_shows_its_message_and_the_others_are_kept(fresh: Any) -> None:
    # The header is fine, the last page is not: only reading all frames can tell.
    path = fresh.root / "recording_03.tif"
    data = bytearray(path.read_bytes())
    fresh.configure(output_root="results")
    blocked = fresh.root / "results" / "recording_03" / "compensated.hdf5"
    blocked.mkdir(parents=True)
    (blocked / "in_the_way").write_text("")
    result = fresh.snakemake("--keep-going")
    assert result.status != 0
    assert "recording_03" in result.text
    assert (fresh.root / "results" / "recording_01" / "compensated.hdf5").is_file()
    assert path.read_bytes() == bytes(data)
    (blocked / "in_the_way").unlink()
    blocked.rmdir()
    result = fresh.snakemake()
    assert result.status == 0, result.text
    assert result.jobs["stage1_compensate"] == 1
