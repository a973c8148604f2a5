"""Start-up: imports, the first compilation, and what Snakemake spends on the workflow's files."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.processes import environment
from bench.setup import REPOSITORY, Setup
from bench.tables import digits, markdown, summary
from pyflowreg.simulation import SimulationConfig, simulate_session

TITLE = "Start-up"
IMPORTS = ["pass", "import pyflowreg", "import pyflowreg.session"]
EMPTY = "rule all:\n    input: []\n"


def measure(setup: Setup) -> dict[str, Any]:
    """Time imports, a tiny session with and without compiled kernels, and dry runs."""
    root = setup.work / "startup"
    shutil.rmtree(root, ignore_errors=True)
    simulate_session(SimulationConfig(n_recordings=2, n_frames=6, height=48, width=48), root)
    rows = [
        {"what": f"python -c '{code}'", **_timed(setup, [sys.executable, "-c", code], root)}
        for code in IMPORTS
    ]
    first, second = _sessions(setup, root)
    rows += [
        {"what": "tiny session, first run: no compiled kernels", **summary([first])},
        {"what": "the same, second run", **summary([second])},
    ]
    (root / "Snakefile").write_text(EMPTY, encoding="utf-8")
    start = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--quiet", "all"]
    settings = ["--configfile", "settings.yaml", "--snakefile"]
    rows += [
        {"what": f"snakemake --dry-run, {what}", **_timed(setup, [*start, *rest], root)}
        for what, rest in (
            ("empty Snakefile", ["--snakefile", "Snakefile"]),
            ("this workflow", [*settings, str(REPOSITORY / "Snakefile")]),
        )
    ]
    return {"rows": rows}


def _timed(setup: Setup, command: list[str], folder: Path) -> dict[str, float]:
    seconds = []
    for _ in range(setup.repeats + 1):
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - start)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    # the first fills the file cache
    return summary(seconds[1:])


def _sessions(setup: Setup, root: Path) -> tuple[float, float]:
    """Seconds of two runs of a tiny session; the first has an empty cache of compiled code."""
    cache = setup.work / "startup_cache"
    shutil.rmtree(cache, ignore_errors=True)
    settings = root / "settings.yaml"
    settings.write_text('root: "."\npattern: "*.tif"\n', encoding="utf-8")
    seconds = []
    for _ in range(2):
        command = [sys.executable, "-m", "pyflowreg.session.cli", "run", "--config", str(settings)]
        for name in ("compensated_outputs", "final_results"):
            shutil.rmtree(root / name, ignore_errors=True)
        start = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=root,
            env=environment(None, {"NUMBA_CACHE_DIR": str(cache)}),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds.append(time.perf_counter() - start)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    shutil.rmtree(cache)
    return seconds[0], seconds[1]


def table(result: dict[str, Any]) -> str:
    """Return the table, and the differences that count."""
    found = {row["what"]: row["min"] for row in result["rows"]}
    plain, _, session = list(found.values())[:3]
    first, second, empty, workflow = list(found.values())[3:]
    rows = [[row["what"], digits(row["min"]), digits(row["median"])] for row in result["rows"]]
    return markdown(["process", "seconds, min", "median"], rows) + (
        f"\nImport beyond Python's own start: {digits(session - plain)} s. Compilation on the "
        f"first run: {digits(first - second)} s. Workflow beyond Snakemake's own: "
        f"{digits(workflow - empty)} s.\n"
    )
