"""What the backend asks of a GPU; tests put a processor in its place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray


class DeviceMemoryError(Exception):
    """There is not enough memory on the device."""


@dataclass(frozen=True)
class DeviceArray:
    """An array in the memory of a device.

    Parameters
    ----------
    pointer : int
        Address of the first number.
    shape : tuple of int
        Shape; C-contiguous.
    dtype : dtype
        Type of the numbers.
    owner : object
        Keeps the memory.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object = field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in it."""
        return self.size * self.dtype.itemsize

    def first(self, count: int) -> DeviceArray:
        """The first `count` along the first axis."""
        return DeviceArray(self.pointer, (count, *self.shape[1:]), self.dtype, self.owner)

    def after(self, count: int) -> DeviceArray:
        """All but the first `count` along the first axis."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        shape = (self.shape[0] - count, *self.shape[1:])
        return DeviceArray(self.pointer + count * row, shape, self.dtype, self.owner)

    def viewed(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Other numbers at the same place, not more bytes of them."""
        other = DeviceArray(self.pointer, shape, np.dtype(dtype), self.owner)
        if other.nbytes > self.nbytes:
            raise ValueError(f"{other.nbytes} bytes do not fit into {self.nbytes}.")
        return other


Argument = DeviceArray | int | np.integer[Any] | np.floating[Any] | None
"""Of a kernel: pointer, 32-bit integer, number of its own type, null pointer."""


class Memory(Protocol):
    """A block of a device's memory, given back when nobody refers to it any more."""

    @property
    def pointer(self) -> int:
        """Address of its first byte."""
        ...


class Stream(Protocol):
    """A queue of work for a device; nothing in it waits for the caller but `wait`."""

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int],
        block: int,
        *arguments: Argument,
        shared: int = 0,
    ) -> None:
        """Run a kernel with so many threads per block and bytes of dynamic shared memory."""
        ...

    def upload(self, target: DeviceArray, source: NDArray[Any]) -> None:
        """Copy an array of this type and size to the device; it may change afterwards."""
        ...

    def download(self, source: DeviceArray) -> NDArray[Any]:
        """Return a new array that holds a copy once `wait` has returned."""
        ...

    def clear(self, target: DeviceArray) -> None:
        """Fill with zeros."""
        ...

    def wait(self) -> None:
        """Wait until everything is done."""
        ...


class Device(Protocol):
    """A GPU.

    Attributes
    ----------
    name : str
        For messages.
    processors : int
        Blocks are spread over so many multiprocessors.
    shared_bytes : int
        Largest dynamic shared memory of a block.
    """

    name: str
    processors: int
    shared_bytes: int

    def free_bytes(self) -> int:
        """Memory nobody uses at present."""
        ...

    def allocate(self, size: int) -> Memory:
        """Take memory, aligned to 256 bytes.

        Raises
        ------
        DeviceMemoryError
            If there is not enough.
        """
        ...

    def stream(self) -> Stream:
        """Make a queue of its own."""
        ...


ALIGNMENT = 256


class Layout:
    """Places of named arrays in one block of memory, each as large as the largest of its name."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}

    def reserve(self, name: str, shape: Sequence[int], dtype: DTypeLike) -> None:
        """Make room for an array; of arrays of one name, only one is there at a time."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        self._sizes[name] = max(size, self._sizes.get(name, 0))

    @property
    def size(self) -> int:
        """Bytes of all arrays together."""
        return sum(map(_rounded, self._sizes.values()))

    def place(self, memory: Memory | DeviceArray) -> dict[str, DeviceArray]:
        """Return the arrays, as bytes, in memory of at least `size` bytes."""
        pointer, found = memory.pointer, {}
        for name, size in self._sizes.items():
            found[name] = DeviceArray(pointer, (size,), np.dtype(np.uint8), _owner(memory))
            pointer += _rounded(size)
        return found


def _owner(memory: Memory | DeviceArray) -> object:
    return memory.owner if isinstance(memory, DeviceArray) else memory


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class Packed:
    """Arrays side by side in one block, to be brought to a device in one transfer.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays by name.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = dict(arrays)
        self._layout = Layout()
        for name, array in self._arrays.items():
            self._layout.reserve(name, array.shape, array.dtype)

    @property
    def size(self) -> int:
        """Bytes of all arrays together."""
        return self._layout.size

    def upload(self, stream: Stream, memory: Memory | DeviceArray) -> dict[str, DeviceArray]:
        """Bring them to memory of at least `size` bytes; returned under the same names."""
        places = self._layout.place(memory)
        block = np.zeros(self.size, np.uint8)
        found = {}
        for name, array in self._arrays.items():
            first = places[name].pointer - memory.pointer
            values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            block[first : first + array.nbytes] = values
            found[name] = places[name].viewed(array.shape, array.dtype)
        whole = DeviceArray(memory.pointer, block.shape, block.dtype, _owner(memory))
        stream.upload(whole, block)
        return found
