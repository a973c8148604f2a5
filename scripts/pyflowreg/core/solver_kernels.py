"""Successive over-relaxation of the linearised, robust flow equations at one pyramid level.

Nonlinear system with lagged robust weights (A. Bruhn, PhD thesis, 2006; Flotho et al., J.
Biophotonics 2022). Sweeps are lexicographic with over-relaxation 1.95; there is no convergence
test: the number of sweeps is part of the method. Row-major and column-major order give the same
values, because on a five-point stencil both read the new left and upper and the old right and
lower neighbours; so does the order of `strips`.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import numpy as np

from pyflowreg.core.jit import inline_kernel, inner_kernel
from pyflowreg.core.linear_system import (
    DU,
    EDGES,
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
from pyflowreg.core.strips import (
    PACK,
    UNPACK,
    element,
    lanes_of,
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


@inner_kernel()
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


@inline_kernel()
def _load(J, channels, height, width, laplacians, field, a_smooth, data):
    """Bring what the level is about to the layout of the solver.

    J and laplacians are flat; `a_smooth` is None with a quadratic smoothness term.
    """
    size, stride = height * width, width + 2
    tensors = channels * COMPONENTS
    planes = (_TENSOR if a_smooth is None else _ROBUST_TENSOR) + tensors
    if a_smooth is not None:
        around = (height + 2) * stride
        pack(field.ravel(), stride + 1, stride, around, _TWO, height, width, data, planes,
             np.int64(U))  # fmt: skip
        pack_rim(field, height, width, data, planes, np.int64(U))
    for strip in range(strip_count(height, lanes_of(data))):
        # One strip after the other, because a strip stays in the cache.
        if a_smooth is None:
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


@inline_kernel()
def solve(J, channels, field, out, weights, starts, a_data, ring, ax, ay, cx, cy, iterations,
          update_lag, a_smooth, eps_smooth, data, unknowns, system, rim, psi):  # fmt: skip
    """See `level_solver.solve_into`."""
    _, height, width = out.shape
    laplacians = out.ravel()  # replaced by the increments
    if a_smooth is None:
        _laplacian(field, ax, ay, out)
    planes = _load(J, channels, height, width, laplacians, field, a_smooth, data)
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
