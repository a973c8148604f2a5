"""Displacements of frames on a device, from the coarsest level of a fixed frame to the finest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.cuda.device import Device, DeviceArray, Layout, Packed, Stream
from pyflowreg.core.cuda.grid import THREADS, parts, suffix
from pyflowreg.core.cuda.levels import DeviceLevel
from pyflowreg.core.cuda.resizing import Arrays, Resizing, mark_varying
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.plan_levels import plan_levels, resized


class DeviceFlow:
    """A fixed frame on a device, and how displacements from it are computed.

    Parameters
    ----------
    device : Device
        Where.
    fixed : ndarray
        Shape (H, W, C), scaled to about [0, 1].
    parameters : FlowParameters
        Settings of the computation.
    """

    def __init__(self, device: Device, fixed: NDArray[Any], parameters: FlowParameters) -> None:
        self.kind = parameters.dtype
        self.size, self.channels = fixed.shape[:2], fixed.shape[2]
        self._warps_coarsest = parameters.switches.warp_coarsest
        self._levels: list[DeviceLevel] = []
        before = self.size
        for number, found in enumerate(plan_levels(fixed, parameters)):
            frame = (self.channels, *self.size)
            level = DeviceLevel(number, found, parameters, frame, before, device.shared_bytes)
            self._levels.append(level)
            before = level.size
        self._last = Resizing(before, self.size, self.kind)
        arrays = self._last.tables("last")
        for level in self._levels:
            arrays |= level.constants()
        constants = Packed(arrays)
        stream = device.stream()
        self._constants = constants.upload(stream, device.allocate(constants.size))
        stream.wait()  # other streams use it, too

    @property
    def coarsest(self) -> tuple[tuple[int, int], np.dtype[Any]]:
        """Size and type of the level at which displacements start."""
        return self._levels[0].size, self._levels[0].kind

    def start(self, uv: NDArray[Any] | None) -> NDArray[Any] | None:
        """Bring the displacement (H, W, 2) to start from to the coarsest level, (2, h, w)."""
        if uv is None or not np.any(uv):
            return None
        planes = np.ascontiguousarray(np.moveaxis(uv, -1, 0), dtype=self.kind)
        size, kind = self.coarsest
        return resized(planes, *size, kind)

    def reserve(self, layout: Layout, frames: int) -> None:
        """Make room for so many frames at a time."""
        pixels = self.size[0] * self.size[1]
        for level in self._levels:
            level.reserve(layout, frames)
        layout.reserve("scratch", (frames, 2 * (self._last.middle + pixels)), self.kind)
        layout.reserve("full", (frames, self.channels, pixels), self.kind)
        layout.reserve("varying", (frames, self.channels), np.int32)
        layout.reserve("w", (frames, pixels, 2), self.kind)

    def frames_in(self, room: Arrays, frames: int) -> DeviceArray:
        """Where the moving frames belong, planes (n C, H, W)."""
        return room["full"].viewed((frames * self.channels, *self.size), self.kind)

    def enqueue(
        self, stream: Stream, room: Arrays, frames: int, start: NDArray[Any] | None
    ) -> DeviceArray:
        """Compute displacements of the frames in `room`.

        Parameters
        ----------
        stream : Stream
            Where the work is queued.
        room : dict of str to DeviceArray
            Memory, see `reserve`, with the frames.
        frames : int
            How many.
        start : ndarray or None
            See `start`.

        Returns
        -------
        DeviceArray
            Backward map in pixels, (n, H, W, 2).
        """
        full = self.frames_in(room, frames)
        varying = room["varying"].viewed((frames * self.channels,), np.int32)
        mark_varying(stream, full, self.kind, varying)
        coarse: DeviceArray | None = None
        fields = (room["field"], room["coarse"])
        size, kind = self.coarsest
        first = fields[0].viewed((frames, 2, *size), kind)
        if start is None:
            stream.clear(first)
        else:
            stream.upload(first, np.ascontiguousarray(np.broadcast_to(start, first.shape)))
        warp = start is not None and self._warps_coarsest
        for number, level in enumerate(self._levels):
            coarse = level.enqueue(
                stream, full, varying, coarse, fields[number % 2], self._constants, room, warp
            )
            warp = True
        assert coarse is not None
        return self._finished(stream, room, coarse)

    def _finished(self, stream: Stream, room: Arrays, coarse: DeviceArray) -> DeviceArray:
        """Bring displacements of the finest level, planes (2 n, h, w), to full resolution."""
        count, (height, width) = coarse.shape[0], self.size
        flags = room["flags"].viewed((count,), np.int32)
        mark_varying(stream, coarse, self.kind, flags)
        scratch = room["scratch"].viewed((count, self._last.middle + height * width), self.kind)
        middle = scratch.viewed((count, self._last.middle), self.kind)
        whole = DeviceArray(
            middle.pointer + middle.nbytes, (count, height, width), self.kind, middle.owner
        )
        self._last.enqueue(stream, coarse, flags, self._constants, "last", middle, whole)
        frames = count // 2
        w = room["w"].viewed((frames, height, width, 2), self.kind)
        stream.launch(
            f"interleave_{suffix(self.kind)}", (parts(height * width), frames), THREADS,
            whole, height * width, w,
        )  # fmt: skip
        return w
