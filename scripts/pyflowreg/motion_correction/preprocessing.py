"""Gaussian smoothing and intensity scaling before the flow.

The smoothing follows MATLAB's ``imgaussfilt3`` (radius ceil(2 sigma), replicated borders, integer
classes rounded), the scaling its ``mat2gray``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.ndimage import correlate1d

from pyflowreg.core.numerics import to_dtype
from pyflowreg.motion_correction.frames import FrameRange

ROBUST_PERCENT = (0.1, 99.9)
"""Percentiles of the reference that become 0 and 1 in the standard profile: a few hot pixels do
not change the scale of a recording."""

ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Intensities that differ by less, relative to their size, count as equal."""


def gaussian_kernel(sigma: float) -> NDArray[np.float64]:
    """Normalised kernel of radius ceil(2 sigma); entries below the rounding error are dropped."""
    radius = math.ceil(2 * sigma)
    if radius == 0:
        return np.ones(1)
    x = np.arange(-radius, radius + 1)
    kernel = np.exp(-(x**2) / (2 * sigma**2))
    kernel[kernel < np.finfo(np.float64).eps * kernel.max()] = 0
    kernel /= kernel.sum()
    nonzero = np.flatnonzero(kernel)
    return kernel[nonzero[0] : nonzero[-1] + 1]


def temporal_radius(sigma: NDArray[np.float64]) -> int:
    """Frames on either side that reach into a filtered frame; `sigma` is (C, 3) in (y, x, t)."""
    return max(len(gaussian_kernel(row[2])) // 2 for row in sigma)


def gaussian(frames: NDArray[Any], sigma: NDArray[np.float64]) -> NDArray[Any]:
    """Smooth frames in y, x and t, every channel by its own width.

    Parameters
    ----------
    frames : ndarray
        Shape (T, H, W, C). Integers are filtered in single precision and rounded.
    sigma : ndarray
        Standard deviations (y, x, t) per channel in pixels and frames, shape (C, 3).

    Returns
    -------
    ndarray
        Shape and dtype of `frames`.
    """
    integer = frames.dtype.kind in "iu"
    work = frames.astype(np.float32) if integer else frames
    out = np.empty_like(work)
    for channel, (y, x, t) in enumerate(sigma):
        plane = work[..., channel]
        for axis, width in ((1, y), (2, x), (0, t)):
            kernel = gaussian_kernel(width)
            if len(kernel) > 1:
                plane = correlate1d(plane, kernel, axis=axis, mode="nearest")
        out[..., channel] = plane
    return to_dtype(out, frames.dtype) if integer else out


def is_constant(low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which ranges, one per channel, are those of mere rounding errors."""
    return np.asarray(high - low <= ROUNDING * np.maximum(np.abs(low), np.abs(high)))


def without_rounding(image: NDArray[Any]) -> NDArray[Any]:
    """Replace the channels of an image (H, W, C) that are constant but for rounding errors."""
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    return np.where(is_constant(low, high), low, image)


@dataclass(frozen=True)
class Scale:
    """An affine intensity scale, one range per channel.

    Parameters
    ----------
    low, high : ndarray
        Intensities that become 0 and 1, shape (C,).
    clip : bool
        Clip to [0, 1]; only rounding is ever clipped when the range is that of the data.
    constant : ndarray, optional
        Intensity that replaces a channel's, NaN for channels that keep theirs, shape (C,).
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    clip: bool = False
    constant: NDArray[np.float64] | None = None

    def __call__(self, frames: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        """Scale frames (..., C); a channel of constant intensity is not stretched."""
        if self.constant is not None:
            frames = np.where(np.isnan(self.constant), frames, self.constant)
        flat = is_constant(self.low, self.high)
        factor = 1 / np.where(flat, 1.0, self.high - self.low)
        # mat2gray only clips a constant image.
        offset = np.where(flat & self.clip, 0.0, self.low * factor)
        out = frames * factor - offset
        if self.clip:
            np.clip(out, 0, 1, out=out)
        return out.astype(dtype, copy=False)


class RangeFinder:
    """Minimum and maximum over chunks of frames.

    Parameters
    ----------
    channels : int
        Number of channels.
    joint : bool
        One range for all channels.
    """

    def __init__(self, channels: int, joint: bool) -> None:
        self._joint = joint
        self.low = np.full(channels, np.inf)
        self.high = np.full(channels, -np.inf)

    def add(self, frames: NDArray[Any]) -> None:
        """Take in frames (n, H, W, C)."""
        self.low = np.minimum(self.low, frames.min(axis=(0, 1, 2)))
        self.high = np.maximum(self.high, frames.max(axis=(0, 1, 2)))

    def scale(self, clip: bool) -> Scale:
        """The range found so far; with `clip`, that of the very frames that are to be scaled.

        Rounding errors of a constant channel would then be the only structure the flow sees.
        """
        low, high = self.low, self.high
        still = is_constant(low, high)
        constant = np.where(still, low, np.nan) if clip and still.any() else None
        if self._joint:
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        return Scale(low, high, clip, constant)


def robust_scale(reference: NDArray[Any], joint: bool) -> Scale:
    """Scale taken from a smoothed reference (H, W, C), insensitive to a few extreme pixels."""
    values = reference.reshape(-1, reference.shape[-1])
    if joint:
        low, high = np.percentile(values, ROBUST_PERCENT)
        return Scale(np.full(values.shape[1], low), np.full(values.shape[1], high))
    low, high = np.percentile(values, ROBUST_PERCENT, axis=0)
    return Scale(np.asarray(low), np.asarray(high))


class Preprocessor:
    """Turns raw frames into what the flow sees.

    Parameters
    ----------
    sigma : ndarray
        Standard deviations (y, x, t) per channel, shape (C, 3).
    dtype : dtype-like
        Floating-point type of the result.
    joint : bool
        One intensity range for all channels.
    chunk : int
        Frames read at a time.
    scale : Scale, optional
        Range fixed for the whole recording (standard profile). Without it every range of frames
        is scaled by its own minimum and maximum before and after smoothing (matlab profile).
    """

    def __init__(
        self,
        sigma: NDArray[np.float64],
        dtype: DTypeLike,
        joint: bool,
        chunk: int,
        scale: Scale | None,
    ) -> None:
        self.sigma = sigma
        self.dtype = np.dtype(dtype)
        self.joint = joint
        self.chunk = chunk
        self._fixed = scale
        self._halo = temporal_radius(sigma)

    def chunks(self, frames: FrameRange) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
        """Iterate over (start, raw frames, preprocessed frames) of one range of frames."""
        if self._fixed is not None:
            yield from self._smoothed(frames, self._fixed)
            return
        raw = RangeFinder(len(self.sigma), joint=True)
        for _, _, chunk in frames.chunks(self.chunk):
            raw.add(chunk)
        inner = raw.scale(clip=True)
        smooth = RangeFinder(len(self.sigma), self.joint)
        for _, _, chunk in self._smoothed(frames, inner):
            smooth.add(chunk)
        outer = smooth.scale(clip=True)
        for start, raw_chunk, chunk in self._smoothed(frames, inner):
            yield start, raw_chunk, outer(chunk, self.dtype)

    def _smoothed(
        self, frames: FrameRange, scale: Scale
    ) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
        for start, before, chunk in frames.chunks(self.chunk, self._halo):
            stop = before + min(self.chunk, frames.length - start)
            smooth = gaussian(scale(chunk, self.dtype), self.sigma)
            yield start, chunk[before:stop], smooth[before:stop]
