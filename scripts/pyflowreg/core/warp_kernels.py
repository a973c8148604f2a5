"""Compiled samplers: bicubic, bilinear and nearest-neighbour backward warps.

The bicubic warp goes through a row in pieces. Positions and weights of a piece are computed for all
samples as if they were in the interior; then the sums, vectors of four taps for four samples at a
time; at last the few samples at the border or outside are computed again, one by one.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from pyflowreg.core.jit import inline_kernel, kernel
from pyflowreg.core.vectors import (
    convert,
    element,
    larger,
    load,
    smaller,
    splat,
    store,
    transposed,
    whole_part,
    zeros_eight,
    zeros_four,
)

PIECE = 256
"""Samples of a row whose weights are kept at a time; a multiple of eight."""


@kernel()
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


@kernel()
def _sample(u, v, y, x, scale_x, scale_y, height, width):
    """Where the backward map leads from (y, x), and whether that is in the closed image box."""
    # Positions in float64: at x = 1000, float32 would displace a sample by 6e-5 px.
    px = x + np.float64(u[y, x]) * scale_x
    py = y + np.float64(v[y, x]) * scale_y
    return px >= 0 and px <= width - 1 and py >= 0 and py <= height - 1, px, py


@kernel()
def _row(row, first, a0, a1, a2, a3):
    return a0 * row[first] + a1 * row[first + 1] + a2 * row[first + 2] + a3 * row[first + 3]


@kernel()
def _positions(displacements, scale, ramp, start, positions):
    """Positions along one axis, in float64 whatever the type of the displacements."""
    for x in range(displacements.shape[0]):
        positions[x] = (start + ramp[x]) + np.float64(displacements[x]) * scale


@kernel()
def _cubic_taps(positions, size, stride, clamped, first, weights, change):
    """Weights of the four taps along one axis, and what they add to the place of the first tap.

    Positions outside the interior are replaced by its nearest one; `change` (8) tells of that.
    """
    z = zeros_eight(positions)
    zero = zeros_eight(weights)
    real = weights.dtype.type
    low, high = splat(z, 1.0), splat(z, np.float64(size - 3))
    half, one, two = splat(zero, real(0.5)), splat(zero, real(1)), splat(zero, real(2))
    near, far = splat(zero, real(1.5)), splat(zero, real(2.5))
    row = weights.shape[1]
    changed = load(z, change, 0)
    for x in range(0, positions.shape[0], 8):
        position = load(z, positions, x)
        inner = smaller(larger(position, low), high)
        base = whole_part(inner)
        store(clamped, x, inner)
        store(first, x, load(z, first, x) + (base - low) * splat(z, np.float64(stride)))
        changed = changed + (position - inner) * (position - inner)
        t = convert(zero, inner - base)
        store(weights, x, ((zero - half * t + one) * t - half) * t)
        store(weights, x + row, (near * t - far) * t * t + one)
        store(weights, x + 2 * row, ((two - near * t) * t + half) * t)
        store(weights, x + 3 * row, (half * t - half) * t * t)
    store(change, 0, changed)


@inline_kernel()
def _four_columns(zero, moving, plane, width, first, rows, size, x):
    """Weighted sums of four rows, at the four columns that sample `x` needs."""
    place = plane + np.int64(element(first, x))
    return (
        splat(zero, element(rows, x)) * load(zero, moving, place)
        + splat(zero, element(rows, x + size)) * load(zero, moving, place + width)
        + splat(zero, element(rows, x + 2 * size)) * load(zero, moving, place + 2 * width)
        + splat(zero, element(rows, x + 3 * size)) * load(zero, moving, place + 3 * width)
    )


@kernel()
def _cubic_sums(moving, plane, width, first, columns, rows, count, values):
    """Sums of the taps of the samples of a piece, in one plane of `moving`."""
    zero = zeros_four(moving)
    size = columns.shape[1]
    for x in range(0, count, 4):
        a, b, c, d = transposed(
            _four_columns(zero, moving, plane, width, first, rows, size, x),
            _four_columns(zero, moving, plane, width, first, rows, size, x + 1),
            _four_columns(zero, moving, plane, width, first, rows, size, x + 2),
            _four_columns(zero, moving, plane, width, first, rows, size, x + 3),
        )
        total = (
            load(zero, columns, x) * a
            + load(zero, columns, x + size) * b
            + load(zero, columns, x + 2 * size) * c
            + load(zero, columns, x + 3 * size) * d
        )
        store(values, x, total)


@kernel()
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


@kernel()
def _other_samples(moving, c, positions, clamped, fill, out):
    """The samples at the border or outside of one piece of a row."""
    _, height, width = moving.shape
    for x in range(out.shape[0]):
        px, py = positions[0, x], positions[1, x]
        if px != clamped[0, x] or py != clamped[1, x]:
            if px >= 0 and px <= width - 1 and py >= 0 and py <= height - 1:
                out[x] = _cubic_at(moving, c, px, py)
            else:
                out[x] = fill[x]


@kernel()
def warp_cubic(moving, u, v, scale_x, scale_y, fill, out):
    """Sample planes (C, H, W) at (x + scale_x u, y + scale_y v); outside samples take `fill`."""
    channels, height, width = out.shape
    # These few kilobytes stay in the fastest cache.
    positions, clamped = np.ones((2, PIECE)), np.empty((2, PIECE))
    first, values = np.empty(PIECE), np.empty(PIECE, out.dtype)
    columns, rows = np.empty((4, PIECE), out.dtype), np.empty((4, PIECE), out.dtype)
    ramp, still, change = np.arange(PIECE) * 1.0, np.zeros(PIECE), np.empty(8)
    for y in range(height):
        for x in range(0, width, PIECE):
            count = min(PIECE, width - x)
            vectors = -(-count // 8) * 8
            _positions(u[y, x : x + count], scale_x, ramp, x, positions[0])
            _positions(v[y, x : x + count], scale_y, still, y, positions[1])
            first[:] = 0
            change[:] = 0
            _cubic_taps(positions[0, :vectors], width, 1, clamped[0], first, columns, change)
            _cubic_taps(positions[1, :vectors], height, width, clamped[1], first, rows, change)
            for c in range(channels):
                plane = c * height * width
                _cubic_sums(moving, plane, width, first, columns, rows, count, values)
                target = out[c, y, x : x + count]
                for k in range(count):
                    target[k] = values[k]
                if change.sum() != 0:
                    _other_samples(moving, c, positions, clamped, fill[c, y, x : x + count], target)


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
