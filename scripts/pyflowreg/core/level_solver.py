"""Successive over-relaxation of the linearised, robust flow equations at one pyramid level.

Nonlinear system with lagged robust weights (A. Bruhn, PhD thesis, 2006; Flotho et al., J.
Biophotonics 2022). Sweeps are lexicographic with over-relaxation 1.95; there is no convergence
test: the number of sweeps is part of the method. Row-major and column-major order give the same
values, because on a five-point stencil both read the new left and upper and the old right and
lower neighbours; so does the order of `strips`.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.jit import inline_kernel, inner_kernel, kernel
from pyflowreg.core.linear_system import (
    DU,
    EDGES,
    EPSILON,
    FUSED,
    LAPLACE_U,
    PSI,
    SYSTEM_PLANES,
    TENSOR,
    U,
    fold,
    start,
    sweep,
)
from pyflowreg.core.motion_tensor import COMPONENTS
from pyflowreg.core.power import raise_to
from pyflowreg.core.simd import lane_count
from pyflowreg.core.strips import (
    PACK,
    UNPACK,
    element,
    lanes_of,
    level_size,
    move_strip,
    pack,
    pack_rim,
    strip_count,
    unpack,
)

_ROBUST_PLANES = SYSTEM_PLANES[True]
_TENSOR, _ROBUST_TENSOR = TENSOR[False], TENSOR[True]
# Of NumPy: numba compiles a function anew for every constant of Python that it is called with.
_ZERO, _ONE, _TWO = np.int64(0), np.int64(1), np.int64(2)


@inner_kernel()
def _old_rim(field, unknowns, rim):
    """Add to the border around the displacement the outermost increments, as before a sweep."""
    _, height, width = field.shape
    for c in range(2):
        for y in range(height):
            # The first and the last row whole, of the others the two ends.
            step = 1 if y in (0, height - 1) else width - 1
            for x in range(0, width, step):
                row, column = min(max(y - 1, 0), height - 3), min(max(x - 1, 0), width - 3)
                place = element(row, column, width - 2, lanes_of(unknowns), 2, DU + c)
                rim[c, y, x] = field[c, y, x] + unknowns[place]


@inner_kernel()
def _squared_gradient(values, cx, cy, eps, out):
    """|grad u|^2 + |grad v|^2 + eps; differences central, at the ends one-sided.

    cx, cy: 0.5 / spacing.
    """
    _, height, width = values.shape
    two = out.dtype.type(2)
    for y in range(height):
        row = out[y]
        upper, lower = max(y - 1, 0), min(y + 1, height - 1)
        scale = cy if lower - upper == 2 else two * cy
        for x in range(width):
            row[x] = eps
        for c in range(2):
            above, below, line = values[c, upper], values[c, lower], values[c, y]
            for x in range(1, width - 1):
                dx = (line[x + 1] - line[x - 1]) * cx
                dy = (below[x] - above[x]) * scale
                row[x] += dx * dx + dy * dy
            for x in (0, width - 1):
                dx = (line[min(x + 1, width - 1)] - line[max(x - 1, 0)]) * (two * cx)
                dy = (below[x] - above[x]) * scale
                row[x] += dx * dx + dy * dy


@inner_kernel()
def _update_smoothness(field, data, unknowns, system, planes, rim, psi, cx, cy, exponent, eps):
    """Robust weight of the smoothness term at every point and at its four neighbours.

    The border around the frame takes part, with the values before the last sweep, as in the
    original.
    """
    _, rows, stride = field.shape
    height, width = rows - 2, stride - 2
    size = rows * stride
    unpack(unknowns, _TWO, np.int64(DU), rim.ravel(), stride + 1, stride, size, _TWO, height, width)
    for c in range(2):
        for y in range(height):
            line, before = rim[c, y + 1], field[c, y + 1]
            for x in range(1, width + 1):
                line[x] += before[x]
    _squared_gradient(rim, cx, cy, eps, psi[:size].reshape(rows, stride))
    raise_to(psi, exponent - psi.dtype.type(1))
    for k in range(psi.size):
        psi[k] *= exponent
    pack(psi, stride + 1, stride, _ZERO, _ONE, height, width, data, planes, np.int64(PSI))
    for k, origin in enumerate((stride, stride + 2, 1, 2 * stride + 1)):
        pack(psi, np.int64(origin), stride, _ZERO, _ONE, height, width, system,
             np.int64(_ROBUST_PLANES), np.int64(EDGES + k))  # fmt: skip


@kernel()
def _laplacian(field, ax, ay, out):
    """Weighted Laplacian of planes (2, H + 2, W + 2) to planes (2, H, W)."""
    for c in range(2):
        for y in range(out.shape[1]):
            above, here, below, line = field[c, y], field[c, y + 1], field[c, y + 2], out[c, y]
            for x in range(out.shape[2]):
                p = here[x + 1]
                line[x] = ax * ((here[x] - p) + (here[x + 2] - p)) + ay * (
                    (above[x + 1] - p) + (below[x + 1] - p)
                )


@inner_kernel()
def _load(J, channels, height, width, laplacians, field, data):
    """Bring what the level is about to the layout of the solver.

    J and laplacians are flat; `field` is None with a quadratic smoothness term.
    """
    size, stride = height * width, width + 2
    tensors = channels * COMPONENTS
    planes = (_TENSOR if field is None else _ROBUST_TENSOR) + tensors
    if field is not None:
        around = (height + 2) * stride
        pack(field.ravel(), stride + 1, stride, around, _TWO, height, width, data, planes,
             np.int64(U))  # fmt: skip
        pack_rim(field, height, width, data, planes, np.int64(U))
    for strip in range(strip_count(height, lanes_of(data))):
        # One strip after the other, because a strip stays in the cache.
        if field is None:
            move_strip(laplacians, _ZERO, width, size, _TWO, height, width, data, planes,
                       np.int64(LAPLACE_U), strip, PACK)  # fmt: skip
        move_strip(J, _ZERO, width, size, tensors, height, width, data, planes, planes - tensors,
                   strip, PACK)  # fmt: skip
    return planes


@inline_kernel()
def _sweep_together(unknowns, system, height, width, count, ring, ax, ay, robust, front):
    """Bring several sweeps forward by a strip; each is one strip behind the one before."""
    strips = strip_count(height, lanes_of(system))
    newest = max(0, front - strips + 1)
    oldest = min(count, front + 1)
    sweep(unknowns, system, height, width, front - newest, oldest - newest, ring, ax, ay, robust)


@kernel()
def _solve(J, channels, height, width, laplacians, field, data, unknowns, system, weights, starts,
           a_data, ring, ax, ay, cx, cy, iterations, update_lag, a_smooth, eps_smooth, rim, psi
           ):  # fmt: skip
    """See `solve_into`; the increments replace the Laplacians, both flat."""
    planes = _load(J, channels, height, width, laplacians, field, data)
    strips = strip_count(height, lanes_of(system))
    # Weights that are the same everywhere are one record.
    weight_step = 0 if weights.size == channels * lanes_of(weights) else 1
    for k in range(unknowns.size):
        unknowns[k] = 0
    if a_smooth is not None:
        _old_rim(field, unknowns, rim)
    done = 0
    while done < iterations:
        update = (done + 1) % update_lag == 0
        stop = min((done + 1) // update_lag * update_lag + update_lag - 1, iterations)
        if a_smooth is not None and update:
            _update_smoothness(field, data, unknowns, system, planes, rim, psi, cx, cy, a_smooth,
                               eps_smooth)  # fmt: skip
        begin = done
        while done < stop:
            count = min(FUSED, stop - done)
            if a_smooth is not None:
                # The last sweep before an update alone, to see the border before it.
                count = min(FUSED, max(stop - done - 1, 1))
                if stop - done == 1:
                    _old_rim(field, unknowns, rim)
            for front in range(strips + count - 1):
                if done == begin and front < strips:
                    if update:
                        fold(data, unknowns, system, weights, weight_step, a_data, channels,
                             height, width, front, ring, ax, ay, a_smooth)  # fmt: skip
                    else:
                        start(data, unknowns, system, weights, weight_step, starts, channels,
                              height, width, front, ring, ax, ay, a_smooth)  # fmt: skip
                _sweep_together(unknowns, system, height, width, count, ring, ax, ay, a_smooth,
                                front)  # fmt: skip
            done += count
    size = height * width
    for strip in range(strips):
        move_strip(laplacians, _ZERO, width, size, _TWO, height, width, unknowns, _TWO,
                   np.int64(DU), strip, UNPACK)  # fmt: skip


@dataclass(frozen=True)
class LevelSettings:
    """What the equations of a level depend on besides the frames.

    Parameters
    ----------
    a_data : ndarray
        Exponents of the robust data penalty, shape (C,), of the type of the computation.
    a_smooth : float
        Exponent of the robust smoothness penalty; 1 means quadratic.
    alpha : tuple of float
        Smoothness weights in x and y at this level.
    hx, hy : float
        Grid spacing in full-resolution pixels.
    iterations : int
        Number of sweeps.
    update_lag : int
        Sweeps between two updates of the robust weights.
    first_channel_starts : bool
        Channels after the first have no weight until the first update.
    smoothness_epsilon : float
        Added to the squared displacement gradient in the robust smoothness weight.
    """

    a_data: NDArray[Any]
    a_smooth: float
    alpha: tuple[float, float]
    hx: float
    hy: float
    iterations: int
    update_lag: int
    first_channel_starts: bool
    smoothness_epsilon: float = EPSILON


@dataclass(frozen=True)
class LevelScratch:
    """Memory for solving a level: flat arrays of the type of the computation, see `scratch_sizes`.

    Parameters
    ----------
    data, unknowns, system : ndarray
        Motion tensors, increments and the linear system, in the layout of `strips`.
    rim, psi : ndarray
        Displacement with a border and its weights; empty with a quadratic smoothness term.
    """

    data: NDArray[Any]
    unknowns: NDArray[Any]
    system: NDArray[Any]
    rim: NDArray[Any]
    psi: NDArray[Any]


def _ring(height: int, lanes: int, robust: bool, update_lag: int) -> int:
    """Strips whose linear system is kept: all, if a later pass needs them again."""
    strips = -(-height // lanes)
    return strips if robust or update_lag > FUSED else min(strips, FUSED)


def scratch_sizes(
    channels: int, height: int, width: int, robust: bool, update_lag: int, dtype: np.dtype[Any]
) -> dict[str, int]:
    """Numbers in each array of `LevelScratch`.

    Parameters
    ----------
    channels, height, width : int
        Size of the level.
    robust : bool
        Whether `a_smooth` is below 1.
    update_lag : int
        Sweeps between two updates of the robust weights.
    dtype : dtype
        Type of the computation.
    """
    lanes = lane_count(dtype)
    plane = level_size(height, width, lanes)
    kept = level_size(_ring(height, lanes, robust, update_lag) * lanes, width, lanes)
    border = (height + 2) * (width + 2) if robust else 0
    return {
        "data": plane * (TENSOR[robust] + 6 * channels),
        "unknowns": plane * 2,
        "system": kept * SYSTEM_PLANES[robust],
        "rim": 2 * border,
        "psi": -(-border // lanes) * lanes,
    }


def packed_weights(weight: NDArray[Any]) -> NDArray[Any]:
    """Lay data weights out as the solver reads them.

    Parameters
    ----------
    weight : ndarray
        float32 or float64, shape (C, H, W), or (C, 1, 1) if they are the same everywhere.
    """
    channels, height, width = weight.shape
    if height == width == 1:
        return np.repeat(weight.ravel(), lane_count(weight.dtype))
    packed = np.zeros(level_size(height, width, lane_count(weight.dtype)) * channels, weight.dtype)
    size = height * width
    pack(weight.ravel(), 0, width, size, channels, height, width, packed, channels, 0)
    return packed


def solve_into(
    J: NDArray[Any],
    weights: NDArray[Any],
    field: NDArray[Any],
    settings: LevelSettings,
    scratch: LevelScratch,
    out: NDArray[Any],
) -> None:
    """Compute the displacement increment at one level, without allocating memory.

    Parameters
    ----------
    J : ndarray
        Motion tensors, C-contiguous, shape (C, 6, H, W); see `motion_tensor`. Like all other
        arrays of the type of `settings.a_data`.
    weights : ndarray
        Data weights as given by `packed_weights`.
    field : ndarray
        Current displacement in full-resolution pixels with a border of one pixel, C-contiguous,
        shape (2, H + 2, W + 2): u, v. A replicated border lets nothing flow across it.
    settings : LevelSettings
        Everything else.
    scratch : LevelScratch
        Of exactly this size.
    out : ndarray
        Takes the increments du, dv; C-contiguous, shape (2, H, W), pixels.
    """
    channels, _, height, width = J.shape
    dtype = settings.a_data.dtype
    real = dtype.type
    starts = np.ones(channels, dtype)
    if settings.first_channel_starts:
        starts[1:] = 0
    hx, hy = settings.hx, settings.hy
    robust = settings.a_smooth != 1
    ax, ay = real(settings.alpha[0] / (hx * hx)), real(settings.alpha[1] / (hy * hy))
    if not robust:
        _laplacian(field, ax, ay, out)
    _solve(
        J.reshape(-1), channels, height, width, out.reshape(-1), field if robust else None,
        scratch.data, scratch.unknowns, scratch.system, weights, starts, settings.a_data,
        _ring(height, lane_count(dtype), robust, settings.update_lag), ax, ay,
        real(0.5 / hx), real(0.5 / hy), settings.iterations, settings.update_lag,
        real(settings.a_smooth) if robust else None,
        real(settings.smoothness_epsilon) if robust else None,
        scratch.rim.reshape(2, height + 2, width + 2) if robust else None,
        scratch.psi if robust else None,
    )  # fmt: skip


def solve_level(
    J: NDArray[Any], weight: NDArray[Any], field: NDArray[Any], settings: LevelSettings
) -> NDArray[Any]:
    """Compute the displacement increment at one level; see `solve_into`.

    Parameters
    ----------
    J : ndarray
        Shape (C, 6, H, W).
    weight : ndarray
        Data weights, shape (C, H, W) or (C, 1, 1).
    field : ndarray
        Shape (2, H + 2, W + 2), pixels.
    settings : LevelSettings
        Everything else.

    Returns
    -------
    ndarray
        Increments du, dv in pixels, shape (2, H, W), dtype of `J`.
    """
    channels, _, height, width = J.shape
    sizes = scratch_sizes(
        channels, height, width, settings.a_smooth != 1, settings.update_lag, J.dtype
    )
    scratch = LevelScratch(**{name: np.empty(size, J.dtype) for name, size in sizes.items()})
    out = np.empty((2, height, width), J.dtype)
    packed = packed_weights(np.ascontiguousarray(weight, J.dtype))
    solve_into(np.ascontiguousarray(J), packed, np.ascontiguousarray(field), settings, scratch, out)
    return out
