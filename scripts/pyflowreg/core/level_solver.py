"""Successive over-relaxation of the linearised, robust flow equations at one pyramid level.

Nonlinear system with lagged robust weights (A. Bruhn, PhD thesis, 2006; Flotho et al., J.
Biophotonics 2022). Sweeps are lexicographic with over-relaxation 1.95; there is no convergence
test: the number of sweeps is part of the method.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.jit import kernel
from pyflowreg.core.power import power

OMEGA = 1.95
EPSILON = 1e-5


@kernel()
def _penalise(plane, a):
    """Replace every value q by a q^(a - 1), the derivative of the penalty q^a."""
    real = plane.dtype.type
    for y in range(plane.shape[0]):
        row = plane[y]
        for x in range(plane.shape[1]):
            row[x] = a * power(row[x], a - real(1), real)


@kernel()
def _data_weight(J, du, dv, a, eps, out):
    height, width = out.shape
    zero = out.dtype.type(0)
    two = out.dtype.type(2)
    for y in range(height):
        for x in range(width):
            p = du[y + 1, x + 1]
            q = dv[y + 1, x + 1]
            value = (
                J[0, y, x] * p * p + J[1, y, x] * q * q + two * (J[3, y, x] * p * q)
                + two * (J[4, y, x] * p) + two * (J[5, y, x] * q) + J[2, y, x]
            )  # fmt: skip
            out[y, x] = max(value, zero) + eps
    _penalise(out, a)


@kernel()
def _difference(values, index, size, stride_h):
    """Central difference with spacing `stride_h`, one-sided at both ends."""
    if index == 0:
        return (values[1] - values[0]) / stride_h
    if index == size - 1:
        return (values[size - 1] - values[size - 2]) / stride_h
    return (values[index + 1] - values[index - 1]) / (stride_h + stride_h)


@kernel()
def _smoothness_weight(u, v, du, dv, hx, hy, a, eps, out):
    height, width = out.shape
    full_u = u + du
    full_v = v + dv
    for y in range(height):
        for x in range(width):
            ux = _difference(full_u[y], x, width, hx)
            uy = _difference(full_u[:, x], y, height, hy)
            vx = _difference(full_v[y], x, width, hx)
            vy = _difference(full_v[:, x], y, height, hy)
            out[y, x] = ux * ux + uy * uy + vx * vx + vy * vy + eps
    _penalise(out, a)


@kernel()
def _copy_ring(plane):
    height, width = plane.shape
    for x in range(width):
        plane[0, x] = plane[1, x]
        plane[height - 1, x] = plane[height - 2, x]
    for y in range(height):
        plane[y, 0] = plane[y, 1]
        plane[y, width - 1] = plane[y, width - 2]


@kernel()
def _fold(J, weight, psi, u, v, psi_s, ax, ay, omega, system, edge_x, edge_y):
    """Fold everything that is fixed between two weight updates into seven planes.

    system: omega/den_u, omega/den_v, coupling, b_u, b_v; edge_x and edge_y: smoothness weights of
    the edges to the left and upper neighbour (one longer than the interior).
    """
    channels, height, width = psi.shape
    half = system.dtype.type(0.5)
    zero = system.dtype.type(0)
    for y in range(height + 1):
        for x in range(width + 1):
            centre = psi_s[y + 1, x + 1]
            edge_x[y, x] = ax * (half * (psi_s[y + 1, x] + centre))
            edge_y[y, x] = ay * (half * (psi_s[y, x + 1] + centre))
    for y in range(height):
        for x in range(width):
            left = edge_x[y, x]
            right = edge_x[y, x + 1]
            up = edge_y[y, x]
            down = edge_y[y + 1, x]
            j11 = zero
            j22 = zero
            j12 = zero
            j13 = zero
            j23 = zero
            for c in range(channels):
                factor = weight[c, y, x] * psi[c, y, x]
                j11 += factor * J[c, 0, y, x]
                j22 += factor * J[c, 1, y, x]
                j12 += factor * J[c, 3, y, x]
                j13 += factor * J[c, 4, y, x]
                j23 += factor * J[c, 5, y, x]
            around = left + right + up + down
            p = u[y + 1, x + 1]
            q = v[y + 1, x + 1]
            system[0, y, x] = omega / (around + j11)
            system[1, y, x] = omega / (around + j22)
            system[2, y, x] = j12
            system[3, y, x] = (
                left * (u[y + 1, x] - p) + right * (u[y + 1, x + 2] - p)
                + up * (u[y, x + 1] - p) + down * (u[y + 2, x + 1] - p) - j13
            )  # fmt: skip
            system[4, y, x] = (
                left * (v[y + 1, x] - q) + right * (v[y + 1, x + 2] - q)
                + up * (v[y, x + 1] - q) + down * (v[y + 2, x + 1] - q) - j23
            )  # fmt: skip


@kernel()
def _sweep(system, edge_x, edge_y, keep, du, dv):
    # Row-major order gives the values of the original's column-major order: on a five-point
    # stencil both orders read the new left and upper and the old right and lower neighbours.
    _, height, width = system.shape
    for y in range(height):
        for x in range(width):
            left = edge_x[y, x]
            right = edge_x[y, x + 1]
            up = edge_y[y, x]
            down = edge_y[y + 1, x]
            coupling = system[2, y, x]
            # The new left neighbour comes last: it is the only operand on the critical path.
            rest = (
                system[3, y, x] + right * du[y + 1, x + 2] + up * du[y, x + 1]
                + down * du[y + 2, x + 1] - coupling * dv[y + 1, x + 1]
            )  # fmt: skip
            new_u = keep * du[y + 1, x + 1] + system[0, y, x] * (rest + left * du[y + 1, x])
            rest = (
                system[4, y, x] + right * dv[y + 1, x + 2] + up * dv[y, x + 1]
                + down * dv[y + 2, x + 1] - coupling * new_u
            )  # fmt: skip
            du[y + 1, x + 1] = new_u
            dv[y + 1, x + 1] = keep * dv[y + 1, x + 1] + system[1, y, x] * (
                rest + left * dv[y + 1, x]
            )


@kernel()
def _solve(J, weight, u, v, a_data, a_smooth, alpha_x, alpha_y, hx, hy, iterations, update_lag,
           psi, omega, eps, eps_smooth, du, dv):  # fmt: skip
    channels, _, height, width = J.shape
    one = du.dtype.type(1)
    psi_s = np.ones((height + 2, width + 2), du.dtype)
    system = np.empty((5, height, width), du.dtype)
    edge_x = np.empty((height + 1, width + 1), du.dtype)
    edge_y = np.empty((height + 1, width + 1), du.dtype)
    ax = alpha_x / (hx * hx)
    ay = alpha_y / (hy * hy)
    for sweep in range(1, iterations + 1):
        update = sweep % update_lag == 0
        if update:
            for c in range(channels):
                _data_weight(J[c], du, dv, a_data[c], eps, psi[c])
            if a_smooth != one:
                _smoothness_weight(u, v, du, dv, hx, hy, a_smooth, eps_smooth, psi_s)
        if update or sweep == 1:
            _fold(J, weight, psi, u, v, psi_s, ax, ay, omega, system, edge_x, edge_y)
        _copy_ring(du)
        _copy_ring(dv)
        _sweep(system, edge_x, edge_y, one - omega, du, dv)


def solve_level(
    J: NDArray[Any],
    weight: NDArray[Any],
    u: NDArray[Any],
    v: NDArray[Any],
    *,
    a_data: NDArray[Any],
    a_smooth: float,
    alpha: tuple[float, float],
    hx: float,
    hy: float,
    iterations: int,
    update_lag: int,
    first_channel_starts: bool,
    smoothness_epsilon: float = EPSILON,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Compute the displacement increment at one level.

    Parameters
    ----------
    J : ndarray
        Motion tensors, shape (C, 6, H, W); see `motion_tensor`.
    weight : ndarray
        Data weights, shape (C, H, W).
    u, v : ndarray
        Current displacement in full-resolution pixels, padded by one replicated pixel,
        shape (H + 2, W + 2).
    a_data : ndarray
        Exponents of the robust data penalty, shape (C,).
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

    Returns
    -------
    du, dv : ndarray
        Shape (H + 2, W + 2), dtype of `J`; the ring holds the previous sweep's border.
    """
    dtype = J.dtype
    real = dtype.type
    psi = np.ones((J.shape[0], *J.shape[2:]), dtype)
    if first_channel_starts:
        psi[1:] = 0
    du = np.zeros(u.shape, dtype)
    dv = np.zeros(u.shape, dtype)
    _solve(
        J, weight, u, v, a_data, real(a_smooth), real(alpha[0]), real(alpha[1]), real(hx), real(hy),
        iterations, update_lag, psi, real(OMEGA), real(EPSILON),
        real(smoothness_epsilon), du, dv,
    )  # fmt: skip
    return du, dv
