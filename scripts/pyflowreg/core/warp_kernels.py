"""Compiled samplers: bicubic, bilinear and nearest-neighbour backward warps.

The bicubic warp goes through a row in pieces. Positions and weights of a piece are computed for all
samples as if they were in the interior; then the sums, vectors of four taps for four samples at a
time; at last the few samples at the border or outside are computed again, one by one.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from pyflowreg.core.jit import inline_kernel, inner_kernel, kernel
from pyflowreg.core.vectors import (
    convert,
    element,
    larger,
    load,
    smaller,
    splat,
    store,
    times_plus,
    transposed,
    whole_part,
    zeros_eight,
    zeros_four,
)

PIECE = 256
"""Samples of a row whose weights are kept at a time; a multiple of eight."""


@inner_kernel()
def cubic_weights(position, size):
    """Keys' four weights for a sample at `position` in [0, size - 1], and the first tap's index.

    A tap one pixel outside the image is extrapolated quadratically, f(-1) = 3 f(0) - 3 f(1) + f(2)
    (Keys 1981, eq. 19 and 25); it is folded into the weights of the four border pixels.
    """
    base = min(int(position), size - 2)
    t = position - base
    w0 = ((-0.5 * t + 1.0) * t - 0.5) * t
    w1 = (1.5 * t - 2.5) * t * t + 1.0
    w2 = ((-1.5 * t + 2.0) * t + 0.5) * t
    w3 = (0.5 * t - 0.5) * t * t
    first = base - 1
    if base == 0:
        w0, w1, w2, w3 = w1 + 3.0 * w0, w2 - 3.0 * w0, w3 + w0, 0.0
        first = 0
    elif base == size - 2:
        w0, w1, w2, w3 = 0.0, w0 + w3, w1 - 3.0 * w3, w2 + 3.0 * w3
        first = size - 4
    return first, w0, w1, w2, w3


@inner_kernel()
def _sample(u, v, y, x, scale_x, scale_y, height, width):
    """Where the backward map leads from (y, x), and whether that is in the closed image box."""
    # Positions in float64: at x = 1000, float32 would displace a sample by 6e-5 px.
    px = x + np.float64(u[y, x]) * scale_x
    py = y + np.float64(v[y, x]) * scale_y
    return px >= 0 and px <= width - 1 and py >= 0 and py <= height - 1, px, py


@inner_kernel()
def _row(row, first, a0, a1, a2, a3):
    return a0 * row[first] + a1 * row[first + 1] + a2 * row[first + 2] + a3 * row[first + 3]


@inner_kernel()
def _positions(u, v, y, start, count, scale_x, scale_y, places):
    """Positions of the samples of a piece, in float64 whatever the type of the displacements."""
    across, down = u[y, start : start + count], v[y, start : start + count]
    px, py = places[:count], places[PIECE : PIECE + count]
    for x in range(count):
        px[x] = np.float64(start + x) + np.float64(across[x]) * scale_x
        py[x] = np.float64(y) + np.float64(down[x]) * scale_y


@inline_kernel()
def _four_weights(zero, t, weights, place):
    """Weights of the four taps of samples in the interior; `cubic_weights` one by one."""
    real = weights.dtype.type
    half, one, two = splat(zero, real(0.5)), splat(zero, real(1)), splat(zero, real(2))
    near, far = splat(zero, real(1.5)), splat(zero, real(2.5))
    store(weights, place, ((zero - half * t + one) * t - half) * t)
    store(weights, place + PIECE, (near * t - far) * t * t + one)
    store(weights, place + 2 * PIECE, ((two - near * t) * t + half) * t)
    store(weights, place + 3 * PIECE, (half * t - half) * t * t)


@inner_kernel()
def _cubic_taps(places, height, width, count, weights):
    """Weights and first taps of the samples of a piece, those outside the interior moved there.

    Returns whether there are such samples.
    """
    z, zero = zeros_eight(places), zeros_eight(weights)
    low, right, below = splat(z, 1.0), splat(z, width - 3.0), splat(z, height - 3.0)
    row = splat(z, width * 1.0)
    changed = z
    for x in range(0, count, 8):
        px, py = load(z, places, x), load(z, places, x + PIECE)
        # A position that is not a number is not larger than another, either.
        inner_x, inner_y = smaller(larger(px, low), right), smaller(larger(py, low), below)
        base_x, base_y = whole_part(inner_x), whole_part(inner_y)
        store(places, x + 2 * PIECE, (base_y - low) * row + (base_x - low))
        moved_x, moved_y = px - inner_x, py - inner_y
        store(places, x + 3 * PIECE, moved_x)
        store(places, x + 4 * PIECE, moved_y)
        changed = changed + moved_x * moved_x + moved_y * moved_y
        _four_weights(zero, convert(zero, inner_x - base_x), weights, x)
        _four_weights(zero, convert(zero, inner_y - base_y), weights, x + 4 * PIECE)
    store(places, 5 * PIECE, changed)
    some = False
    for x in range(8):
        some |= places[5 * PIECE + x] != 0
    return some


@inline_kernel()
def _four_columns(zero, moving, plane, width, places, weights, x):
    """Weighted sums of four rows, at the four columns that sample `x` needs."""
    place = plane + np.int64(element(places, x + 2 * PIECE))
    a = splat(zero, element(weights, x + 4 * PIECE))
    b = splat(zero, element(weights, x + 5 * PIECE))
    c = splat(zero, element(weights, x + 6 * PIECE))
    d = splat(zero, element(weights, x + 7 * PIECE))
    total = a * load(zero, moving, place)
    total = times_plus(b, load(zero, moving, place + width), total)
    total = times_plus(c, load(zero, moving, place + 2 * width), total)
    return times_plus(d, load(zero, moving, place + 3 * width), total)


@inner_kernel()
def _cubic_sums(moving, plane, width, places, weights, count):
    """Sums of the taps of the samples of a piece, in one plane of `moving`."""
    zero = zeros_four(moving)
    for x in range(0, count, 4):
        a, b, c, d = transposed(
            _four_columns(zero, moving, plane, width, places, weights, x),
            _four_columns(zero, moving, plane, width, places, weights, x + 1),
            _four_columns(zero, moving, plane, width, places, weights, x + 2),
            _four_columns(zero, moving, plane, width, places, weights, x + 3),
        )
        total = load(zero, weights, x) * a
        total = times_plus(load(zero, weights, x + PIECE), b, total)
        total = times_plus(load(zero, weights, x + 2 * PIECE), c, total)
        total = times_plus(load(zero, weights, x + 3 * PIECE), d, total)
        store(weights, x + 8 * PIECE, total)


@inner_kernel()
def _cubic_at(moving, c, px, py):
    """One sample anywhere in the closed image box."""
    _, height, width = moving.shape
    x0, a0, a1, a2, a3 = cubic_weights(px, width)
    y0, b0, b1, b2, b3 = cubic_weights(py, height)
    r0 = _row(moving[c, y0], x0, a0, a1, a2, a3)
    r1 = _row(moving[c, y0 + 1], x0, a0, a1, a2, a3)
    r2 = _row(moving[c, y0 + 2], x0, a0, a1, a2, a3)
    r3 = _row(moving[c, y0 + 3], x0, a0, a1, a2, a3)
    return b0 * r0 + b1 * r1 + b2 * r2 + b3 * r3


@inner_kernel()
def _other_samples(moving, c, y, start, count, places, fill, out):
    """The samples at the border or outside of one piece of a row."""
    _, height, width = moving.shape
    for x in range(count):
        if places[x + 3 * PIECE] != 0 or places[x + 4 * PIECE] != 0:
            px, py = places[x], places[x + PIECE]
            if px >= 0 and px <= width - 1 and py >= 0 and py <= height - 1:
                out[c, y, start + x] = _cubic_at(moving, c, px, py)
            else:
                out[c, y, start + x] = fill[c, y, start + x]


@kernel()
def warp_cubic(moving, u, v, scale_x, scale_y, fill, out):
    """Sample planes (C, H, W) at (x + scale_x u, y + scale_y v); outside samples take `fill`."""
    channels, height, width = out.shape
    # A few kilobytes. In `places`: positions in x and y, first taps, distances to the interior in
    # x and y. In `weights`: those of four columns, those of four rows, sums.
    places = np.empty(5 * PIECE + 8)
    weights = np.empty(9 * PIECE, out.dtype)
    for k in range(2 * PIECE):
        places[k] = 1.0
    sums = weights[8 * PIECE :]
    for y in range(height):
        for x in range(0, width, PIECE):
            count = min(PIECE, width - x)
            _positions(u, v, y, x, count, scale_x, scale_y, places)
            others = _cubic_taps(places, height, width, count, weights)
            for c in range(channels):
                _cubic_sums(moving, c * height * width, width, places, weights, count)
                target = out[c, y, x : x + count]
                for k in range(count):
                    target[k] = sums[k]
                if others:
                    _other_samples(moving, c, y, x, count, places, fill, out)


@kernel()
def warp_linear(moving, u, v, scale_x, scale_y, fill, out):
    """Bilinear counterpart of `warp_cubic`."""
    channels, height, width = out.shape
    for y in range(height):
        for x in range(width):
            inside, px, py = _sample(u, v, y, x, scale_x, scale_y, height, width)
            if inside:
                x0 = min(int(px), width - 2)
                y0 = min(int(py), height - 2)
                tx = px - x0
                ty = py - y0
                for c in range(channels):
                    m = moving[c]
                    top = m[y0, x0] * (1 - tx) + m[y0, x0 + 1] * tx
                    bottom = m[y0 + 1, x0] * (1 - tx) + m[y0 + 1, x0 + 1] * tx
                    out[c, y, x] = top * (1 - ty) + bottom * ty
            else:
                for c in range(channels):
                    out[c, y, x] = fill[c, y, x]


@kernel()
def warp_nearest(moving, u, v, scale_x, scale_y, fill, out):
    """Nearest-neighbour counterpart of `warp_cubic`; halves are rounded away from zero."""
    channels, height, width = out.shape
    for y in range(height):
        for x in range(width):
            inside, px, py = _sample(u, v, y, x, scale_x, scale_y, height, width)
            if inside:
                for c in range(channels):
                    out[c, y, x] = moving[c, int(py + 0.5), int(px + 0.5)]
            else:
                for c in range(channels):
                    out[c, y, x] = fill[c, y, x]


@kernel()
def sample_is_inside(u, v, out):
    """Set `out` where (x + u, y + v) lies in the closed image box."""
    height, width = out.shape
    for y in range(height):
        for x in range(width):
            out[y, x], _, _ = _sample(u, v, y, x, 1.0, 1.0, height, width)
