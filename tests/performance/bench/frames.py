"""Simulated recordings with known motion, written once per work folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pyflowreg.io.atomic import atomic_path, atomic_save_npz, atomic_write_text
from pyflowreg.simulation import RecordingTruth, SimulationConfig, load_truth, simulate_session
from pyflowreg.simulation.session import (
    DETECTOR_OFFSET,
    recording_frames,
    recording_truth,
    session_scene,
)

N_REST = 30
"""Frames without motion whose mean is the fixed image of the pairs."""

SCALE_PERCENT = (0.1, 99.9)


def recording(work: Path, config: SimulationConfig) -> tuple[Path, Path]:
    """Return the files of a recording (TIFF) and of its truth; simulated unless they are there."""
    settings = json.dumps(asdict(config), sort_keys=True)
    mark = hashlib.sha256(settings.encode()).hexdigest()[:8]
    folder = work / f"frames_{config.n_frames}x{config.height}x{config.width}_{mark}"
    made = folder / "made.json"
    if not made.is_file():
        simulate_session(config, folder)
        atomic_write_text(made, settings)
    return folder / "recording_01.tif", folder / "truth" / "recording_01_truth.npz"


def beginning(work: Path, source: Path, count: int) -> Path:
    """Return a file with the first frames of a recording, in a folder of its own."""
    import tifffile

    target = work / f"{source.parent.name}_first{count}" / source.name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            write_pages(temporary, iter(tifffile.imread(source, key=range(count))), count)
    return target


def write_pages(path: Path, frames: Iterator[NDArray[np.uint16]], count: int) -> None:
    """Write frames (H, W), which come one by one, as a TIFF that may exceed 4 GB."""
    import tifffile

    first = next(frames)

    def pages() -> Iterator[NDArray[np.uint16]]:
        yield first
        yield from frames

    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(
            pages(),
            shape=(count, *first.shape),
            dtype=first.dtype,
            photometric="minisblack",
            metadata={"axes": "TYX"},
        )


def long_recording(work: Path, source: Path, count: int) -> Path:
    """Return a long recording: the frames of a short one to and fro, one block in memory."""
    import tifffile

    target = work / f"long_{count}" / "recording_01.tif"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    block = tifffile.imread(source)
    order = [*range(len(block)), *range(len(block) - 2, 0, -1)]
    with atomic_path(target) as temporary:
        write_pages(temporary, (block[order[k % len(order)]] for k in range(count)), count)
    return target


def first_frames(truth: RecordingTruth, count: int) -> RecordingTruth:
    """Return the truth about the first frames of a recording."""
    return replace(
        truth,
        shape=(count, *truth.shape[1:]),
        line_motion=truth.line_motion[:count],
        weights=truth.weights[:count],
    )


def flow_pairs(
    work: Path, config: SimulationConfig, count: int, n_rest: int = N_REST
) -> tuple[Path, Path, list[int]]:
    """Return pairs of frames for `get_displacement`, preprocessed as stage 1 does.

    The fixed image is the mean of frames without motion, so that the field of a pair is known
    without any offset.

    Parameters
    ----------
    work : Path
        Where files are kept.
    config : SimulationConfig
        The recording that the moving frames are from.
    count : int
        Pairs.
    n_rest : int
        Frames whose mean is the fixed image.

    Returns
    -------
    pairs : Path
        npz with `fixed` (H, W) and `moving` (n, H, W), float32, about [0, 1], smoothed by 1 px.
    truth : Path
        The known motion of the recording that the moving frames are from.
    frames : list of int
        Their numbers.
    """
    import tifffile

    source, truth_file = recording(work, config)
    chosen = [int(k) for k in np.linspace(0, config.n_frames - 1, count + 2)[1:-1]]
    target = work / f"pairs_{source.parent.name}_{count}_{n_rest}.npz"
    if not target.is_file():
        moving = tifffile.imread(source, key=chosen).astype(np.float64)
        moving = moving.reshape(-1, config.height, config.width)  # one page comes without axis
        fixed = _at_rest(config, n_rest)
        light = (moving.mean() - DETECTOR_OFFSET) / (fixed.mean() - DETECTOR_OFFSET)
        fixed = (fixed - DETECTOR_OFFSET) * light + DETECTOR_OFFSET
        images = prepared(fixed, moving)
        atomic_save_npz(target, fixed=images[0], moving=np.stack(images[1:]))
    return target, truth_file, chosen


def prepared(fixed: NDArray[Any], moving: NDArray[Any]) -> list[NDArray[np.float32]]:
    """Return images (H, W), the fixed one first, scaled to about [0, 1] and smoothed by 1 px."""
    low, high = np.percentile(gaussian_filter(fixed.astype(np.float64), 1.0), SCALE_PERCENT)
    return [
        gaussian_filter((image - low) / (high - low), 1.0, truncate=2.0).astype(np.float32)
        for image in (fixed, *moving)
    ]


def _at_rest(config: SimulationConfig, n_rest: int) -> NDArray[np.float64]:
    """Mean of frames of the same tissue without motion, with noise of their own."""
    resting = replace(config, n_frames=n_rest)
    truth = recording_truth(resting, 0)
    still = replace(
        truth,
        line_motion=np.zeros_like(truth.line_motion),
        weights=np.zeros_like(truth.weights),
    )
    total = np.zeros((config.height, config.width))
    # recording number 1: other noise and activity than in the moving frames
    for frame in recording_frames(resting, 1, session_scene(config), still):
        total += frame[..., 0]
    return total / n_rest


__all__ = [
    "beginning",
    "first_frames",
    "flow_pairs",
    "load_truth",
    "long_recording",
    "prepared",
    "recording",
    "write_pages",
]
