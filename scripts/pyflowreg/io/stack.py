"""Arrays of one shape that are written to a file without being in memory together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stack:
    """Arrays that are made when they are written, one after the other, and as often as needed.

    In an .npz they are one array with another first axis, in a .mat a cell array.

    Parameters
    ----------
    count : int
        Number of arrays.
    shape : tuple of int
        Shape of each.
    dtype : dtype
        Type of each.
    make : callable
        Returns the array of a number from 0; equal numbers, equal arrays.
    """

    count: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    make: Callable[[int], NDArray[Any]]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.count * math.prod(self.shape) * self.dtype.itemsize

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for number in range(self.count):
            array = self.make(number)
            if (array.shape, array.dtype) != (self.shape, self.dtype):
                raise ValueError(
                    f"array {number} is {array.shape} {array.dtype}, not {self.shape} {self.dtype}"
                )
            yield array
