"""The command and the workflow, killed at random moments, or told to stop; `make test-kills`."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from .conftest import Workspace
from .doors import CLI, FLOW, THOROUGH, Door, files, prepared

ROUNDS, EACH = (3, 10) if THOROUGH else (1, 1)
"""Tests of a door, and kills in each that have to hit."""


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize("name", ["cli", "snakemake", "main", "job"] if THOROUGH else ["cli"])
def test_killed_at_random_moments(
    tmp_path: Path, uninterrupted: Any, tally: Any, name: str, round_: int
) -> None:
    session, whole, seconds = uninterrupted
    moments = random.Random(f"{name} {round_}")
    span = seconds["cli" if name == "cli" else "snakemake"]
    landed = 0
    what = f"killed at random: {name}"
    for number in range(10 * EACH):
        folder = tmp_path / str(number)
        shutil.copytree(session, folder / "session")
        door = Door(name, prepared(folder))
        hit = door.kill(moments.uniform(0, span))
        door.go_on()
        made = files(door.workspace)
        assert sorted(made) == sorted(whole)
        assert [name for name in whole if made[name] != whole[name]] == []
        assert door.leftovers() == []
        shutil.rmtree(folder)
        landed += hit
        tally(what, tried=1, landed=hit, survived=hit, identical=1, told_to_wait=door.told)
        if landed == EACH:
            return
    pytest.fail("most kills came too late")


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
    frames = np.random.default_rng(0).integers(0, 4000, (2000, 64, 64)).astype(np.uint16)
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
    frames_done, awaited = [0], "The reference is moved"
    for seconds in (0.5, 1, 2, 4, 8):  # the more, the slower the machine is just now
        with subprocess.Popen(
            CLI, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stderr is not None
            before = lines_before(process.stderr, awaited)
            time.sleep(seconds)
            process.send_signal(signum)
            started = time.monotonic()
            _, text = process.communicate(timeout=60)
            assert process.returncode == status, before + text
            assert time.monotonic() - started < 10
        stopped = re.search(r"Stopped after frame ([0-9]+)", text)
        assert stopped, before + text
        frame = int(stopped[1])
        awaited = f"Going on from frame {frame} of 2000."
        if frame > frames_done[-1]:
            frames_done.append(frame)
        if len(frames_done) == 3:
            return
    pytest.fail(f"no progress after frame {frames_done[-1]}")
