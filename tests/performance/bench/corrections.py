"""Stage 1 by every tool: what it is told, the call, and the fields that it found."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.accuracy import suite2p_field_mismatch, suite2p_fields
from bench.frames import beginning
from bench.processes import Call, Tool
from bench.setup import TITLES, Setup
from pyflowreg.io.fields import iter_fields

WARM_FRAMES = 12
"""suite2p refuses fewer than 10."""

N_REFERENCE = 20
"""Frames that make the reference of timed runs in both flow packages."""

LARGEST_MISMATCH = 2.0
"""Grey values; above it the fields read from suite2p are not those it applied."""


@dataclass(frozen=True)
class Job:
    """One tool with its settings, and the frames it gets.

    Parameters
    ----------
    quality : str
        `quality_setting` of both flow packages.
    tool : str
        A key of `TITLES`.
    frames : tuple of int
        Numbers of frames, one for each run.
    parallel : str, optional
        How the published package uses all cores.
    changes : tuple of (str, value)
        Options of a flow package that differ from its defaults.
    """

    quality: str
    tool: str
    frames: tuple[int, ...]
    parallel: str | None = None
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def title(self) -> str:
        return f"{self.quality}, {TITLES[self.tool]}"

    @property
    def slow(self) -> bool:
        """Whether one round has to do."""
        return self.tool == "peer" and self.quality == "quality"


def results(setup: Setup, job: Job, fields: bool = False) -> Path:
    """Return the folder that a run of the job leaves."""
    return setup.work / f"stage1_{job.tool}_{job.quality}{'_fields' if fields else ''}"


def run(
    setup: Setup,
    job: Job,
    process: Tool,
    source: Path,
    *,
    warm: bool = False,
    fields: bool = False,
    n_reference: int = N_REFERENCE,
) -> Call:
    """Correct a file.

    Parameters
    ----------
    setup : Setup
        Where and with how many threads.
    job : Job
        The tool's settings.
    process : Tool
        The tool.
    source : Path
        The recording, TIFF.
    warm : bool
        This is the call that pays for imports and compilation.
    fields : bool
        Whether `found_fields` shall be asked afterwards.
    n_reference : int
        How many first frames make the reference; suite2p chooses by itself.

    Returns
    -------
    Call
        What it cost.
    """
    folder = results(setup, job, fields)
    shutil.rmtree(folder, ignore_errors=True)
    arguments: dict[str, Any] = {"recording": str(source), "folder": str(folder)}
    if job.tool != "suite2p":
        # the published package compiles the same for every setting, and is slow in `quality`
        arguments["options"] = {
            "quality_setting": "fast" if warm and job.tool == "peer" else job.quality,
            "reference_frames": list(range(2 if warm else n_reference)),
            "output_typename": "uint16",
            "save_w": fields,
            **dict(job.changes),
        }
    if job.tool == "peer":
        arguments |= {"parallelization": job.parallel, "n_jobs": setup.threads}
    else:
        arguments["threads"] = setup.threads
    return process("compensate", **arguments)


def warm_up(setup: Setup, job: Job, process: Tool, source: Path) -> None:
    """Let a tool import and compile what it needs."""
    run(setup, job, process, beginning(setup.work, source, WARM_FRAMES), warm=True)


def found_fields(setup: Setup, job: Job) -> NDArray[np.float32]:
    """Return the fields (T, H, W, 2) that a run with `fields` left."""
    folder = results(setup, job, fields=True)
    if job.tool != "suite2p":
        return np.concatenate(list(iter_fields(folder / "w.h5")))
    fields = suite2p_fields(folder, (setup.side, setup.side))
    mismatch = suite2p_field_mismatch(folder, fields)
    if mismatch > LARGEST_MISMATCH:
        raise RuntimeError(f"suite2p's frames differ by {mismatch} from the field read off it.")
    return fields
