"""What the backend does with frames of a recording: displacements, and all of stage 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyflowreg.core.backend_types import RawChunk
from pyflowreg.core.cuda.device import Device, Layout, Stream
from pyflowreg.core.cuda.flow import DeviceFlow
from pyflowreg.core.cuda.frames import FrameWarp, Smoother
from pyflowreg.core.cuda.resizing import Arrays
from pyflowreg.core.cuda.rooms import Rooms
from pyflowreg.core.frame_warp import WarpedFrames
from pyflowreg.core.parameters import FlowParameters


def joined(pieces: list[NDArray[Any]]) -> NDArray[Any]:
    """Parts of an array, one after the other along the first axis."""
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def as_warped(pieces: list[tuple[NDArray[Any], ...]]) -> WarpedFrames:
    """Parts of frames (n, C, H, W), masks and statistics, put together."""
    frames, valid, statistics = (joined(list(column)) for column in zip(*pieces, strict=True))
    return WarpedFrames(np.moveaxis(frames, 1, -1), valid, statistics)


class CudaPlan:
    """A fixed frame on a device, ready for any number of moving frames.

    Parameters
    ----------
    device : Device
        Where.
    rooms : Rooms
        Its memory.
    fixed : ndarray
        Shape (H, W, C), scaled to about [0, 1].
    parameters : FlowParameters
        Settings of the computation.
    """

    def __init__(
        self, device: Device, rooms: Rooms, fixed: NDArray[Any], parameters: FlowParameters
    ) -> None:
        self._rooms = rooms
        self._flow = rooms.made(lambda: DeviceFlow(device, fixed, parameters))

    def displacements(
        self, moving: NDArray[Any], uv: NDArray[Any] | None = None, threads: int = 1
    ) -> NDArray[Any]:
        """Displacement of every moving frame.

        Parameters
        ----------
        moving : ndarray
            Shape (T, H, W, C).
        uv : ndarray, optional
            Initial displacement for all frames, pixels, shape (H, W, 2); zero by default.
        threads : int
            Not needed.

        Returns
        -------
        ndarray
            Backward map in pixels, shape (T, H, W, 2), dtype of the chosen precision.
        """
        del threads
        flow, start = self._flow, self._flow.start(uv)
        if len(moving) == 0:
            return np.empty((0, *flow.size, 2), flow.kind)

        def work(stream: Stream, room: Arrays, begin: int, end: int) -> NDArray[Any]:
            planes = np.ascontiguousarray(np.moveaxis(moving[begin:end], -1, 1), dtype=flow.kind)
            target = flow.frames_in(room, end - begin)
            stream.upload(target, planes.reshape(target.shape))
            return stream.download(flow.enqueue(stream, room, end - begin, start))

        return joined(self._rooms.run(len(moving), flow.reserve, work))

    def correct(
        self,
        chunk: RawChunk,
        uv: NDArray[Any] | None,
        fill: NDArray[Any],
        dtype: DTypeLike,
        threads: int = 1,
    ) -> tuple[NDArray[Any], WarpedFrames]:
        """Smooth frames, find their displacements and warp them; see `Corrects`."""
        del threads
        flow, start = self._flow, self._flow.start(uv)
        smoother = Smoother(chunk, flow.kind)
        warp = FrameWarp(chunk.frames, fill, np.dtype(dtype), flow.kind)

        def reserve(layout: Layout, frames: int) -> None:
            flow.reserve(layout, frames)
            smoother.reserve(layout, frames)
            warp.reserve(layout, frames)

        def work(stream: Stream, room: Arrays, begin: int, end: int) -> tuple[NDArray[Any], ...]:
            first, last = chunk.wanted.start + begin, chunk.wanted.start + end
            raw = smoother.enqueue(stream, room, first, last, flow.frames_in(room, end - begin))
            w = flow.enqueue(stream, room, end - begin, start)
            warped = warp.enqueue(stream, room, first, last, w, raw)
            return stream.download(w), *warped

        pieces = self._rooms.run(len(chunk.wanted), reserve, work)
        return joined([piece[0] for piece in pieces]), as_warped([piece[1:] for piece in pieces])


@dataclass(frozen=True)
class CudaBackend:
    """Coarse-to-fine variational flow on a GPU, with the arithmetic of the backend `flowreg`.

    Parameters
    ----------
    device : Device
        Where.
    rooms : Rooms
        Its memory.
    """

    device: Device
    rooms: Rooms

    def prepare(self, fixed: NDArray[Any], parameters: FlowParameters) -> CudaPlan:
        """Make the plan for one fixed frame; see `CudaPlan`."""
        return CudaPlan(self.device, self.rooms, fixed, parameters)

    def preferred_chunk(
        self, height: int, width: int, channels: int, parameters: FlowParameters, most: int
    ) -> int:
        """Frames per call, 1 to `most`: whole rounds of the multiprocessors if there are some."""
        del height, width, channels, parameters
        rounds = most // self.device.processors
        return rounds * self.device.processors or most

    def warp_frames(
        self,
        frames: NDArray[Any],
        fields: NDArray[Any],
        fill: NDArray[Any],
        dtype: DTypeLike,
        threads: int = 1,
    ) -> WarpedFrames:
        """Do what `pyflowreg.core.frame_warp.warp_frames` does."""
        del threads
        target = np.dtype(dtype)
        described = fields.ndim == 4
        w = np.ascontiguousarray(fields if described else fields[np.newaxis])
        warp = FrameWarp(frames, fill, target, w.dtype)

        def reserve(layout: Layout, count: int) -> None:
            warp.reserve(layout, count)
            layout.reserve("w", (count if described else 1, *w.shape[1:]), w.dtype)

        def work(stream: Stream, room: Arrays, begin: int, end: int) -> tuple[NDArray[Any], ...]:
            own = w[begin:end] if described else w
            given = room["w"].viewed(own.shape, own.dtype)
            stream.upload(given, own)
            return warp.enqueue(stream, room, begin, end, given)

        found = as_warped(self.rooms.run(len(frames), reserve, work))
        if described:
            return found
        return WarpedFrames(found.frames, found.valid[:1], np.empty((0, 4)))
