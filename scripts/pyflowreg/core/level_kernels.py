"""One pyramid level of one frame, in one compiled call.

Threads that work on frames would otherwise wait for each other between the steps of a level, where
Python lets only one of them go on, and the calls alone would take a tenth of a quick frame.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np

from pyflowreg.core.jit import inline_kernel, inner_kernel, kernel
from pyflowreg.core.median import median_kernel
from pyflowreg.core.motion_tensor import (
    brightness_constancy,
    census_constancy,
    gradient_constancy,
)
from pyflowreg.core.noise import excess_noise, flat_energy
from pyflowreg.core.resize_kernels import resize_planes
from pyflowreg.core.solver_kernels import solve
from pyflowreg.core.warp_kernels import warp_cubic


# Plain loops: numba's assignments to slices take seconds to compile.
@inner_kernel()
def _copy_plane(source, target):
    for y in range(source.shape[0]):
        for x in range(source.shape[1]):
            target[y, x] = source[y, x]


@inner_kernel()
def _add_plane(source, target):
    for y in range(source.shape[0]):
        for x in range(source.shape[1]):
            target[y, x] += source[y, x]


@inner_kernel()
def _is_finite(plane):
    finite = True
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            finite &= plane[y, x] - plane[y, x] == 0
    return finite


@inner_kernel()
def _fill(plane, value):
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            plane[y, x] = value


@inner_kernel()
def _pad_edges(planes, out):
    """Copy planes (n, H, W) to (n, H + 2, W + 2) with a replicated border."""
    count, height, width = planes.shape
    for k in range(count):
        for y in range(height + 2):
            source, target = planes[k, min(max(y - 1, 0), height - 1)], out[k, y]
            target[0], target[width + 1] = source[0], source[width - 1]
            for x in range(width):
                target[x + 1] = source[x]


@inline_kernel()
def _add_filtered(increment, field, filtered, twice, plane, scratch):
    """Add the increment to the displacement, with the medians."""
    for c in range(2):
        if not _is_finite(increment[c]):
            # A median would hide it; from here on the whole displacement is no number.
            _fill(field[c], np.nan)
            continue
        if filtered:
            median_kernel(increment[c], scratch, plane)
            _add_plane(plane, field[c])
        else:
            _add_plane(increment[c], field[c])
        if twice:
            median_kernel(field[c], scratch, plane)
            _copy_plane(plane, field[c])


@kernel()
def refine_level(
    full, frame_rows, frame_row_weights, frame_columns, frame_column_weights,
    coarse, rows, row_weights, columns, column_weights,
    field, target, warped, padded, tensor, increment, plane, scratch, median_scratch,
    resample, warp, filtered, twice,
    fixed, energies, hx, hy, noise_weight, normaliser, brightness, distances, census,
    weights, starts, a_data, ring, ax, ay, cx, cy, iterations, update_lag, a_smooth, eps_smooth,
    data, unknowns, system, rim, psi,
):  # fmt: skip
    """Improve a displacement at one level, as `FlowregPlan` describes.

    Parameters
    ----------
    full : ndarray
        Moving frame, shape (C, H, W).
    frame_rows, frame_row_weights, frame_columns, frame_column_weights : ndarray
        How to resize it to the level, see `resize_tables`.
    coarse : ndarray
        Displacement at the level before, (2, h', w'), pixels.
    rows, row_weights, columns, column_weights : ndarray
        How to resize it to the level.
    field : ndarray
        Displacement at this level, (2, h, w), pixels: what is improved, in place.
    target, ..., median_scratch : ndarray
        Memory, see `LevelArrays.step`.
    resample : bool
        Take the displacement from `coarse` first.
    warp : bool
        Warp the frame by it.
    filtered, twice : bool
        Median filter the increment; and then the displacement, too.
    fixed : ndarray
        Fixed frame at this level, (C, h, w).
    energies : ndarray
        `flat_energy` of its planes, float64, (C,).
    hx, hy : float
        Grid spacing in full-resolution pixels.
    noise_weight : float
        Part of the excess noise that is added to the normaliser.
    normaliser, brightness, distances, census
        Numbers of the data terms: all None but the chosen one's.
    weights, ..., eps_smooth
        See `LevelSettings.numbers`.
    data, unknowns, system, rim, psi
        See `LevelScratch`.
    """
    if resample:
        resize_planes(coarse, rows, row_weights, columns, column_weights, scratch, field)
    resize_planes(full, frame_rows, frame_row_weights, frame_columns, frame_column_weights, scratch,
                  target)  # fmt: skip
    _pad_edges(field, padded)
    if warp:
        warp_cubic(target, field[0], field[1], 1 / hx, 1 / hy, fixed, warped)
    else:
        for c in range(fixed.shape[0]):
            _copy_plane(target[c], warped[c])
    sx, sy = field.dtype.type(hx), field.dtype.type(hy)
    for c in range(fixed.shape[0]):
        # All but one are None, and only its part is compiled.
        if census is not None:
            census_constancy(fixed[c], warped[c], sx, sy, distances, census, scratch, tensor[c])
        if brightness is not None:
            brightness_constancy(fixed[c], warped[c], sx, sy, scratch, tensor[c])
        if normaliser is not None:
            added = normaliser
            if noise_weight > 0:
                # Before warping: interpolation smooths noise away.
                energy = flat_energy(target[c], hx, hy, scratch)
                added += noise_weight * excess_noise(energies[c], energy)
            gradient_constancy(
                fixed[c], warped[c], sx, sy, field.dtype.type(added), scratch, tensor[c]
            )
    solve(
        tensor.ravel(), fixed.shape[0], padded, increment, weights, starts, a_data, ring, ax, ay,
        cx, cy, iterations, update_lag, a_smooth, eps_smooth, data, unknowns, system, rim, psi,
    )  # fmt: skip
    _add_filtered(increment, field, filtered, twice, plane, median_scratch)
