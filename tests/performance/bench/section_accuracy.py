"""Errors of stage 1 where tissue bends as a whole or from cell to cell, in little light or more.

Every scene that is measured is in the table.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.accuracy import recording_error, rigid_fields
from bench.corrections import Job, found_fields, results, run, warm_up
from bench.frames import load_truth, prepared, recording
from bench.processes import Tool
from bench.setup import TITLES, Setup
from bench.tables import digits, markdown
from pyflowreg.io.atomic import atomic_save_npz
from pyflowreg.simulation import RecordingTruth, SimulationConfig

TITLE = "Accuracy by kind of motion and light"
PARALLEL = "threading"
"""Way of the published package, unless another is named; the results are the same."""

LONGEST_WAVE = 2.2  # times the shortest one, see `SimulationConfig.nonrigid_wavelength`

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scene:
    """One simulated recording.

    Parameters
    ----------
    name : str
        Head of its column.
    changes : dict
        Settings of `SimulationConfig`; what a scene is about is always named.
    """

    name: str
    changes: dict[str, float]


SCENES = [
    Scene("smooth, dim", {"photons": 0.5, "nonrigid": 2.0, "nonrigid_wavelength": 1.0}),
    Scene("smooth, bright", {"photons": 5.0, "nonrigid": 2.0, "nonrigid_wavelength": 1.0}),
    Scene("local, dim", {"photons": 0.5, "nonrigid": 3.0, "nonrigid_wavelength": 0.15}),
    Scene("local, bright", {"photons": 5.0, "nonrigid": 3.0, "nonrigid_wavelength": 0.15}),
]
SMOOTHER = 25.0
"""Weight of smoothness (alpha) for noisy frames that move nearly as one; the default is 1.5."""


def jobs(setup: Setup) -> dict[str, Job]:
    """Return what is run on every scene, by its name in the table."""
    frames = (setup.accuracy_frames,)
    way = PARALLEL if setup.peer_parallel == "auto" else setup.peer_parallel
    ours, peer = TITLES["ours"], TITLES["peer"]
    found = {
        f"{ours}, `balanced`": Job("balanced", "ours", frames),
        f"{ours}, `balanced`, alpha {SMOOTHER:.0f}": Job(
            "balanced", "ours", frames, changes=(("alpha", SMOOTHER),)
        ),
        f"{ours}, `quality`": Job("quality", "ours", frames),
        f"{peer}, `balanced`": Job("balanced", "peer", frames, way),
        TITLES["suite2p"]: Job("default", "suite2p", frames),
        TITLES["dis"]: Job("medium", "dis", frames),
    }
    return {name: job for name, job in found.items() if job.tool in setup.pythons}


def measure(setup: Setup) -> dict[str, Any]:
    """Run every tool on every scene."""
    chosen = jobs(setup)
    scenes = []
    with ExitStack() as stack:
        tools = setup.tools(stack, list({job.tool: None for job in chosen.values()}), None)
        for number, scene in enumerate(SCENES):
            config = replace(setup.config(setup.accuracy_frames), **scene.changes)
            log.info("scene %s", scene.name)
            source, truth_file = recording(setup.work, config)
            if number == 0:
                for name, tool in tools.items():
                    if name != "dis":
                        first = next(job for job in chosen.values() if job.tool == name)
                        warm_up(setup, first, tool, source)
            scenes.append(_scene(setup, tools, config, source, load_truth(truth_file)))
            scenes[-1]["name"] = scene.name
    return {
        "scenes": scenes,
        "frames": setup.accuracy_frames,
        "side": setup.side,
        "threads": setup.threads,
    }


def _scene(
    setup: Setup,
    tools: dict[str, Tool],
    config: SimulationConfig,
    source: Path,
    truth: RecordingTruth,
) -> dict[str, Any]:
    """Run every tool on one scene; return its description, errors and seconds."""
    rows, reference = [], None
    for name, job in jobs(setup).items():
        log.info("%s", name)
        tool = tools[job.tool]
        if job.tool == "dis":
            fields, seconds = _dis(setup, tool, source, reference)
        else:
            seconds = run(
                setup, job, tool, source, fields=True, n_reference=config.n_frames
            ).seconds
            fields = found_fields(setup, job)
            folder = results(setup, job, fields=True)
            if reference is None:
                reference = np.load(folder / "reference_frame.npy")
            shutil.rmtree(folder)
        row = {"name": name, "error": recording_error(fields, truth)}
        rows.append({**row, "seconds": seconds / config.n_frames})
    nothing = np.zeros((*truth.shape, 2), dtype=np.float32)
    return {
        "rows": rows,
        "photons": config.photons,
        "rigid": config.rigid,
        "nonrigid": config.nonrigid,
        "wavelength": config.nonrigid_wavelength * min(config.height, config.width),
        "motion": recording_error(nothing, truth),
        "rigid_only": recording_error(rigid_fields(truth), truth),
    }


def _dis(
    setup: Setup, tool: Tool, source: Path, reference: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """Return fields of all frames, and the seconds that they took.

    DIS makes no reference: it gets ours, and the frames prepared as for `get_displacement`.
    """
    import tifffile

    assert reference is not None  # our jobs come first
    frames = tifffile.imread(source)
    fixed, *moving = prepared(reference[..., 0], frames)
    pairs, out = setup.work / "accuracy_pairs.npz", setup.work / "accuracy_dis.npy"
    atomic_save_npz(pairs, fixed=fixed, moving=np.stack(moving))
    arguments = {"pairs": str(pairs), "options": {}, "out": str(out)}
    seconds = tool("displacement", **arguments, threads=setup.threads).value
    return np.load(out), float(np.sum(seconds))


def table(result: dict[str, Any]) -> str:
    """Return the table: one column for every scene; what is in it, and the error of every tool."""
    scenes = result["scenes"]
    rows = [
        ["photons per pixel and frame", *(f"{scene['photons']:g}" for scene in scenes), ""],
        ["rigid motion, largest (px)", *(f"{scene['rigid']:g}" for scene in scenes), ""],
        ["non-rigid motion, largest (px)", *(f"{scene['nonrigid']:g}" for scene in scenes), ""],
        ["its wavelengths (px)", *(_waves(scene["wavelength"]) for scene in scenes), ""],
        ["**end-point error (px)**", *([""] * len(scenes)), ""],
        ["no correction", *(digits(scene["motion"]) for scene in scenes), ""],
        ["exactly the rigid motion", *(digits(scene["rigid_only"]) for scene in scenes), ""],
    ]
    for number, row in enumerate(scenes[0]["rows"]):
        same = [scene["rows"][number] for scene in scenes]
        milliseconds = 1000 * min(found["seconds"] for found in same)
        errors = (digits(found["error"]) for found in same)
        rows.append([row["name"], *errors, digits(milliseconds)])
    text = markdown(["scene", *(scene["name"] for scene in scenes), "(ms per frame)"], rows)
    return text + (
        f"\n{result['frames']} frames of {result['side']} x {result['side']} pixels, corrected "
        "file to file; all of them make the reference (suite2p chooses its own, DIS gets that of "
        "the first row). Errors: mean over the pixels, median over the frames. Settings are the "
        "defaults but for what is named. The last column is a by-product of single runs with "
        f"{result['threads']} threads, making the reference included (DIS: the flow alone); "
        "stage 1 is timed in its own table.\n"
    )


def _waves(shortest: float) -> str:
    return f"{shortest:.0f} to {shortest * LONGEST_WAVE:.0f}"
