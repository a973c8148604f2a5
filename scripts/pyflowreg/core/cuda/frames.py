"""Recorded frames on a device: scaled and smoothed for the flow, and warped by what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.backend_types import RawChunk
from pyflowreg.core.cuda.device import DeviceArray, Layout, Packed, Stream
from pyflowreg.core.cuda.grid import THREADS, parts, suffix
from pyflowreg.core.cuda.resizing import Arrays
from pyflowreg.core.frame_warp import planes, source_type
from pyflowreg.core.numerics import to_dtype
from pyflowreg.motion_correction.preprocessing import gaussian_kernel

TYPES = ("uint8", "int8", "uint16", "int16", "float32", "float64")
"""Types that frames may have on the device, in the order of their numbers in the kernels."""


def _native(frames: NDArray[Any]) -> NDArray[Any]:
    """Frames, contiguous, in a type the kernels read; others become float64, as on the CPU."""
    kind = frames.dtype.newbyteorder("=")
    return np.ascontiguousarray(frames, kind if kind.name in TYPES else np.float64)


def _code(kind: np.dtype[Any]) -> int:
    return TYPES.index(kind.name)


def _upload(stream: Stream, room: Arrays, name: str, array: NDArray[Any]) -> DeviceArray:
    target = room[name].viewed(array.shape, array.dtype)
    stream.upload(target, array)
    return target


@dataclass(frozen=True)
class Raw:
    """Frames on the device as they were recorded.

    Parameters
    ----------
    frames : DeviceArray
        Shape (n, H, W, C).
    first : int
        Number of the first of them.
    """

    frames: DeviceArray
    first: int


class Smoother:
    """Brings recorded frames to what the flow sees.

    Parameters
    ----------
    chunk : RawChunk
        Frames, and how they are scaled and smoothed.
    kind : dtype
        Type of the computation.
    """

    def __init__(self, chunk: RawChunk, kind: np.dtype[Any]) -> None:
        self._chunk = chunk
        self._kind = kind
        self._frames = _native(chunk.frames)
        axes = [[gaussian_kernel(width) for width in row] for row in chunk.sigma]
        longest = max(len(kernel) for row in axes for kernel in row)
        self._radii = np.array([[len(kernel) // 2 for kernel in row] for row in axes], np.int32)
        self._stride = longest
        kernels = np.zeros((3, len(axes), longest))
        for channel, row in enumerate(axes):
            for axis, kernel in enumerate(row):
                kernels[axis, channel, : len(kernel)] = kernel
        self._halo = int(self._radii[:, 2].max())
        self._tables = Packed(
            {
                "factor": np.asarray(chunk.factor, np.float64),
                "offset": np.asarray(chunk.offset, np.float64),
                **{f"kernels {axis}": kernels[axis] for axis in range(3)},
                **{f"radii {axis}": self._radii[:, axis].copy() for axis in range(3)},
            }
        )

    def reserve(self, layout: Layout, frames: int) -> None:
        """Make room for so many frames at a time."""
        _, height, width, channels = self._frames.shape
        around = frames + 2 * self._halo
        layout.reserve("raw", (around, height, width, channels), self._frames.dtype)
        layout.reserve("scratch", (2, around, channels, height, width), self._kind)
        layout.reserve("smoothing", (self._tables.size,), np.uint8)

    def enqueue(self, stream: Stream, room: Arrays, first: int, last: int, out: DeviceArray) -> Raw:
        """Smooth the frames `first` to `last` - 1.

        Parameters
        ----------
        stream : Stream
            Where the work is queued.
        room : dict of str to DeviceArray
            See `reserve`.
        first, last : int
            Numbers in the frames of the chunk.
        out : DeviceArray
            Receives planes (n C, H, W).

        Returns
        -------
        Raw
            The recorded frames, and those around them that the filter in time looks at.
        """
        begin, end = max(first - self._halo, 0), min(last + self._halo, len(self._frames))
        count, height, width, channels = self._frames[begin:end].shape
        raw = _upload(stream, room, "raw", self._frames[begin:end])
        tables = self._tables.upload(stream, room["smoothing"])
        both = room["scratch"].viewed((2, count * channels, height, width), self._kind)
        down, across = both.first(1), both.after(1)
        smooth = across if self._halo else out
        grid = (parts(height * width), count * channels)
        kind = suffix(self._kind)
        stream.launch(
            f"scale_and_smooth_down_{kind}", grid, THREADS,
            raw, _code(self._frames.dtype), channels, height, width, tables["factor"],
            tables["offset"], int(self._chunk.clip), tables["radii 0"], tables["kernels 0"],
            self._stride, down,
        )  # fmt: skip
        stream.launch(
            f"smooth_across_{kind}", grid, THREADS,
            down, channels, height, width, tables["radii 1"], tables["kernels 1"], self._stride,
            smooth,
        )  # fmt: skip
        if self._halo:
            stream.launch(
                f"smooth_in_time_{kind}", (grid[0], (last - first) * channels), THREADS,
                smooth, count, first - begin, channels, height * width, tables["radii 2"],
                tables["kernels 2"], self._stride, out,
            )  # fmt: skip
        return Raw(raw, begin)


class FrameWarp:
    """Warps recorded frames; see `pyflowreg.core.frame_warp.warp_frames`.

    Parameters
    ----------
    frames : ndarray
        Shape (T, H, W, C).
    fill : ndarray
        Values of the samples outside the image, shape (H, W, C).
    dtype : dtype
        Type of the result, one of `TYPES`.
    field_kind : dtype
        Type of the displacements.
    """

    def __init__(
        self,
        frames: NDArray[Any],
        fill: NDArray[Any],
        dtype: np.dtype[Any],
        field_kind: np.dtype[Any],
    ) -> None:
        self._frames = frames
        self._dtype = dtype
        self._field_kind = field_kind
        self._fill = planes(to_dtype(fill, dtype))
        self._source_type = source_type(frames.dtype, dtype)

    def reserve(self, layout: Layout, frames: int) -> None:
        """Make room for so many frames at a time."""
        _, height, width, channels = self._frames.shape
        shape = (frames, height, width, channels)
        layout.reserve("raw", shape, self._source_type)
        layout.reserve("source", shape if self._converts else (0,), self._source_type)
        layout.reserve("fill", self._fill.shape, self._dtype)
        layout.reserve("warped frames", shape, self._dtype)
        layout.reserve("valid", (frames, height, width), np.uint8)
        layout.reserve("statistics", (frames, 4), np.float64)

    @property
    def _converts(self) -> bool:
        """Whether the recorded frames are not what is sampled."""
        return self._source_type != _native(self._frames[:0]).dtype

    def upload(self, stream: Stream, room: Arrays, first: int, last: int) -> Raw:
        """Bring the frames `first` to `last` - 1 to the device."""
        source = np.ascontiguousarray(to_dtype(self._frames[first:last], self._source_type))
        return Raw(_upload(stream, room, "source" if self._converts else "raw", source), first)

    def enqueue(
        self,
        stream: Stream,
        room: Arrays,
        first: int,
        last: int,
        fields: DeviceArray,
        raw: Raw | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Warp the frames `first` to `last` - 1.

        Parameters
        ----------
        stream : Stream
            Where the work is queued.
        room : dict of str to DeviceArray
            See `reserve`.
        first, last : int
            Numbers in the frames.
        fields : DeviceArray
            Displacements in pixels, (n, H, W, 2), or (1, H, W, 2) for all frames.
        raw : Raw, optional
            Recorded frames that are on the device already.

        Returns
        -------
        frames : ndarray
            Planes (n, C, H, W).
        valid, statistics : ndarray
            See `WarpedFrames`; statistics of every field.
        """
        if raw is None or self._converts:
            raw = self.upload(stream, room, first, last)
        count, (_, height, width, channels) = last - first, self._frames.shape
        fill = _upload(stream, room, "fill", self._fill)
        own = fields.shape[0]
        out = room["warped frames"].viewed((count, channels, height, width), self._dtype)
        valid = room["valid"].viewed((own, height, width), np.uint8)
        statistics = room["statistics"].viewed((own, 4), np.float64)
        step = 2 * height * width if own > 1 or count == 1 else 0
        kind = suffix(self._field_kind)
        stream.launch(
            f"warp_frames_{kind}", (parts(height * width), count), THREADS,
            raw.frames.after(first - raw.first), _code(raw.frames.dtype), fields, np.int64(step),
            fill, channels, height, width, out, _code(self._dtype), valid,
        )  # fmt: skip
        stream.launch(f"describe_{kind}", (own, 1), THREADS, fields, height, width, statistics)
        return stream.download(out), stream.download(valid), stream.download(statistics)
