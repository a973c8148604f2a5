"""Frames as the algorithm sees them: binned, in batches, in chunks with a temporal halo."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.numerics import LARGEST, Numerics, to_dtype
from pyflowreg.core.threads import ahead
from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io import Reader
from pyflowreg.motion_correction.chunks import chunk_length


@dataclass(frozen=True)
class Bin:
    """Frames [start, stop) of a recording whose sum over `divisor` is one binned frame."""

    start: int
    stop: int
    divisor: int


def bins(n_frames: int, size: int, buffer_size: int, drop_short: bool) -> list[Bin]:
    """Cut a recording into bins; a batch never shares a bin with the next one."""
    result = []
    batch = size * buffer_size
    for first in range(0, n_frames, batch):
        count = min(batch, n_frames - first)
        if drop_short and count > size:
            # The original samples a moving average at the middle of each bin, so a last bin of
            # less than half the size is never reached, and a longer one is divided by `size`.
            centres = range((size + 1) // 2 - 1, count, size)
            starts = [size * k for k in range(len(centres))]
            divisors = [size] * len(starts)
        else:
            starts = list(range(0, count, size))
            divisors = [min(size, count - start) for start in starts]
        result += [
            Bin(first + start, first + min(start + size, count), divisor)
            for start, divisor in zip(starts, divisors, strict=True)
        ]
    return result


class BinnedFrames:
    """Frames of a recording, averaged in groups; reads only what is asked for.

    Parameters
    ----------
    reader : Reader
        The recording.
    bin_size : int
        Frames per group; 1 leaves the recording as it is.
    buffer_size : int
        Groups per batch.
    switches : Numerics
        `drop_short_bin` decides about an incomplete last group.

    Raises
    ------
    ConfigError
        If fewer than two frames would be left.
    """

    def __init__(self, reader: Reader, bin_size: int, buffer_size: int, switches: Numerics) -> None:
        self._reader = reader
        n_frames = reader.shape[0]
        self._bins = (
            bins(n_frames, bin_size, buffer_size, switches.drop_short_bin) if bin_size > 1 else None
        )
        count = n_frames if self._bins is None else len(self._bins)
        if self._bins is not None and count < 2:
            text = (
                f"bin_size: {bin_size} leaves {count} of the {n_frames} frames of {reader.path}; "
                "at least 2 are needed."
            )
            raise ConfigError([text])
        self.shape = (count, *reader.shape[1:])
        self._block = chunk_length(*reader.shape[1:])
        self.dtype = reader.dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Frames [start, stop) in the recording's dtype, shape (n, H, W, C).

        Raises
        ------
        InputError
            If a frame holds NaN, infinite or huge values, or cannot be read.
        """
        if self._bins is None:
            return self._checked(self._reader.read(start, stop), start)
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for position, group in enumerate(self._bins[start:stop]):
            out[position] = to_dtype(self._sum(group) / group.divisor, self.dtype)
        return out

    def _sum(self, group: Bin) -> NDArray[np.float64]:
        """Add the frames of a bin one by one, so that the blocks they are read in do not matter."""
        total = np.zeros(self.shape[1:])
        for first in range(group.start, group.stop, self._block):
            last = min(first + self._block, group.stop)
            for frame in self._checked(self._reader.read(first, last), first):
                total += frame
        return total

    def where(self, index: int) -> str:
        """Say which frame of which file a frame is, for messages."""
        if self._bins is None:
            return f"{self._reader.path}: frame {index} (counted from 0)"
        group = self._bins[index]
        frames = f"frames {group.start} to {group.stop - 1}"
        return f"{self._reader.path}: the mean of {frames} (counted from 0)"

    def _checked(self, frames: NDArray[Any], first: int) -> NDArray[Any]:
        if frames.dtype.kind == "f":
            # Written so that NaN is not within the bounds either.
            usable = (np.abs(frames) <= LARGEST).all(axis=(1, 2, 3))
            if not usable.all():
                position = int(np.argmin(usable))
                finite = np.isfinite(frames[position]).all()
                what = f"values beyond +-{LARGEST:g}" if finite else "NaN or infinite values"
                raise InputError(
                    f"{self._reader.path}: frame {first + position} (counted from 0) contains "
                    f"{what}; a displacement cannot be computed from it. "
                    "Replace these values, or leave the frame out, and try again."
                )
        return frames


@dataclass(frozen=True)
class FrameRange:
    """A run of frames over which filters do not look out: a batch, or the reference frames.

    Parameters
    ----------
    length : int
        Number of frames.
    read : callable
        (start, stop) -> frames (n, H, W, C), counted from the beginning of the range.
    where : callable
        Number of a frame in the range -> file and frame, for messages.
    """

    length: int
    read: Callable[[int, int], NDArray[Any]]
    where: Callable[[int], str] = "frame {}".format

    @classmethod
    def batch(cls, frames: BinnedFrames, start: int, stop: int) -> FrameRange:
        """Frames [start, stop) of a recording."""
        return cls(
            stop - start,
            lambda a, b: frames.read(start + a, start + b),
            lambda index: frames.where(start + index),
        )

    @classmethod
    def selection(cls, frames: BinnedFrames, indices: Sequence[int]) -> FrameRange:
        """Frames by number, in the given order."""

        def read(start: int, stop: int) -> NDArray[Any]:
            out = np.empty((stop - start, *frames.shape[1:]), frames.dtype)
            chosen = np.asarray(indices[start:stop])
            for run in np.split(np.arange(len(chosen)), np.flatnonzero(np.diff(chosen) != 1) + 1):
                out[run] = frames.read(int(chosen[run[0]]), int(chosen[run[-1]]) + 1)
            return out

        return cls(len(indices), read, lambda index: frames.where(indices[index]))

    def checked_fields(self, start: int, fields: NDArray[Any]) -> NDArray[Any]:
        """Return the fields (n, H, W, 2) of frames from `start` on, all finite.

        Raises
        ------
        InputError
            Naming the first frame whose field is not. It would spoil all frames after it, because
            their computation starts from a mean of fields.
        """
        for position, field in enumerate(fields):
            if not np.isfinite(field).all():
                raise InputError(
                    f"{self.where(start + position)} has no finite displacement: its values, or "
                    "those of the frames it is smoothed with, differ too much in size from the "
                    "reference's. Replace extreme values, or leave the frame out, and try again."
                )
        return fields

    def chunks(
        self, size: int, halo: int = 0, begin: int = 0
    ) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Iterate over chunks with their temporal neighbourhood; the next one is being read.

        Frames before `begin` are left out.

        Yields
        ------
        start : int
            First frame of the chunk.
        before : int
            How many frames of the array precede the chunk.
        frames : ndarray
            The chunk and up to `halo` frames on either side, (n, H, W, C).
        """
        chunks = self._chunks(size, halo, begin)
        yield from chunks if self.length - begin <= size else ahead(chunks)

    def _chunks(
        self, size: int, halo: int, begin: int
    ) -> Generator[tuple[int, int, NDArray[Any]], None, None]:
        for start in range(begin, self.length, size):
            stop = min(start + size, self.length)
            first, last = max(0, start - halo), min(self.length, stop + halo)
            yield start, start - first, self.read(first, last)
