"""What the sections share: interpreters, sizes, the machine."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import Tool, ToolError
from pyflowreg.simulation import SimulationConfig

REPOSITORY = Path(__file__).parents[3]

QUALITIES = {"quality": 0, "balanced": 4, "fast": 6}
"""Settings and their finest pyramid level."""

FLOW = {
    "alpha": (1.5, 1.5),
    "levels": 100,
    "eta": 0.8,
    "iterations": 50,
    "update_lag": 5,
    "a_smooth": 1.0,
    "a_data": 0.45,
}
"""Parameters of the flow in `OFOptions`, the same for both packages."""

TITLES = {
    "ours": "this package",
    "backends": "this package, with all backends",
    "peer": "pyflowreg 0.1.0a9, opencv < 5",
    "peer_fresh": "pyflowreg 0.1.0a9, as pip installs it",
    "dis": "OpenCV DIS, medium",
    "suite2p": "suite2p 1.1.0, non-rigid",
}
MODULES = {
    "ours": "ours",
    "backends": "ours",
    "peer": "peer",
    "peer_fresh": "peer",
    "dis": "opencv_dis",
    "suite2p": "suite2p_nonrigid",
}


@dataclass
class Setup:
    """Where and how much is measured.

    Parameters
    ----------
    work : Path
        Frames, results and logs.
    pythons : dict of str
        Interpreter of every tool that is there.
    repeats : int
        Rounds; in each every tool has its turn.
    frames, peer_frames, accuracy_frames : int
        Frames of the stage-1 runs: of all, of the peer in `quality` (fewer than of all: half of
        them and all of them are run, and the line through both is taken), of the runs that give
        the error.
    pairs : int
        Pairs of frames for `get_displacement`.
    long_frames : int
        Frames of the recording whose memory is measured.
    lasting_frames : int
        Frames, smaller ones, of the recording over which nothing may grow.
    checkpoint_frames : int
        Frames of the runs with and without a checkpoint.
    side : int
        Height and width of the frames.
    threads : int
        Cores of the file-to-file runs.
    peer_parallel : str
        How the peer uses all cores; "auto" finds the fastest way.
    qualities : list of str
        Settings that are compared.
    reuse : bool
        Take stage-1 times of other tools from an earlier run in `work`.
    simulation : dict
        Settings of the simulated frames that differ from `SimulationConfig`.
    """

    work: Path
    pythons: dict[str, str]
    repeats: int = 2
    frames: int = 100
    peer_frames: int = 40
    accuracy_frames: int = 40
    pairs: int = 3
    long_frames: int = 5000
    lasting_frames: int = 20_000
    checkpoint_frames: int = 2000
    side: int = 512
    threads: int = 2
    peer_parallel: str = "auto"
    qualities: list[str] = field(default_factory=lambda: list(QUALITIES))
    reuse: bool = False
    simulation: dict[str, Any] = field(default_factory=dict)

    def config(self, frames: int, side: int | None = None) -> SimulationConfig:
        """Return the settings of a recording of one channel, the centre of its session."""
        size = side or self.side
        changes = {"height": size, "width": size, **self.simulation}
        return SimulationConfig(n_recordings=1, n_frames=frames, **changes)

    def tool(
        self, name: str, threads: int | None = None, extra: dict[str, str] | None = None
    ) -> Tool:
        """Start a tool."""
        log = self.work / "logs" / f"{name}.log"
        if MODULES[name] != "ours":
            # another package of the same name must not be found first
            extra = {"PYTHONPATH": "", **(extra or {})}
        return Tool(MODULES[name], self.pythons[name], log, threads, extra)

    def tools(self, stack: ExitStack, names: list[str], threads: int | None) -> dict[str, Tool]:
        """Start those of the tools that there are; they end with the stack."""
        return {
            name: stack.enter_context(self.tool(name, threads))
            for name in names
            if name in self.pythons
        }


def cpu_name() -> str:
    """Return the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    wide = "AVX-512" if "avx512f" in values.get("flags", "") else "no AVX-512"
    name = values.get("model name", platform.machine())
    return f"{name} (family {values.get('cpu family')}, model {values.get('model')}, {wide})"


def about(setup: Setup) -> dict[str, Any]:
    """Return machine, day and versions of every tool."""
    versions = {}
    for name in setup.pythons:
        try:
            with setup.tool(name) as tool:
                versions[TITLES[name]] = tool("about").value
        except ToolError:
            versions[TITLES[name]] = {}
    versions[TITLES["ours"]] |= {"Python": platform.python_version()}
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "versions": versions,
    }


def _commit() -> str:
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def own_python() -> str:
    """Return the interpreter that runs this."""
    return sys.executable
