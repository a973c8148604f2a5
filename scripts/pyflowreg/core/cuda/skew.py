"""The layout of a level while it is solved: anti-diagonal after anti-diagonal.

A lexicographic sweep needs the new left and upper and the old right and lower neighbour, so the
points of one anti-diagonal (x + y = d) are independent. They lie side by side, in the order of
their rows; every anti-diagonal begins at a multiple of `ALIGNED` numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNED = 8
WARP = 32
"""Threads that the hardware runs together."""


@dataclass(frozen=True)
class Skew:
    """Places of the points of a level.

    Parameters
    ----------
    height, width : int
        Size of the level.
    """

    height: int
    width: int

    @property
    def length(self) -> int:
        """Points of the longest anti-diagonal, rounded up to whole warps."""
        return -(-min(self.height, self.width) // WARP) * WARP

    @property
    def diagonals(self) -> int:
        """Number of anti-diagonals."""
        return self.height + self.width - 1

    def base(self) -> NDArray[np.int32]:
        """Where anti-diagonals begin, and the size of a plane; shape (diagonals + 1,)."""
        d = np.arange(self.diagonals)
        count = np.minimum(d, self.height - 1) - np.maximum(0, d - self.width + 1) + 1
        places = np.cumsum(-(-count // ALIGNED) * ALIGNED)
        return np.concatenate([[0], places]).astype(np.int32)

    @property
    def size(self) -> int:
        """Numbers in a plane."""
        return int(self.base()[-1])

    def packed(self, planes: NDArray[Any]) -> NDArray[Any]:
        """Bring planes (n, height, width) to this layout, (n, size)."""
        y, x = np.indices((self.height, self.width))
        place = self.base()[y + x] + y - np.maximum(0, y + x - self.width + 1)
        out = np.zeros((len(planes), self.size), planes.dtype)
        out[:, place] = planes
        return out
