"""Compiled passes over frames: scaling with Gaussian smoothing, and sums.

The smoothing adds up in float64 and rounds to the frame's type after every axis.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np

from pyflowreg.core.jit import inner_kernel, kernel

BLOCK = 1024
"""Pixels of a plane that several frames are read for together."""


# Plain loops: numba's assignments to slices take seconds to compile.
@inner_kernel()
def _copy(values, out):
    for x in range(len(out)):
        out[x] = values[x]


@inner_kernel()
def _weigh(row, weight, total):
    for x in range(len(total)):
        total[x] = np.float64(row[x]) * weight


@inner_kernel()
def _weigh_pair(first, second, weight, total):
    for x in range(len(total)):
        total[x] += (np.float64(first[x]) + np.float64(second[x])) * weight


@inner_kernel()
def _scaled(row, factor, offset, clip, out):
    """Scaled row; clipped to [0, 1] if `clip`."""
    if clip:
        for x in range(len(out)):
            out[x] = min(max(np.float64(row[x]) * factor - offset, 0.0), 1.0)
    else:
        for x in range(len(out)):
            out[x] = np.float64(row[x]) * factor - offset


@kernel()
def smooth_plane(plane, factor, offset, clip, along_y, along_x, out):
    """Scale a plane (H, W) to ``factor * plane - offset`` and filter its columns, then its rows.

    `along_y` and `along_x` are symmetric and of odd length; borders are replicated.
    """
    height, width = out.shape
    radius_y, radius_x = len(along_y) // 2, len(along_x) // 2
    size = 2 * radius_y + 1
    # Scaled rows y - radius_y to y + radius_y; row r is kept at place r % size.
    rows = np.empty((size, width), out.dtype)
    total = np.empty(width)
    padded = np.empty(width + 2 * radius_x, out.dtype)
    for y in range(-radius_y, height):
        ahead = y + radius_y
        if ahead < height:
            _scaled(plane[ahead], factor, offset, clip, rows[ahead % size])
        if y < 0:
            continue
        _weigh(rows[y % size], along_y[radius_y], total)
        for k in range(radius_y, 0, -1):
            above, below = max(y - k, 0), min(y + k, height - 1)
            _weigh_pair(rows[above % size], rows[below % size], along_y[radius_y - k], total)
        _copy(total, padded[radius_x : radius_x + width])
        for x in range(radius_x):
            padded[x] = padded[radius_x]
            padded[radius_x + width + x] = padded[radius_x + width - 1]
        _weigh(padded[radius_x : radius_x + width], along_x[radius_x], total)
        for k in range(radius_x, 0, -1):
            left = padded[radius_x - k : radius_x - k + width]
            right = padded[radius_x + k : radius_x + k + width]
            _weigh_pair(left, right, along_x[radius_x - k], total)
        _copy(total, out[y])


@kernel()
def smooth_in_time(frames, first, channel, along_t, out, begin, end):
    """Filter pixels `begin` to `end` of flat planes (T, C, N) in time.

    `out` (n, C, N) takes the frames from `first` on; the first and last frame are replicated.
    """
    count = len(frames)
    radius = len(along_t) // 2
    total = np.empty(BLOCK)
    for start in range(begin, end, BLOCK):
        stop = min(start + BLOCK, end)
        part = total[: stop - start]
        for position in range(len(out)):
            frame = first + position
            _weigh(frames[frame, channel, start:stop], along_t[radius], part)
            for k in range(radius, 0, -1):
                before = frames[max(frame - k, 0), channel, start:stop]
                after = frames[min(frame + k, count - 1), channel, start:stop]
                _weigh_pair(before, after, along_t[radius - k], part)
            _copy(part, out[position, channel, start:stop])


@kernel()
def add_frames(frames, total):
    """Add flat frames (n, N) to their sum, in their order."""
    for start in range(0, total.size, BLOCK):
        part = total[start : start + BLOCK]
        for frame in range(len(frames)):
            values = frames[frame, start : start + BLOCK]
            for i in range(len(part)):
                part[i] += values[i]
