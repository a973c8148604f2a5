"""Test all schedulers at the same time, each in a process of its own.

`python run_all.py [all]`: with `all`, a scheduler that cannot be started is a failure.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SCHEDULERS = ("slurm", "sge", "pbs")
# What pytest returns if everything was skipped or nothing selected.
FINE = (0, 5)


def main(require: str) -> int:
    repository = Path(__file__).resolve().parents[2]
    variables = {**os.environ, "PYFLOWREG_CLUSTER_TESTS": require}
    started = []
    for name in SCHEDULERS:
        out = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open while the process runs
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations", "5"]
        process = subprocess.Popen(
            [*command, "-k", name, str(repository / "tests" / "cluster")],
            cwd=repository,
            env=variables,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        started.append((name, process, out))
    failed = []
    for name, process, out in started:
        status = process.wait()
        out.seek(0)
        sys.stdout.write(f"\n==== {name}\n{out.read()}")
        sys.stdout.flush()
        if status not in FINE:
            failed.append(name)
    if failed:
        sys.stdout.write(f"\nfailed: {', '.join(failed)}\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "some"))
