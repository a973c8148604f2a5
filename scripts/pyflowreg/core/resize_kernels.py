"""Compiled resampling of planes with given taps and weights.

Eight rows of the result are made at a time, so that what lies between the two passes stays in the
fastest cache: the pass over rows leaves eight long rows, which are transposed, so that the pass
over columns works on eight rows at once, too.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from pyflowreg.core.jit import inline_kernel, inner_kernel, kernel
from pyflowreg.core.vectors import (
    element,
    lanes,
    load,
    splat,
    store,
    store_transposed,
    times_plus,
    zeros_block,
    zeros_eight,
    zeros_one,
)

GROUP = 8
"""Rows made at a time."""


def scratch_size(shape_in: tuple[int, ...], shape_out: tuple[int, ...]) -> int:
    """Numbers needed as scratch between these shapes (..., H, W)."""
    length = -(-max(shape_in[-1], shape_out[-1]) // GROUP) * GROUP
    return 2 * GROUP * length


@inline_kernel()
def _weighted_rows(zero, planes, start, width, taps, weights, y, target, target_start):
    """Row `y` of the pass over rows; the last vector overlaps the one before."""
    step, count = lanes(zero), taps.shape[1]
    for x in range(0, width, step):
        first = min(x, width - step)
        total = zero
        for k in range(y * count, y * count + count):
            row = load(zero, planes, start + element(taps, k) * width + first)
            total = times_plus(splat(zero, element(weights, k)), row, total)
        store(target, target_start + first, total)


@inline_kernel()
def _add_weighted(zero, columns, start, taps, weights, k, total):
    column = load(zero, columns, start + GROUP * element(taps, k))
    return times_plus(splat(zero, element(weights, k)), column, total)


@inline_kernel()
def _weighted_columns(zero, columns, start, taps, weights, x, last):
    """Columns `x` to `x + 3` of the pass over columns: sums that do not wait for each other."""
    count = taps.shape[1]
    first, second = min(x, last) * count, min(x + 1, last) * count
    third, fourth = min(x + 2, last) * count, min(x + 3, last) * count
    a = b = c = d = zero
    for k in range(count):
        a = _add_weighted(zero, columns, start, taps, weights, first + k, a)
        b = _add_weighted(zero, columns, start, taps, weights, second + k, b)
        c = _add_weighted(zero, columns, start, taps, weights, third + k, c)
        d = _add_weighted(zero, columns, start, taps, weights, fourth + k, d)
    return a, b, c, d


@inline_kernel()
def _transpose(zero, source, start, length, target, target_start):
    """Exchange rows and columns of eight rows of a length that is a multiple of eight."""
    for x in range(0, length, GROUP):
        s = start + x
        store_transposed(
            target,
            target_start + x * GROUP,
            GROUP,
            load(zero, source, s),
            load(zero, source, s + length),
            load(zero, source, s + 2 * length),
            load(zero, source, s + 3 * length),
            load(zero, source, s + 4 * length),
            load(zero, source, s + 5 * length),
            load(zero, source, s + 6 * length),
            load(zero, source, s + 7 * length),
        )


@inner_kernel()
def _is_constant(plane):
    first = plane[0, 0]
    # The last pixel first, because it differs in nearly every plane.
    if plane[-1, -1] != first:
        return False
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            if plane[y, x] != first:
                return False
    return True


@inline_kernel()
def _resize_plane(planes, c, row_taps, row_weights, taps, weights, scratch, out):
    _, rows, cols = planes.shape
    _, height, width = out.shape
    length = -(-cols // GROUP) * GROUP
    length_out = -(-width // GROUP) * GROUP
    # scratch: eight rows, before and later after the pass over columns; between, transposed
    columns = GROUP * max(length, length_out)
    start = c * rows * cols
    one, eight, block = zeros_one(out), zeros_eight(out), zeros_block(out)
    for y in range(0, height, GROUP):
        for k in range(GROUP):
            row = min(y + k, height - 1)
            if cols >= lanes(block):
                _weighted_rows(
                    block, planes, start, cols, row_taps, row_weights, row, scratch, k * length
                )
            else:
                _weighted_rows(
                    one, planes, start, cols, row_taps, row_weights, row, scratch, k * length
                )
        _transpose(eight, scratch, 0, length, scratch, columns)
        for x in range(0, width, GROUP):
            p, q, r, s = _weighted_columns(eight, scratch, columns, taps, weights, x, width - 1)
            t, u, v, w = _weighted_columns(eight, scratch, columns, taps, weights, x + 4, width - 1)
            store_transposed(scratch, x, length_out, p, q, r, s, t, u, v, w)
        for k in range(min(GROUP, height - y)):
            line, source = out[c, y + k], scratch[k * length_out :]
            for x in range(width):
                line[x] = source[x]


@kernel()
def resize_planes(planes, row_taps, row_weights, taps, weights, scratch, out):
    """Resample planes (C, H, W) to (C, h, w): weighted sums of rows, then of columns.

    Taps and weights have shapes (h, number of taps) and (w, number of taps). A constant plane stays
    exactly constant: its rounding errors would pass for structure.
    """
    for c in range(planes.shape[0]):
        if _is_constant(planes[c]):
            for y in range(out.shape[1]):
                for x in range(out.shape[2]):
                    out[c, y, x] = planes[c, 0, 0]
        else:
            _resize_plane(planes, c, row_taps, row_weights, taps, weights, scratch, out)
