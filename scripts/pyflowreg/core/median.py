"""5 x 5 median filter of displacement increments (Sun, Roth and Black, CVPR 2010).

Each window's columns are sorted, then the rows of the result; rows and columns are both sorted
after that, which leaves 13 of the 25 values that can be the median. Sorted columns are shared by
the windows of a row, and everything is compare-exchange without branches, so that the compiler
works on as many pixels at a time as a vector holds.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.jit import inline_kernel, kernel

RADIUS = 2

# Unsigned offsets: an index that might be negative wraps around, which cannot be vectorised.
U1, U2, U3, U4 = (np.uint64(k) for k in range(1, 5))
_SIDE = 2 * RADIUS + 1


@inline_kernel()
def _order(a, b):
    return (a if a < b else b), (b if a < b else a)


@inline_kernel()
def _sort_5(a, b, c, d, e):
    a, b = _order(a, b)
    d, e = _order(d, e)
    c, e = _order(c, e)
    c, d = _order(c, d)
    b, e = _order(b, e)
    a, d = _order(a, d)
    a, c = _order(a, c)
    b, d = _order(b, d)
    b, c = _order(b, c)
    return a, b, c, d, e


@inline_kernel()
def _median_13(a, b, c, d, e, f, g, h, i, j, k, m, n):
    """Median by forgetful selection.

    Of more than half of the values the smallest and the largest cannot be the median: both are
    forgotten and one unseen value joins, until one is left.
    """
    a, h = _order(a, h)
    b, g = _order(b, g)
    c, f = _order(c, f)
    d, e = _order(d, e)
    a, b = _order(a, b)
    a, c = _order(a, c)
    a, d = _order(a, d)
    g, h = _order(g, h)
    f, h = _order(f, h)
    e, h = _order(e, h)
    # b c d e f g, and i joins
    b, i = _order(b, i)
    c, g = _order(c, g)
    d, f = _order(d, f)
    b, c = _order(b, c)
    b, d = _order(b, d)
    b, e = _order(b, e)
    g, i = _order(g, i)
    f, i = _order(f, i)
    e, i = _order(e, i)
    # c d e f g, and j joins
    c, j = _order(c, j)
    d, g = _order(d, g)
    e, f = _order(e, f)
    c, d = _order(c, d)
    c, e = _order(c, e)
    g, j = _order(g, j)
    f, j = _order(f, j)
    # d e f g, and k joins
    d, k = _order(d, k)
    e, g = _order(e, g)
    d, e = _order(d, e)
    d, f = _order(d, f)
    g, k = _order(g, k)
    f, k = _order(f, k)
    # e f g, and m joins
    e, m = _order(e, m)
    f, g = _order(f, g)
    e, f = _order(e, f)
    g, m = _order(g, m)
    # f g, and n joins
    f, n = _order(f, n)
    f, g = _order(f, g)
    g, n = _order(g, n)
    return g


@kernel()
def _median_5x5(padded, columns, out):
    height, width = out.shape
    for y in range(height):
        for x in range(np.uint64(width + _SIDE - 1)):
            a, b, c, d, e = _sort_5(
                padded[y, x], padded[y + 1, x], padded[y + 2, x], padded[y + 3, x], padded[y + 4, x]
            )
            columns[0, x] = a
            columns[1, x] = b
            columns[2, x] = c
            columns[3, x] = d
            columns[4, x] = e
        p, q, r, s, t = columns[0], columns[1], columns[2], columns[3], columns[4]
        target = out[y]
        for x in range(np.uint64(width)):
            # The value in row i and column k of the sorted window has (i + 1)(k + 1) - 1 values
            # below it and (5 - i)(5 - k) - 1 above: these 13 can be in the middle.
            _, _, _, p3, p4 = _sort_5(p[x], p[x + U1], p[x + U2], p[x + U3], p[x + U4])
            _, _, q2, q3, q4 = _sort_5(q[x], q[x + U1], q[x + U2], q[x + U3], q[x + U4])
            _, r1, r2, r3, _ = _sort_5(r[x], r[x + U1], r[x + U2], r[x + U3], r[x + U4])
            s0, s1, s2, _, _ = _sort_5(s[x], s[x + U1], s[x + U2], s[x + U3], s[x + U4])
            t0, t1, _, _, _ = _sort_5(t[x], t[x + U1], t[x + U2], t[x + U3], t[x + U4])
            target[x] = _median_13(p3, p4, q2, q3, q4, r1, r2, r3, s0, s1, s2, t0, t1)


def median_scratch_size(shape: tuple[int, ...]) -> int:
    """Elements that `median_5x5_into` needs as scratch for planes of this shape (..., H, W)."""
    height, width = (side + 2 * RADIUS for side in shape[-2:])
    return (height + _SIDE) * width


def median_5x5_into(plane: NDArray[Any], out: NDArray[Any], scratch: NDArray[Any]) -> None:
    """Median of the 5 x 5 neighbourhood, borders mirrored including the edge.

    Parameters
    ----------
    plane : ndarray
        float32 or float64, shape (H, W).
    out : ndarray
        Receives the result: shape and dtype of `plane`, and not the same memory.
    scratch : ndarray
        One-dimensional, dtype of `plane`, at least `median_scratch_size(plane.shape)` elements.
    """
    height, width = (side + 2 * RADIUS for side in plane.shape)
    padded = scratch[: height * width].reshape(height, width)
    columns = scratch[height * width :][: _SIDE * width].reshape(_SIDE, width)
    padded[:] = np.pad(plane, RADIUS, mode="symmetric")
    _median_5x5(padded, columns, out)


def median_5x5(plane: NDArray[Any]) -> NDArray[Any]:
    """Return what `median_5x5_into` computes as a new array."""
    out = np.empty(plane.shape, plane.dtype)
    median_5x5_into(plane, out, np.empty(median_scratch_size(plane.shape), plane.dtype))
    return out
