"""What it costs to schedule a large session: a dry run and a run whose jobs do nothing.

`python tests/cluster/scale.py 1000` makes that many recordings of two tiny frames in a temporary
folder and prints a table. Jobs are "submitted" to a program that makes their output files.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

REPOSITORY = Path(__file__).resolve().parents[2]
SUBMIT = """\
#!{python}
import json, sys
from pathlib import Path
text = Path(sys.argv[-1]).read_text()
line = next(line for line in text.splitlines() if line.startswith("# properties = "))
outputs = json.loads(line[15:])["output"]
if outputs is None:
    outputs = json.loads(Path({outputs!r}).read_text())[json.loads(line[15:])["rule"]]
for name in outputs:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("made")
sys.stdout.write("1\\n")
"""


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def outputs_of(folder: Path, count: int) -> dict[str, list[str]]:
    """Output files of the two jobs that have too many for their script."""
    from pyflowreg.session import SessionConfig
    from pyflowreg.workflow.plan import Plan

    here = Path.cwd()
    os.chdir(folder)
    plan = Plan.from_mapping(SessionConfig(root="session").model_dump(mode="json"))
    os.chdir(here)
    paths = plan.paths
    return {
        "stage2_between_avgs": [
            *plan.of_all(lambda files: files.w_to_reference),
            plan.stage2_record,
        ],
        "stage3_valid_mask": [
            *map(str, (paths.final_npz, paths.final_mat, paths.final_png, paths.status)),
            plan.mask_record,
            *plan.of_all(lambda files: files.valid_png),
            *plan.of_all(lambda files: files.aligned_valid_png),
        ],
    }


def timed(command: list[str], folder: Path) -> tuple[float, float, str]:
    before, begin = children(), time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.monotonic() - begin, children() - before, done.stdout + done.stderr


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "session").mkdir()
        for number in range(count):
            frames = np.zeros((2, 16, 16), np.uint16)
            tifffile.imwrite(
                folder / "session" / f"recording_{number:04d}.tif",
                frames,
                photometric="minisblack",
            )
        (folder / "settings.yaml").write_text("root: session\n")
        (folder / "outputs.json").write_text(json.dumps(outputs_of(folder, count)))
        submit = folder / "submit.py"
        submit.write_text(
            SUBMIT.format(python=sys.executable, outputs=str(folder / "outputs.json"))
        )
        (folder / "status.sh").write_text("#!/bin/sh\necho success\n")
        for program in (submit, folder / "status.sh"):
            program.chmod(0o755)
        start = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        start += ["--configfile", "settings.yaml", "--quiet", "rules", "progress"]
        fake = ["--executor", "cluster-generic", "--jobs", "500", "--scheduler", "greedy"]
        fake += ["--cluster-generic-submit-cmd", str(submit)]
        fake += ["--cluster-generic-status-cmd", str(folder / "status.sh")]
        fake += ["--seconds-between-status-checks", "1", "--max-status-checks-per-second", "500"]
        fake += ["--max-jobs-per-timespan", "10000/1s", "--latency-wait", "5"]
        jobs = 2 * count + 2
        for what, more in (("dry run", ["-n"]), ("run", fake), ("nothing to do", fake)):
            wall, cpu, text = timed([*start, *more], folder)
            found = re.search(r"^total +(\d+)$", text, re.MULTILINE)
            sys.stdout.write(
                f"{what:<14} {wall:7.1f} s, {cpu:7.1f} s of CPU, {100 * wall / jobs:5.2f} s per "
                f"100 jobs; {found[1] if found else 0} jobs told\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
