"""What it costs to schedule a large session: a dry run and a run whose jobs do nothing.

`python tests/cluster/scale.py 1000` makes that many recordings of two tiny frames in a temporary
folder and prints a table. The executor is that of tests/workflow/scheduling.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

REPOSITORY = Path(__file__).resolve().parents[2]
EXECUTOR = [
    "--executor", "nothing",
    "--jobs", "200",
    "--scheduler", "greedy",
    "--max-jobs-per-timespan", "10000/1s",
    "--seconds-between-status-checks", "1",
    "--latency-wait", "5",
]  # fmt: skip


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    folders = [str(REPOSITORY / "tests/workflow/scheduling"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    before, begin = children(), time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.monotonic() - begin, children() - before


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "session").mkdir()
        for number in range(count):
            path = folder / "session" / f"recording_{number:04d}.tif"
            tifffile.imwrite(path, np.zeros((2, 16, 16), np.uint16), photometric="minisblack")
        (folder / "settings.yaml").write_text("root: session\n")
        start = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        start += ["--configfile", "settings.yaml", "--quiet", "rules", "progress"]
        jobs = 2 * count + 2
        for what, more in (("dry run", ["-n"]), ("run", EXECUTOR), ("nothing to do", EXECUTOR)):
            wall, cpu = timed([*start, *more], folder)
            sys.stdout.write(
                f"{what:<14} {wall:7.1f} s, {cpu:7.1f} s of CPU, {100 * cpu / jobs:5.2f} s of CPU "
                "per 100 jobs\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
