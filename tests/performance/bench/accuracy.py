"""End-point errors of fields against the known motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from pyflowreg.simulation import RecordingTruth, stage1_error
from pyflowreg.simulation.motion import pixel_grid
from pyflowreg.simulation.truth import BORDER

STEP = 2
"""Errors of recordings are measured at every second row and column."""


def pair_error(w: NDArray[Any], truth: RecordingTruth, frame: int, border: int = BORDER) -> float:
    """Return the mean error (px) of a field (H, W, 2) from an image at rest to a frame."""
    x, y = pixel_grid(*truth.shape[1:])
    field = np.asarray(w, dtype=np.float64)
    rest = field + truth.within(frame, x + field[..., 0], y + field[..., 1])
    height, width = truth.shape[1:]
    inner = rest[border : height - border, border : width - border]
    return float(np.linalg.norm(inner, axis=-1).mean())


def mean_pair_error(
    fields: Sequence[NDArray[Any]] | NDArray[Any], truth: RecordingTruth, frames: Sequence[int]
) -> float:
    """Return the mean over pairs of `pair_error`."""
    pairs = zip(fields, frames, strict=True)
    return float(np.mean([pair_error(w, truth, frame) for w, frame in pairs]))


def recording_error(fields: NDArray[Any], truth: RecordingTruth) -> float:
    """Return the median over the frames of the mean error (px) of stage-1 fields (T, H, W, 2).

    A static offset of the reference is not motion and is subtracted.
    """
    return float(np.median(stage1_error(fields, truth, step=STEP).mean(axis=(1, 2))))


def rigid_fields(truth: RecordingTruth) -> NDArray[np.float32]:
    """Return fields (T, H, W, 2) that undo the rigid motion of every line and nothing else."""
    lines = -truth.line_motion[:, :, None].astype(np.float32)
    return np.ascontiguousarray(np.broadcast_to(lines, (*truth.shape, 2)))


def warp_linear(frame: NDArray[Any], w: NDArray[Any]) -> NDArray[np.float64]:
    """Return out(y, x) = frame(y + v, x + u), bilinear."""
    x, y = pixel_grid(*frame.shape)
    points = [y + w[..., 1], x + w[..., 0]]
    return np.asarray(map_coordinates(frame.astype(np.float64), points, order=1, mode="nearest"))


def block_axis(length: int, block: int, count: int) -> NDArray[np.float64]:
    """Return where every pixel of an axis lies among the centres of equally spaced blocks."""
    starts = np.linspace(0, length - block, count).astype(int)
    centres = starts + (block - 1) / 2
    return np.asarray(np.interp(np.arange(length), centres, np.arange(count)))


def dense_block_shifts(
    shifts: NDArray[Any], shape: tuple[int, int], block: int, grid: tuple[int, int]
) -> NDArray[np.float64]:
    """Interpolate shifts of overlapping blocks bilinearly to every pixel.

    Parameters
    ----------
    shifts : ndarray, shape (n_blocks,)
        Row by row.
    shape : tuple of int
        (H, W); beyond the outer centres the shift is constant.
    block : int
        Side of a block, pixels.
    grid : tuple of int
        Rows and columns of blocks.
    """
    axes = [block_axis(length, block, n) for length, n in zip(shape, grid, strict=True)]
    points = np.meshgrid(*axes, indexing="ij")
    values = np.asarray(shifts, dtype=np.float64).reshape(grid)
    return np.asarray(map_coordinates(values, points, order=1, mode="nearest"))


def suite2p_fields(folder: Path, shape: tuple[int, int], block: int = 128) -> NDArray[np.float32]:
    """Return what suite2p found as dense fields.

    Its registered frame is out(y, x) = in(y + yoff + yoff1, x + xoff + xoff1): the whole-pixel
    shift of the frame and the shifts of the blocks, interpolated bilinearly between their centres.

    Parameters
    ----------
    folder : Path
        Where suite2p saved its results.
    shape : tuple of int
        (H, W).
    block : int
        Side of its blocks, pixels.

    Returns
    -------
    ndarray, float32, shape (T, H, W, 2)
        Backward map, pixels.
    """
    plane = folder / "suite2p" / "plane0"
    found = np.load(plane / "reg_outputs.npy", allow_pickle=True).item()
    side = round(np.sqrt(found["yoff1"].shape[1]))
    fields = np.empty((len(found["yoff"]), *shape, 2), dtype=np.float32)
    for axis, name in enumerate(("xoff", "yoff")):
        for frame, whole in enumerate(found[name]):
            part = dense_block_shifts(found[f"{name}1"][frame], shape, block, (side, side))
            fields[frame, ..., axis] = whole + part
    return fields


def suite2p_field_mismatch(folder: Path, fields: NDArray[Any]) -> float:
    """Return how far (grey values) its own registered frames are from the raw ones so warped.

    A wrong sign or grid would give tens; rounding to whole grey values gives 0.5.
    """
    plane = folder / "suite2p" / "plane0"
    shape = fields.shape[:3]
    raw, out = (
        np.fromfile(plane / name, dtype=np.int16).reshape(shape)
        for name in ("data_raw.bin", "data.bin")
    )
    inner = (slice(20, -20), slice(20, -20))
    frames = np.linspace(0, shape[0] - 1, 3).astype(int)
    differences = [
        np.abs(warp_linear(raw[frame], fields[frame]) - out[frame])[inner].mean()
        for frame in frames
    ]
    return float(np.mean(differences))
