"""Memory and streams of a device, lent to threads, and work on as many frames at a time as fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import LifoQueue
from threading import Lock
from typing import TypeVar

from pyflowreg.core.cuda.device import Device, DeviceMemoryError, Layout, Memory, Stream
from pyflowreg.core.cuda.resizing import Arrays
from pyflowreg.errors import BackendError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

Reserve = Callable[[Layout, int], None]
"""Makes room for so many frames."""

Work = Callable[[Stream, Arrays, int, int], Result]
"""Queues the work on frames from the first number to before the second."""

WORKERS = 2
"""Calls at the same time: one computes while the frames of the other come and go."""

MOST_FRAMES = 2**12
"""At a time; grids have less than 2^16 blocks for the planes of frames, so for 15 channels."""

MB = 2**20


class _Worker:
    """A stream with memory that grows with what is asked for."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._memory: Memory | None = None
        self._size = 0
        self.stream = device.stream()

    def room(self, layout: Layout) -> Arrays:
        """Give memory; what was in it before is lost."""
        if self._memory is None or self._size < layout.size:
            self._memory = None  # before the larger one is taken
            self._memory = self._device.allocate(layout.size)
            self._size = layout.size
        return layout.place(self._memory)

    def forget(self) -> bool:
        """Give the memory back once nothing that is under way needs it; tell if there was any."""
        self.stream.wait()
        had, self._memory = self._memory is not None, None
        return had


class Rooms:
    """Does work on frames, part by part, in memory that is taken once.

    Parameters
    ----------
    device : Device
        Where.
    share : float
        Part of the memory that is free now that may be used.
    """

    def __init__(self, device: Device, share: float) -> None:
        self._device = device
        self._budget = max(int(device.free_bytes() * share) // WORKERS, 1)
        self._idle: LifoQueue[_Worker] = LifoQueue()
        self._alone = Lock()
        for _ in range(WORKERS):
            self._idle.put(_Worker(device))

    def frames(self, reserve: Reserve, most: int) -> int:
        """Frames that fit at a time, 1 to `most`."""
        low, high = 1, max(min(most, MOST_FRAMES), 1)
        while low < high:
            middle = (low + high + 1) // 2
            if self._size(reserve, middle) <= self._budget:
                low = middle
            else:
                high = middle - 1
        return low

    @staticmethod
    def _layout(reserve: Reserve, frames: int) -> Layout:
        layout = Layout()
        reserve(layout, frames)
        return layout

    def _size(self, reserve: Reserve, frames: int) -> int:
        return self._layout(reserve, frames).size

    def run(self, count: int, reserve: Reserve, work: Work[Result]) -> list[Result]:
        """Do work on frames 0 to `count` - 1.

        If memory does not suffice, it is all done again on half as many frames at a time.

        Parameters
        ----------
        count : int
            Number of frames.
        reserve : callable
            Makes room for a part of them.
        work : callable
            Queues the work on a part; what it returns is complete when this method returns.

        Returns
        -------
        list
            What `work` returned for the parts, in their order.

        Raises
        ------
        BackendError
            If the memory of the device does not suffice for a single frame.
        """
        while True:
            frames = self.frames(reserve, count)
            frames = -(-count // -(-count // frames))  # parts of about the same length
            try:
                return self._done(count, frames, reserve, work)
            except DeviceMemoryError:
                pass
            # Not within `except`, whose traceback keeps memory.
            self._halve(reserve, frames)

    def _done(self, count: int, frames: int, reserve: Reserve, work: Work[Result]) -> list[Result]:
        """Do work on so many frames at a time; what holds memory is gone with this call."""
        with self._lent() as worker:
            room = worker.room(self._layout(reserve, frames))
            found = [
                work(worker.stream, room, begin, min(begin + frames, count))
                for begin in range(0, count, frames)
            ]
            worker.stream.wait()
            return found

    @contextmanager
    def _lent(self) -> Iterator[_Worker]:
        worker = self._idle.get()
        finished = False
        try:
            yield worker
            finished = True
        finally:
            try:
                if not finished:
                    worker.forget()
            finally:
                self._idle.put(worker)

    def made(self, make: Callable[[], Result]) -> Result:
        """Make what lies on the device besides the frames.

        Parameters
        ----------
        make : callable
            Makes it.

        Returns
        -------
        object
            What `make` returned.

        Raises
        ------
        BackendError
            If the memory of the device does not suffice.
        """
        while True:
            try:
                return make()
            except DeviceMemoryError as error:
                reason = str(error)
            # Not within `except`, whose traceback keeps memory.
            if not self._forget():
                raise self._too_small(f"a fixed frame ({reason})")

    def _forget(self) -> bool:
        """Give the memory of all workers back when they have done their work; tell if any had."""
        with self._alone:  # two that wait for each other's would wait for ever
            workers = [self._idle.get() for _ in range(WORKERS)]
            try:
                had = [worker.forget() for worker in workers]
                return any(had)
            finally:
                for worker in workers:
                    self._idle.put(worker)

    def _too_small(self, what: str) -> BackendError:
        return BackendError(
            f"{self._device.name} has {self._device.free_bytes() / MB:.0f} MB of free memory, "
            f"which do not suffice for {what}. End other programs that use this GPU, choose "
            "another with backend_params.device, or compute on the CPU (flow_backend: flowreg)."
        )

    def _halve(self, reserve: Reserve, frames: int) -> None:
        size = self._size(reserve, frames)
        free = self._device.free_bytes() / MB
        if frames == 1:
            if self._forget():
                return
            raise self._too_small(f"a single frame ({size / MB:.0f} MB and working memory)")
        self._budget = min(self._budget, size // 2)
        logger.warning(
            "%s has not enough memory for %d frames at a time (%.0f MB, %.0f MB are free); going "
            "on with half as many.",
            self._device.name,
            frames,
            size / MB,
            free,
        )
