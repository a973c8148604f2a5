"""Coarse-to-fine levels and bicubic resampling with antialiasing.

The resampling follows MATLAB's ``imresize``: Keys' cubic convolution (R. Keys, IEEE Trans. ASSP
29(6), 1981, a = -1/2), widened by the inverse scale when shrinking, half-sample symmetric borders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyflowreg.core import resize_kernels

MIN_LEVEL_SIZE = 10
"""No side of a pyramid level is made smaller than this (pixels)."""


def round_half_away(x: float) -> int:
    """Round to the nearest integer, halves away from zero, as MATLAB does."""
    return math.floor(x + 0.5) if x >= 0 else math.ceil(x - 0.5)


def warping_depth(size: int, eta: float, levels: int) -> int:
    """Number of times a side can shrink by `eta` before it is below 10 pixels.

    Parameters
    ----------
    size : int
        Side of the full-resolution frame in pixels.
    eta : float
        Ratio between the sides of two consecutive levels, 0 < eta < 1.
    levels : int
        Upper bound of the result.

    Returns
    -------
    int
        Depth, 0 to `levels`.
    """
    side = float(size)
    for depth in range(levels):
        side *= eta
        if round_half_away(side) < MIN_LEVEL_SIZE:
            return depth
    return levels


@dataclass(frozen=True)
class Level:
    """One pyramid level.

    Parameters
    ----------
    index : int
        0 is full resolution.
    height, width : int
        Size in pixels of this level.
    hx, hy : float
        Grid spacing in full-resolution pixels.
    alpha_scale : float
        Factor of the smoothness weights at this level.
    """

    index: int
    height: int
    width: int
    hx: float
    hy: float
    alpha_scale: float

    @property
    def spacing(self) -> float:
        """The larger grid spacing, full-resolution pixels."""
        return max(self.hx, self.hy)


def pyramid_levels(
    height: int, width: int, *, eta: float, levels: int, min_level: int, swapped_spacing: bool
) -> list[Level]:
    """List the levels from coarsest to finest.

    The shorter side stays at its coarsest size while the longer one is still coarser.

    Parameters
    ----------
    height, width : int
        Frame size in pixels.
    eta : float
        Downsampling ratio between consecutive levels.
    levels : int
        Upper bound of the number of levels.
    min_level : int
        Finest level that is solved; lowered if the frame is too small for it.
    swapped_spacing : bool
        Exchange row and column spacing (`Numerics.swapped_spacing`).

    Returns
    -------
    list of Level
    """
    depth_y = warping_depth(height, eta, levels)
    depth_x = warping_depth(width, eta, levels)
    cap = 4 * min(depth_x, depth_y)
    depth_y, depth_x = min(depth_y, cap), min(depth_x, cap)
    top = max(depth_x, depth_y)
    finest = max(top - 1 if top <= min_level else min_level, 0)
    result = []
    for index in range(top, finest - 1, -1):
        rows = round_half_away(height * eta ** min(index, depth_y))
        cols = round_half_away(width * eta ** min(index, depth_x))
        hx, hy = width / cols, height / rows
        if swapped_spacing:
            hx, hy = hy, hx
        scale = 1.0 if index == finest else eta ** (-0.5 * index)
        result.append(Level(index, rows, cols, hx, hy, scale))
    return result


def _keys_cubic(t: NDArray[np.float64]) -> NDArray[np.float64]:
    a = np.abs(t)
    near = 1.5 * a**3 - 2.5 * a**2 + 1
    far = -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2
    return np.where(a <= 1, near, np.where(a <= 2, far, 0.0))


@lru_cache(maxsize=1024)
def _taps(n_in: int, n_out: int, dtype: np.dtype[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    scale = n_out / n_in
    widen = min(scale, 1.0)
    width = 4.0 / widen
    position = np.arange(1, n_out + 1) / scale + 0.5 * (1 - 1 / scale)
    first = np.floor(position - width / 2)
    index = first[:, None] + np.arange(math.ceil(width) + 2)[None, :]
    weight = widen * _keys_cubic(widen * (position[:, None] - index))
    weight /= weight.sum(axis=1, keepdims=True)
    mirrored = np.mod(index.astype(np.int64) - 1, 2 * n_in)
    mirrored = np.where(mirrored < n_in, mirrored, 2 * n_in - 1 - mirrored)
    used = np.any(weight != 0, axis=0)
    taps = np.ascontiguousarray(mirrored[:, used])
    weights = np.ascontiguousarray(weight[:, used].astype(dtype))
    taps.setflags(write=False)
    weights.setflags(write=False)
    return taps, weights


def resize_tables(
    shape_in: tuple[int, ...], shape_out: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], ...]:
    """Taps and weights of the rows and of the columns, for `resize_kernels.resize_planes`."""
    return *_taps(shape_in[-2], shape_out[-2], dtype), *_taps(shape_in[-1], shape_out[-1], dtype)


def resize_scratch_size(shape_in: tuple[int, ...], shape_out: tuple[int, ...]) -> int:
    """Elements that `resize_planes` needs as scratch between these shapes (..., H, W)."""
    return resize_kernels.scratch_size(shape_in, shape_out)


def resize_planes(planes: NDArray[Any], out: NDArray[Any], scratch: NDArray[Any]) -> None:
    """Resample planes bicubically with antialiasing; values are not rescaled.

    A constant plane stays exactly constant: its rounding errors would pass for structure.

    Parameters
    ----------
    planes : ndarray
        float32 or float64, C-contiguous, shape (C, H, W).
    out : ndarray
        Receives the result: shape (C, h, w), C-contiguous, float32 or float64, which is also the
        type of the computation.
    scratch : ndarray
        One-dimensional, dtype of `out`, at least `resize_scratch_size` elements.
    """
    if out.dtype.itemsize < planes.dtype.itemsize:
        # Rounded here rather than as they are read, which would take a kernel of its own.
        planes = planes.astype(out.dtype)
    tables = resize_tables(planes.shape, out.shape, out.dtype)
    resize_kernels.resize_planes(planes, *tables, scratch, out)


def resize(
    image: NDArray[Any], height: int, width: int, dtype: DTypeLike | None = None
) -> NDArray[Any]:
    """Resample one plane as `resize_planes` does.

    Parameters
    ----------
    image : ndarray
        float32 or float64, shape (H, W).
    height, width : int
        Size of the result in pixels.
    dtype : dtype-like, optional
        Type of the result and of the computation; that of `image` by default.

    Returns
    -------
    ndarray
        Shape (height, width); a new array.
    """
    out = np.empty((1, height, width), dtype or image.dtype)
    scratch = np.empty(resize_scratch_size(image.shape, out.shape), out.dtype)
    resize_planes(np.ascontiguousarray(image)[None], out, scratch)
    return np.asarray(out[0])
