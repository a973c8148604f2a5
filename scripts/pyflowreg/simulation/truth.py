"""The known motion of a simulated recording, and the end-point errors measured against it.

Three coordinate systems and two maps define a frame:

* `p`: a point of the tissue, in pixels of the (undeformed) centre recording;
* `y`: a point of recording k at rest; it shows the tissue point `p = y + D_k(y)`;
* `x`: a pixel of frame f of recording k; it shows the rest point `y = x + m_f(x)`.

So `frame_f(x) = tissue(y + D_k(y))` with `y = x + m_f(x)`. `m_f` has zero mean over the frames at
every pixel, and `D_k = 0` for the centre recording. All maps are backward maps in pixels, component
0 along x (right) and 1 along y (down), as displacement fields are.

A stage-1 field w compensates by `out(x) = frame_f(x + w(x))`, which then shows the rest point
`x + r_f(x)` with the residual `r_f(x) = w(x) + m_f(x + w(x))`. A perfect result is the same for all
frames. What is left when `r_f` does not depend on f is where the reference sat, not motion:
the mean of `r_f` over the frames (`stage1_offset`) is subtracted before the error is measured.

A stage-2 field w takes pixel x of the centre recording's average to `z = x + w(x)` in the average
of recording k. The error is the distance, in the tissue, between the two points that are said to be
the same: `z + c_k(z) + D_k(z + c_k(z)) - x - c_0(x)`, where `c_k` and `c_0` are the offsets of the
two averages from stage 1 (zero if not given).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from pyflowreg.simulation.motion import Deformation, Float, SmoothField, pixel_grid

BORDER = 12
"""Pixels at each side that the errors leave out."""


@dataclass(frozen=True)
class RecordingTruth:
    """Everything that moved in one recording.

    Parameters
    ----------
    shape : tuple of int
        (T, H, W).
    line_motion : ndarray, float64, shape (T, H, 2)
        Rigid part of m: displacement (x, y) of each scan line, pixels. Between lines it is
        interpolated linearly, beyond the first and last line it is constant.
    fields : tuple of SmoothField
        Non-rigid part of m, its spatial patterns.
    weights : ndarray, float64, shape (T, J)
        Weight of each pattern in each frame.
    deformation : Deformation
        D, the map to the centre recording.
    """

    shape: tuple[int, int, int]
    line_motion: Float
    fields: tuple[SmoothField, ...]
    weights: Float
    deformation: Deformation

    def within(self, frame: int, x: Float, y: Float) -> Float:
        """Return m of one frame at points of any shape.

        Parameters
        ----------
        frame : int
            The frame, from 0.
        x, y : ndarray, float64, shape (...)
            Points, pixels.

        Returns
        -------
        ndarray, float64, shape (..., 2)
            Displacement (x, y), pixels.
        """
        motion = np.zeros((*np.broadcast_shapes(x.shape, y.shape), 2))
        for weight, field in zip(self.weights[frame], self.fields, strict=True):
            motion += weight * field(x, y)
        lines = np.arange(self.shape[1])
        for axis in range(2):
            motion[..., axis] += np.interp(y, lines, self.line_motion[frame, :, axis])
        return motion

    def tissue_points(self, frame: int) -> tuple[Float, Float]:
        """Return the tissue points that the pixels of a frame show.

        Parameters
        ----------
        frame : int
            The frame, from 0.

        Returns
        -------
        x, y : ndarray, float64, shape (H, W)
            Points, pixels of the centre recording.
        """
        x, y = pixel_grid(*self.shape[1:])
        motion = self.within(frame, x, y)
        x, y = x + motion[..., 0], y + motion[..., 1]
        between = self.deformation(x, y)
        return x + between[..., 0], y + between[..., 1]

    def arrays(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """Return the arrays that `load_truth` needs to restore this object exactly.

        Returns
        -------
        dict of str to ndarray
            For an npz; float64, but for the int64 `shape`.
        """
        smooth = self.deformation.smooth
        return {
            "shape": np.array(self.shape, dtype=np.int64),
            "line_motion": self.line_motion,
            "weights": self.weights,
            "field_wave_vectors": np.stack([f.wave_vectors for f in self.fields]),
            "field_phases": np.stack([f.phases for f in self.fields]),
            "field_amplitudes": np.stack([f.amplitudes for f in self.fields]),
            "between_shift": self.deformation.shift,
            "between_matrix": self.deformation.matrix,
            "between_centre": self.deformation.centre,
            "between_wave_vectors": smooth.wave_vectors,
            "between_phases": smooth.phases,
            "between_amplitudes": smooth.amplitudes,
        }


def load_truth(path: Path | str) -> RecordingTruth:
    """Read a file `truth/<recording>_truth.npz` that `simulate_session` wrote.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    RecordingTruth
        Exactly what was simulated.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    """
    with np.load(path) as data:
        fields = zip(
            data["field_wave_vectors"], data["field_phases"], data["field_amplitudes"], strict=True
        )
        frames, height, width = (int(n) for n in data["shape"])
        return RecordingTruth(
            shape=(frames, height, width),
            line_motion=data["line_motion"],
            fields=tuple(SmoothField(*field) for field in fields),
            weights=data["weights"],
            deformation=Deformation(
                data["between_shift"],
                data["between_matrix"],
                data["between_centre"],
                SmoothField(
                    data["between_wave_vectors"],
                    data["between_phases"],
                    data["between_amplitudes"],
                ),
            ),
        )


EVERYWHERE = (slice(None), slice(None))


def stage1_residual(
    w: NDArray[np.floating], truth: RecordingTruth, region: tuple[slice, slice] = EVERYWHERE
) -> Float:
    """Measure what stage-1 fields leave of the motion: r_f(x) = w(x) + m_f(x + w(x)).

    Parameters
    ----------
    w : ndarray, shape (T, H, W, 2)
        Stage-1 fields, pixels, backward map; zeros give the motion itself.
    truth : RecordingTruth
        The known motion.
    region : tuple of slice, optional
        Rows and columns to measure at; default all.

    Returns
    -------
    ndarray, float64, shape (T, H, W, 2)
        Residual of every frame, pixels; H and W are those of the region.

    Raises
    ------
    ValueError
        If the fields do not have the size of the recording.
    """
    expected = (*truth.shape, 2)
    if w.shape != expected:
        raise ValueError(f"The fields have the shape {w.shape}, the recording needs {expected}.")
    x, y = (axis[region] for axis in pixel_grid(*truth.shape[1:]))
    residual = np.empty((len(w), *x.shape, 2))
    for frame in range(truth.shape[0]):
        field = np.asarray(w[frame][region], dtype=np.float64)
        residual[frame] = field + truth.within(frame, x + field[..., 0], y + field[..., 1])
    return residual


def stage1_offset(w: NDArray[np.floating], truth: RecordingTruth) -> Float:
    """Measure where the compensated recording rests.

    Parameters
    ----------
    w : ndarray, shape (T, H, W, 2)
        Stage-1 fields, pixels, backward map.
    truth : RecordingTruth
        The known motion.

    Returns
    -------
    ndarray, float64, shape (H, W, 2)
        Mean of `stage1_residual` over the frames, pixels.

    Raises
    ------
    ValueError
        If the fields do not have the size of the recording.
    """
    offset: Float = stage1_residual(w, truth).mean(axis=0)
    return offset


def stage1_error(
    w: NDArray[np.floating], truth: RecordingTruth, border: int = BORDER, *, step: int = 1
) -> NDArray[np.float64]:
    """Measure stage-1 fields against the truth.

    A static offset of the reference is not motion: the mean of the residual over the frames is
    subtracted at every pixel.

    Parameters
    ----------
    w : ndarray, shape (T, H, W, 2)
        Stage-1 fields, pixels, backward map.
    truth : RecordingTruth
        The known motion.
    border : int, default 12
        Pixels left out at each side.
    step : int, default 1
        Measure at every step-th row and column: what is smooth can be sampled, and evaluating the
        motion takes long.

    Returns
    -------
    ndarray, float64, shape (T, H - 2 border, W - 2 border)
        End-point error, pixels; with a step, that many times fewer rows and columns.

    Raises
    ------
    ValueError
        If the fields do not have the size of the recording, or nothing is left inside the border.
    """
    residual = stage1_residual(w, truth, _interior(truth.shape[1:], border, step))
    residual -= residual.mean(axis=0)
    return np.asarray(np.linalg.norm(residual, axis=-1), dtype=np.float64)


def stage2_error(
    w: NDArray[np.floating],
    truth: RecordingTruth,
    border: int = BORDER,
    *,
    offset: Float | None = None,
    centre_offset: Float | None = None,
) -> NDArray[np.float64]:
    """Measure a stage-2 field against the truth.

    Parameters
    ----------
    w : ndarray, shape (H, W, 2)
        Field from the centre recording's pixels to those of this recording, pixels.
    truth : RecordingTruth
        The known motion of this recording.
    border : int, default 12
        Pixels left out at each side.
    offset, centre_offset : ndarray, float64, shape (H, W, 2), optional
        `stage1_offset` of this recording and of the centre recording.

    Returns
    -------
    ndarray, float64, shape (H - 2 border, W - 2 border)
        End-point error in the tissue, pixels.

    Raises
    ------
    ValueError
        If the field does not have the size of the recording, or nothing is left inside the border.
    """
    x, y = pixel_grid(*truth.shape[1:])
    target_x, target_y = x + w[..., 0], y + w[..., 1]
    if offset is not None:
        moved = [
            map_coordinates(offset[..., axis], [target_y, target_x], order=1, mode="nearest")
            for axis in range(2)
        ]
        target_x, target_y = target_x + moved[0], target_y + moved[1]
    tissue = truth.deformation(target_x, target_y)
    error = np.stack([target_x - x, target_y - y], axis=-1) + tissue
    if centre_offset is not None:
        error -= centre_offset
    inner = error[_interior(error.shape[:2], border)]
    return np.asarray(np.linalg.norm(inner, axis=-1), dtype=np.float64)


def _interior(shape: tuple[int, ...], border: int, step: int = 1) -> tuple[slice, slice]:
    height, width = shape
    if min(height, width) <= 2 * border:
        raise ValueError(f"A {height} x {width} field has no interior beyond {border} px.")
    return slice(border, height - border, step), slice(border, width - border, step)
