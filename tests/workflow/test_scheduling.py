"""What the process that schedules a large session does for each recording, whatever their number.

Counted, not timed: `tests/cluster/scale.py` measures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from pyflowreg.workflow.plan import MANY_RECORDINGS

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEDULING = Path(__file__).resolve().parent / "scheduling"
RECORDINGS = MANY_RECORDINGS + 10
ON_A_CLUSTER = [
    "--executor", "nothing",
    "--jobs", "500",
    "--scheduler", "greedy",
    "--max-jobs-per-timespan", "10000/1s",
    "--seconds-between-status-checks", "1",
    "--latency-wait", "5",
    "--quiet", "rules", "progress",
]  # fmt: skip

PROFILE = ["--default-resources", "mem_mb=1000"]


@dataclass(frozen=True)
class Run:
    """What Snakemake said, and how often its process opened which file."""

    text: str
    opened: dict[str, int]

    def times(self, part: str) -> list[int]:
        return [count for path, count in self.opened.items() if part in path]


@dataclass(frozen=True)
class Session:
    """A session of many tiny recordings."""

    folder: Path

    def snakemake(self, *arguments: str) -> Run:
        counts = self.folder / "counts.json"
        command = [sys.executable, str(SCHEDULING / "counted.py"), str(counts)]
        settings = ["--snakefile", str(REPOSITORY / "Snakefile"), "--configfile", "settings.yaml"]
        folders = [str(SCHEDULING), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [*command, *settings, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return Run(done.stdout, json.loads(counts.read_text()))


def make_session(folder: Path, recordings: int) -> Session:
    (folder / "session").mkdir()
    frames = np.zeros((2, 16, 16), np.uint16)
    for number in range(recordings):
        path = folder / "session" / f"recording_{number:03d}.tif"
        tifffile.imwrite(path, frames, photometric="minisblack")
    (folder / "settings.yaml").write_text("root: session\n")
    return Session(folder)


def check_work_per_recording(run: Run) -> None:
    # Snakemake computes the checksum of each small input once per output of a job: 9 in stage 1.
    assert max(run.times("session/recording_")) <= 12
    # 13. About 200 if that went for stages 2 and 3 as well, and growing with the recordings.
    assert max(run.times("inspect.json")) <= 15
    results = sum(run.times("compensated_outputs")) + sum(run.times("final_results"))
    assert results <= 50 * RECORDINGS


def check_size_of_notes(session: Session) -> None:
    notes = session.folder / ".snakemake" / "metadata"
    size = sum(path.stat().st_size for path in notes.rglob("*") if path.is_file())
    # 19 kB each. 140 kB with all inputs in every note, and growing.
    assert size <= 25_000 * RECORDINGS


def check_what_is_to_be_done(session: Session) -> None:
    again = session.snakemake("--dry-run", "--quiet", "rules").text
    assert "Nothing to be done" in again
    assert "stage" not in again.rpartition("Rules with missing metadata")[2]
    added = session.folder / "session" / "recording_999.tif"
    shutil.copy(session.folder / "session" / "recording_000.tif", added)
    after = session.snakemake("--dry-run", "--quiet", "rules").text
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", after, flags=re.MULTILINE))
    assert jobs["stage1_compensate"] == jobs["stage2_between_avgs"] == jobs["stage3_align"] == "1"


def check_what_a_dry_run_shows(session: Session, *cores: str) -> None:
    profile = [*PROFILE, *cores, "--quiet", "progress"]
    text = session.snakemake(*ON_A_CLUSTER[:4], *profile, "-n", "-R", "stage1_compensate").text
    jobs = re.findall(r"^rule (\w+):.*?^ +threads: (\d+)$", text, re.MULTILINE | re.DOTALL)
    assert set(jobs) >= {("stage1_compensate", "8"), ("stage2_between_avgs", "8")}, text


def test_cores_do_not_turn_a_cluster_into_this_machine(tmp_path: Path) -> None:
    """Out of habit, `--cores` is added to `--profile`: jobs must be kept track of all the same."""
    session = make_session(tmp_path, 2)
    cores = "--cores", "2"
    session.snakemake(*ON_A_CLUSTER, *PROFILE, *cores)
    headers = list(tmp_path.rglob("inspect.json"))
    assert len(headers) == 2
    # By the process that submits, not by jobs.
    assert all(json.loads(header.read_text())["shape"] == [2, 16, 16, 1] for header in headers)
    check_what_a_dry_run_shows(session, *cores)


def test_work_per_recording_does_not_grow_with_their_number(tmp_path: Path) -> None:
    session = make_session(tmp_path, RECORDINGS)
    check_work_per_recording(session.snakemake(*ON_A_CLUSTER))
    check_size_of_notes(session)
    check_what_a_dry_run_shows(session)
    check_what_is_to_be_done(session)
