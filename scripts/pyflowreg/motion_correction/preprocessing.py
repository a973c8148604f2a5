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

from pyflowreg.core.backend_types import RawChunk
from pyflowreg.core.frame_warp import planes
from pyflowreg.core.numerics import to_dtype
from pyflowreg.core.threads import for_each
from pyflowreg.motion_correction.frame_kernels import smooth_in_time, smooth_plane
from pyflowreg.motion_correction.frames import FrameRange

ROBUST_PERCENT = (0.1, 99.9)
"""Percentiles of the reference that become 0 and 1 in the standard profile: a few hot pixels do
not change the scale of a recording."""

PART = 2**14
"""Pixels of a plane that one thread filters in time."""

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
    dtype = np.dtype(np.float32) if integer else frames.dtype
    unscaled = np.ones(len(sigma)), np.zeros(len(sigma))
    out = _scaled_and_smoothed(frames, *unscaled, False, sigma, dtype, range(len(frames)), 1)
    return to_dtype(out, frames.dtype) if integer else out


def _scaled_and_smoothed(
    frames: NDArray[Any],
    factor: NDArray[np.float64],
    offset: NDArray[np.float64],
    clip: bool,
    sigma: NDArray[np.float64],
    dtype: np.dtype[Any],
    wanted: range,
    threads: int,
) -> NDArray[Any]:
    """Frames `wanted` of ``factor * frames - offset``, one number per channel, after smoothing.

    Returns
    -------
    ndarray
        Shape (n, H, W, C); the planes are contiguous.
    """
    count, height, width, channels = frames.shape
    kernels = [[gaussian_kernel(width) for width in row] for row in sigma]
    in_time = [len(row[2]) > 1 for row in kernels]
    needed = range(count) if any(in_time) else wanted
    smooth = np.empty((len(needed), channels, height, width), dtype)

    def one(position: int) -> None:
        stored = planes(frames[needed[position]])
        if smooth.dtype == np.float64:
            # Only few frames; kernels for all types of recordings would take long to compile.
            stored = stored.astype(np.float64)
        for c, (along_y, along_x, _) in enumerate(kernels):
            smooth_plane(
                stored[c], factor[c], offset[c], clip, along_y, along_x, smooth[position, c]
            )

    for_each(one, len(needed), threads)
    if not any(in_time):
        return np.moveaxis(smooth, 1, -1)
    out = np.empty((len(wanted), channels, height, width), dtype)
    flat, target = (array.reshape(len(array), channels, -1) for array in (smooth, out))
    pixels = flat.shape[2]

    def filtered(part: int) -> None:
        # All frames of a few rows, because every frame is needed for several.
        begin, end = part * PART, min((part + 1) * PART, pixels)
        for c, (_, _, along_t) in enumerate(kernels):
            smooth_in_time(flat, wanted.start, c, along_t, target, begin, end)

    for_each(filtered, -(-pixels // PART), threads)
    return np.moveaxis(out, 1, -1)


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
        factor, offset = self._line
        out = frames * factor - offset
        if self.clip:
            np.clip(out, 0, 1, out=out)
        return out.astype(dtype, copy=False)

    @property
    def line(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Factor and offset of ``factor * frames - offset``, per channel, constants replaced."""
        factor, offset = self._line
        if self.constant is not None:
            replaced = ~np.isnan(self.constant)
            offset = np.where(replaced, offset - factor * self.constant, offset)
            factor = np.where(replaced, 0.0, factor)
        return factor, offset

    @property
    def _line(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Factor and offset of ``factor * frames - offset``, per channel."""
        flat = is_constant(self.low, self.high)
        factor = 1 / np.where(flat, 1.0, self.high - self.low)
        # mat2gray only clips a constant image.
        return factor, np.where(flat & self.clip, 0.0, self.low * factor)

    def smoothed(
        self,
        frames: NDArray[Any],
        sigma: NDArray[np.float64],
        dtype: DTypeLike,
        wanted: range,
        threads: int = 1,
    ) -> NDArray[Any]:
        """Scale and smooth frames: ``gaussian(scale(frames, dtype), sigma)[wanted]``, but faster.

        Parameters
        ----------
        frames : ndarray
            Shape (T, H, W, C).
        sigma : ndarray
            Standard deviations (y, x, t) per channel, shape (C, 3).
        dtype : dtype-like
            Floating-point type of the result.
        wanted : range
            Frames to return; the others are their neighbours in time.
        threads : int
            Frames computed at the same time; the result does not depend on it.

        Returns
        -------
        ndarray
            Shape (n, H, W, C); the planes are contiguous.
        """
        factor, offset = self.line
        return _scaled_and_smoothed(
            frames, factor, offset, self.clip, sigma, np.dtype(dtype), wanted, threads
        )


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
        # One by one, because the planes of a channel may be contiguous.
        for c in range(frames.shape[-1]):
            self.low[c] = min(self.low[c], frames[..., c].min())
            self.high[c] = max(self.high[c], frames[..., c].max())

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


Chunk = tuple[int, NDArray[Any], NDArray[Any]]
"""Number of the first frame, raw frames, preprocessed frames."""


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
    threads : int
        Frames computed at the same time; the result does not depend on it.
    """

    def __init__(
        self,
        sigma: NDArray[np.float64],
        dtype: DTypeLike,
        joint: bool,
        chunk: int,
        scale: Scale | None,
        threads: int = 1,
    ) -> None:
        self.sigma = sigma
        self.dtype = np.dtype(dtype)
        self.joint = joint
        self.chunk = chunk
        self._fixed = scale
        self._threads = threads
        self._halo = temporal_radius(sigma)

    def chunks(self, frames: FrameRange, begin: int = 0) -> Iterator[Chunk]:
        """Iterate over (start, raw frames, preprocessed frames) of a range, from `begin` on."""
        if self._fixed is not None:
            yield from self._smoothed(frames, self._fixed, begin)
            return
        raw = RangeFinder(len(self.sigma), joint=True)
        for _, _, chunk in frames.chunks(self.chunk):
            raw.add(chunk)
        inner = raw.scale(clip=True)
        smooth = RangeFinder(len(self.sigma), self.joint)
        for _, _, chunk in self._smoothed(frames, inner):
            smooth.add(chunk)
        outer = smooth.scale(clip=True)
        for start, raw_chunk, chunk in self._smoothed(frames, inner, begin):
            yield start, raw_chunk, outer(chunk, self.dtype)

    def raw_chunks(self, frames: FrameRange, begin: int = 0) -> Iterator[tuple[int, RawChunk]]:
        """Iterate over (start, chunk) as `chunks` does, but leave the smoothing to a backend.

        Only with a scale that is fixed for the whole recording.
        """
        assert self._fixed is not None
        factor, offset = self._fixed.line
        for start, before, block in frames.chunks(self.chunk, self._halo, begin):
            wanted = range(before, before + min(self.chunk, frames.length - start))
            yield start, RawChunk(block, wanted, factor, offset, self._fixed.clip, self.sigma)

    def _smoothed(self, frames: FrameRange, scale: Scale, begin: int = 0) -> Iterator[Chunk]:
        for start, before, chunk in frames.chunks(self.chunk, self._halo, begin):
            stop = before + min(self.chunk, frames.length - start)
            wanted = range(before, stop)
            smooth = scale.smoothed(chunk, self.sigma, self.dtype, wanted, self._threads)
            yield start, chunk[before:stop], smooth
