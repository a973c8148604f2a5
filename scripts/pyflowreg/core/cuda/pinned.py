"""Memory of the host that a GPU copies to and from by itself, used again and again."""

from __future__ import annotations

import ctypes
import math
import weakref
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray


class HostBlock(Protocol):
    """A block of page-locked memory, given back when nobody refers to it any more."""

    @property
    def ptr(self) -> int:
        """Address of its first byte."""
        ...


class PinnedPool:
    """Arrays in page-locked memory, which takes long to get; blocks are kept for the next ones.

    Parameters
    ----------
    allocate : callable
        Makes a block of a size in bytes, or raises MemoryError: arrays are then ordinary ones,
        which only take longer to copy.
    """

    def __init__(self, allocate: Callable[[int], HostBlock]) -> None:
        self._allocate = allocate
        self._idle: list[tuple[int, int, HostBlock]] = []
        # Arrays can go at any moment, also while this thread holds the lock: the garbage collector
        # runs when it likes.
        self._returned: deque[tuple[int, int, HostBlock]] = deque()
        self._lock = Lock()

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """Make an array; its memory is used again when it and all its views are gone."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size == 0:
            return np.empty(shape, kind)
        try:
            held, block = self._block(size)
        except MemoryError:
            return np.empty(shape, kind)
        buffer = (ctypes.c_ubyte * held).from_address(block.ptr)
        # Of all views of the array, this is the base.
        weakref.finalize(buffer, self._put, held, block)
        found: NDArray[Any] = np.frombuffer(memoryview(buffer), kind, math.prod(shape))
        return found.reshape(shape)

    def _block(self, size: int) -> tuple[int, HostBlock]:
        with self._lock:
            while self._returned:
                insort(self._idle, self._returned.popleft())
            for place, (held, _, block) in enumerate(self._idle):
                if held >= size:  # the smallest that does
                    del self._idle[place]
                    return held, block
            # Too small for what is worked on now: the sizes of chunks hardly change.
            self._idle.clear()
        return size, self._allocate(size)

    def _put(self, held: int, block: HostBlock) -> None:
        self._returned.append((held, id(block), block))
