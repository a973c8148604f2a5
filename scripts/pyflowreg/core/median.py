"""5 x 5 median filter of displacement increments (Sun, Roth and Black, CVPR 2010).

Two windows one above the other share four rows. The five values of every row are sorted, two rows
are merged, and of the four rows together the six values are found that can be a median: they have
ranks 8 to 13 of 20. With the row that only one of the windows has, the median is the sixth of
eleven. Sorted and merged rows are used again further down, and everything is compare-exchange
without branches on as many pixels at a time as a vector holds.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.jit import inline_kernel, inner_kernel, kernel
from pyflowreg.core.vectors import (
    exchange_network,
    lanes,
    larger,
    load,
    smaller,
    store,
    zeros_register,
)

RADIUS = 2
_SIDE = 2 * RADIUS + 1

VECTORS = 8
"""Vectors of a block: so many columns at a time that what is sorted stays in the fastest cache."""

# Beginnings in scratch, in blocks: a padded row, a ring of sorted rows, one of merged pairs, two
# rows of the result.
_SORTED = 2
_ROWS = 6
_MERGED = _SORTED + _ROWS * _SIDE
_PAIRS = 2
_RESULT = _MERGED + _PAIRS * 2 * _SIDE
_END = _RESULT + 2
_LANES = 16


_sort_5 = exchange_network(((0, 1), (3, 4), (2, 4), (2, 3), (1, 4), (0, 3), (0, 2), (1, 3), (1, 2)))
# Batcher's odd-even merge of two sorted fives: places 0 2 4 with 5 7 9 (first of them 0 4 with 5 9,
# and 2 with 7), places 1 3 with 6 8, then both results.
_merge_5_5 = exchange_network(
    (
        *((0, 5), (4, 9), (4, 5), (2, 7), (2, 4), (5, 7)),
        *((1, 6), (3, 8), (3, 6)),
        *((1, 2), (3, 4), (5, 6), (7, 8)),
    )
)
_order_pairs = exchange_network(((0, 1), (2, 3), (4, 5)))


@inline_kernel()
def _sixth_of_11(six, five):
    """Median of sorted values: the smallest of the pairs' larger values."""
    a, b, c, d, e, f = six
    p, q, r, s, t = five
    low = smaller(larger(e, p), larger(d, q))
    high = smaller(larger(b, s), larger(a, t))
    return smaller(smaller(f, low), smaller(larger(c, r), high))


@inner_kernel()
def _mirrored(index, size):
    """Index of the pixel that stands for one outside, borders mirrored including the edge."""
    index = index % (2 * size)
    return index if index < size else 2 * size - 1 - index


@inner_kernel()
def _pad(plane, y, start, count, scratch):
    """Copy the pixels `start` to `start + count` of a row, mirrored beyond the borders."""
    width = plane.shape[1]
    row = plane[_mirrored(y, plane.shape[0])]
    first, last = max(start, 0), min(start + count, width)
    for x in range(start, first):
        scratch[x - start] = row[_mirrored(x, width)]
    inner, source = scratch[first - start : last - start], row[first:last]
    for x in range(last - first):
        inner[x] = source[x]
    for x in range(last, start + count):
        scratch[x - start] = row[_mirrored(x, width)]


@inline_kernel()
def _load_5(zero, scratch, place, step):
    return (
        load(zero, scratch, place),
        load(zero, scratch, place + step),
        load(zero, scratch, place + 2 * step),
        load(zero, scratch, place + 3 * step),
        load(zero, scratch, place + 4 * step),
    )


@inline_kernel()
def _store_5(scratch, place, step, a, b, c, d, e):
    store(scratch, place, a)
    store(scratch, place + step, b)
    store(scratch, place + 2 * step, c)
    store(scratch, place + 3 * step, d)
    store(scratch, place + 4 * step, e)


@inner_kernel()
def _sort_row(scratch, target, block, count):
    zero = zeros_register(scratch)
    for x in range(0, count, lanes(zero)):
        a, b, c, d, e = _sort_5(_load_5(zero, scratch, x, 1))
        _store_5(scratch, target + x, block, a, b, c, d, e)


@inner_kernel()
def _merge_rows(scratch, one, other, target, block, count):
    zero = zeros_register(scratch)
    for x in range(0, count, lanes(zero)):
        a, b, c, d, e, f, g, h, i, j = _merge_5_5(
            _load_5(zero, scratch, one + x, block) + _load_5(zero, scratch, other + x, block)
        )
        _store_5(scratch, target + x, block, a, b, c, d, e)
        _store_5(scratch, target + x + 5 * block, block, f, g, h, i, j)


@inline_kernel()
def _medians(scratch, one, other, above, below, target, block, count):
    """Medians of two rows, from the pairs they share and the sorted row each has for itself."""
    zero = zeros_register(scratch)
    for x in range(0, count, lanes(zero)):
        # Every other value of both pairs is merged, then the other half, then both results.
        p, q, step = one + x, other + x, 2 * block
        odd = _merge_5_5(_load_5(zero, scratch, p, step) + _load_5(zero, scratch, q, step))
        p, q = p + block, q + block
        even = _merge_5_5(_load_5(zero, scratch, p, step) + _load_5(zero, scratch, q, step))
        common = _order_pairs((even[3], odd[4], even[4], odd[5], even[5], odd[6]))
        row = _load_5(zero, scratch, above + x, block)
        store(scratch, target + x, _sixth_of_11(common, row))
        row = _load_5(zero, scratch, below + x, block)
        store(scratch, target + block + x, _sixth_of_11(common, row))


@inner_kernel()
def median_kernel(plane, scratch, out):
    """See `median_5x5_into`; for compiled callers."""
    height, width = out.shape
    block = VECTORS * lanes(zeros_register(scratch))
    row_size, pair_size = _SIDE * block, 2 * _SIDE * block
    rows, pairs, result = _SORTED * block, _MERGED * block, _RESULT * block
    for start in range(0, width, block):
        count = min(block, width - start)
        for y in range(-RADIUS, 2):
            _pad(plane, y, start - RADIUS, count + 2 * RADIUS, scratch)
            _sort_row(scratch, rows + (y + RADIUS) % _ROWS * row_size, block, count)
        _merge_rows(scratch, rows + row_size, rows + 2 * row_size, pairs, block, count)
        for y in range(0, height, 2):
            for k in range(y + 2, y + 4):
                _pad(plane, k, start - RADIUS, count + 2 * RADIUS, scratch)
                _sort_row(scratch, rows + (k + RADIUS) % _ROWS * row_size, block, count)
            # Row y - 2 of the plane is in place y of the ring.
            above = rows + y % _ROWS * row_size
            third = rows + (y + 3) % _ROWS * row_size
            fourth = rows + (y + 4) % _ROWS * row_size
            below = rows + (y + 5) % _ROWS * row_size
            old = pairs + y // 2 % _PAIRS * pair_size
            new = pairs + (y // 2 + 1) % _PAIRS * pair_size
            _merge_rows(scratch, third, fourth, new, block, count)
            _medians(scratch, old, new, above, below, result, block, count)
            for k in range(min(2, height - y)):
                line, source = out[y + k, start : start + count], scratch[result + k * block :]
                for x in range(count):
                    line[x] = source[x]


@kernel()
def _median(plane, scratch, out):
    median_kernel(plane, scratch, out)


def median_scratch_size(shape: tuple[int, ...]) -> int:
    """Elements that `median_5x5_into` needs as scratch for planes of this shape (..., H, W)."""
    del shape  # it works block by block
    return _END * VECTORS * _LANES


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
    _median(plane, scratch, out)


def median_5x5(plane: NDArray[Any]) -> NDArray[Any]:
    """Return what `median_5x5_into` computes as a new array."""
    out = np.empty(plane.shape, plane.dtype)
    median_5x5_into(plane, out, np.empty(median_scratch_size(plane.shape), plane.dtype))
    return out
