"""Compiled samplers: bicubic, bilinear and nearest-neighbour backward warps."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from pyflowreg.core.jit import kernel


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
def warp_cubic(moving, u, v, scale_x, scale_y, fill, out):
    """Sample planes (C, H, W) at (x + scale_x u, y + scale_y v); outside samples take `fill`."""
    channels, height, width = out.shape
    for y in range(height):
        for x in range(width):
            inside, px, py = _sample(u, v, y, x, scale_x, scale_y, height, width)
            if inside:
                x0, a0, a1, a2, a3 = cubic_weights(px, width)
                y0, b0, b1, b2, b3 = cubic_weights(py, height)
                for c in range(channels):
                    r0 = _row(moving[c, y0], x0, a0, a1, a2, a3)
                    r1 = _row(moving[c, y0 + 1], x0, a0, a1, a2, a3)
                    r2 = _row(moving[c, y0 + 2], x0, a0, a1, a2, a3)
                    r3 = _row(moving[c, y0 + 3], x0, a0, a1, a2, a3)
                    out[c, y, x] = b0 * r0 + b1 * r1 + b2 * r2 + b3 * r3
            else:
                for c in range(channels):
                    out[c, y, x] = fill[c, y, x]


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
