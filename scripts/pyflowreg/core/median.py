"""5 x 5 median filter of displacement increments (Sun, Roth and Black, CVPR 2010)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.jit import kernel

RADIUS = 2
_COUNT = (2 * RADIUS + 1) ** 2
_BLOCK = 64  # pixels sorted side by side: one vector loop per exchange, all within L1 cache


@cache
def _selection_network(count: int) -> NDArray[np.int64]:
    """List the compare-exchanges (low, high) that leave the median of `count` values in the last.

    Forgetful selection: of any set of more than half of the values, the smallest and the largest
    cannot be the median, so both are dropped and one unseen value joins.
    """
    kept = list(range(count // 2 + 2))
    waiting = list(range(count // 2 + 2, count))
    exchanges: list[tuple[int, int]] = []
    while len(kept) > 1:
        half = len(kept) // 2
        exchanges += [(kept[i], kept[-1 - i]) for i in range(half)]
        smaller, larger = kept[: len(kept) - half], kept[half:]
        exchanges += [(smaller[0], i) for i in smaller[1:]]
        exchanges += [(i, larger[-1]) for i in larger[:-1]]
        kept = kept[1:-1]
        if waiting:
            kept.append(waiting.pop(0))
    # The value that is left is moved nowhere: its slot is appended as a pair with itself.
    return np.array([*exchanges, (kept[0], kept[0])], dtype=np.int64)


@kernel()
def _median_5x5(padded, network, out):  # type: ignore[no-untyped-def]
    height, width = out.shape
    values = np.empty((_COUNT, _BLOCK), padded.dtype)
    last = network.shape[0] - 1
    for y in range(height):
        for x0 in range(0, width, _BLOCK):
            count = min(_BLOCK, width - x0)
            k = 0
            for dy in range(2 * RADIUS + 1):
                for dx in range(2 * RADIUS + 1):
                    for i in range(count):
                        values[k, i] = padded[y + dy, x0 + dx + i]
                    k += 1
            for e in range(last):
                low = network[e, 0]
                high = network[e, 1]
                for i in range(_BLOCK):
                    a = values[low, i]
                    b = values[high, i]
                    values[low, i] = a if a < b else b
                    values[high, i] = b if a < b else a
            middle = network[last, 0]
            for i in range(count):
                out[y, x0 + i] = values[middle, i]


def median_5x5(plane: NDArray[Any]) -> NDArray[Any]:
    """Median of the 5 x 5 neighbourhood, borders mirrored including the edge.

    Parameters
    ----------
    plane : ndarray
        float32 or float64, shape (H, W).

    Returns
    -------
    ndarray
        Same shape and dtype; a new array.
    """
    out = np.empty(plane.shape, plane.dtype)
    _median_5x5(np.pad(plane, RADIUS, mode="symmetric"), _selection_network(_COUNT), out)
    return out
