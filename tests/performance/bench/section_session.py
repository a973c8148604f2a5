"""Accuracy of stages 1 and 2 on the demo session, beside the published package."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

from bench.setup import Setup
from bench.tables import digits, markdown
from pyflowreg.io.fields import existing_variant
from pyflowreg.quality.demo_table import EndPointErrors, session_errors
from pyflowreg.quality.metrics import load_displacements, load_field
from pyflowreg.simulation import SimulationConfig, simulate_session

TITLE = "Errors on the demo sessions"
CASES = [(1, "quality"), (1, "balanced"), (2, "balanced")]
"""Channels and settings."""

SLOW = "quality"
"""Setting that is left to this package: the published one takes minutes."""


def measure(setup: Setup) -> dict[str, Any]:
    """Run both packages on the same sessions with the same options."""
    rows = []
    for channels, quality in CASES:
        if quality not in setup.qualities:
            continue
        simulation = SimulationConfig(channels=channels)
        session = setup.work / f"demo_{channels}channel"
        if not (session / "truth").is_dir():
            simulate_session(simulation, session)
            _as_hdf5(session)
        options = {
            "quality_setting": quality,
            # all frames make the reference, so that nobody profits from a choice of frames
            "reference_frames": list(range(simulation.n_frames)),
            "save_w": True,
            "save_valid_idx": True,
        }
        for name in ("ours", "peer"):
            if name in setup.pythons and not (name == "peer" and quality == SLOW):
                output = setup.work / f"demo_{name}"
                errors = _errors(setup, name, simulation, session, output, options)
                rows.append({"channels": channels, "quality": quality, "tool": name, **errors})
    return {"rows": rows}


def _as_hdf5(session: Path) -> None:
    """Save every recording as HDF5 too.

    The published package takes the two channels of an ImageJ hyperstack for frames, which would
    not be a comparison of the methods.
    """
    for recording in session.glob("*.tif"):
        movie = tifffile.imread(recording)
        movie = movie[:, None] if movie.ndim == 3 else movie
        with h5py.File(recording.with_suffix(".h5"), "w") as file:
            for channel in range(movie.shape[1]):
                file[f"ch{channel + 1}"] = movie[:, channel]


def _errors(
    setup: Setup,
    name: str,
    simulation: SimulationConfig,
    session: Path,
    output: Path,
    options: dict[str, Any],
) -> dict[str, Any]:
    shutil.rmtree(output, ignore_errors=True)
    with ExitStack() as stack:
        tool = stack.enter_context(setup.tool(name))
        if name == "peer":
            arguments = {"root": str(session), "output": str(output)}
            tool("session", flow_options=options, stage2={}, **arguments)
        else:
            settings = {
                "root": str(session),
                "pattern": "*.h5",
                "output_root": str(output),
                "n_workers": setup.threads,
                "flow_options": options,
            }
            for number in (1, 2):
                tool("stage", number=number, **settings)
    folders = [output / recording for recording in simulation.names]
    errors = session_errors(
        lambda number: load_displacements(folders[number]),
        lambda number: _between(folders[number] / "w_to_reference.npz"),
        [session / "truth" / f"{recording}_truth.npz" for recording in simulation.names],
        simulation.n_recordings // 2,
    )
    return _ranges(errors, simulation.n_recordings // 2)


def _between(path: Path) -> np.ndarray:
    found = existing_variant(path)
    if found is None:
        raise FileNotFoundError(path)
    return load_field(found)


def _ranges(errors: list[EndPointErrors], centre: int) -> dict[str, Any]:
    outer = [error for number, error in enumerate(errors) if number != centre]
    return {
        "before1": _range([error.stage1_before for error in errors]),
        "stage1": _range([error.stage1 for error in errors]),
        "before2": _range([error.stage2_before for error in outer]),
        "stage2": _range([error.stage2 for error in outer]),
    }


def _range(values: list[float]) -> list[float]:
    return [min(values), max(values)]


def table(result: dict[str, Any]) -> str:
    """Return the table: range of the errors over the recordings, px."""
    by_case: dict[tuple[int, str], dict[str, Any]] = {}
    for row in result["rows"]:
        by_case.setdefault((row["channels"], row["quality"]), {})[row["tool"]] = row
    rows = []
    for (channels, quality), found in by_case.items():
        ours, peer = found["ours"], found.get("peer")
        cells = [_shown(ours["before1"])]
        cells += [_shown(peer["stage1"]) if peer else "-", _shown(ours["stage1"])]
        cells += [_shown(ours["before2"])]
        cells += [_shown(peer["stage2"]) if peer else "-", _shown(ours["stage2"])]
        rows.append([f"{'one channel' if channels == 1 else 'two channels'}, `{quality}`", *cells])
    header = ["session", "stage 1, before", "published", "here", "stage 2, before", "published"]
    return markdown([*header, "here"], rows) + "\nEnd-point error (px), range over recordings.\n"


def _shown(limits: list[float]) -> str:
    low, high = (digits(value) for value in limits)
    return low if low == high else f"{low} to {high}"
