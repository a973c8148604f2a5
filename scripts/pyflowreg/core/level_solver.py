"""What the solver of one pyramid level works with: its settings, its memory, calls from Python."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.jit import kernel
from pyflowreg.core.linear_system import EPSILON, FUSED, SYSTEM_PLANES, TENSOR
from pyflowreg.core.simd import lane_count
from pyflowreg.core.solver_kernels import solve
from pyflowreg.core.strips import level_size, pack


@kernel()
def solve_alone(J, channels, field, out, weights, starts, a_data, ring, ax, ay, cx, cy, iterations,
           update_lag, a_smooth, eps_smooth, data, unknowns, system, rim, psi):  # fmt: skip
    """`solve` for callers that are not compiled."""
    solve(J, channels, field, out, weights, starts, a_data, ring, ax, ay, cx, cy, iterations,
          update_lag, a_smooth, eps_smooth, data, unknowns, system, rim, psi)  # fmt: skip


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

    def numbers(self, height: int) -> tuple[Any, ...]:
        """What `solve` takes after the weights, for a level of this height."""
        dtype = self.a_data.dtype
        real = dtype.type
        starts = np.ones(len(self.a_data), dtype)
        if self.first_channel_starts:
            starts[1:] = 0
        robust = self.a_smooth != 1
        hx, hy = self.hx, self.hy
        return (
            starts,
            self.a_data,
            _ring(height, lane_count(dtype), robust, self.update_lag),
            real(self.alpha[0] / (hx * hx)),
            real(self.alpha[1] / (hy * hy)),
            real(0.5 / hx),
            real(0.5 / hy),
            self.iterations,
            self.update_lag,
            real(self.a_smooth) if robust else None,
            real(self.smoothness_epsilon) if robust else None,
        )


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

    def arrays(self, height: int, width: int) -> tuple[NDArray[Any] | None, ...]:
        """What `solve` takes at last, for a level of this size."""
        robust = bool(self.rim.size)
        return (
            self.data,
            self.unknowns,
            self.system,
            self.rim.reshape(2, height + 2, width + 2) if robust else None,
            self.psi if robust else None,
        )


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
    numbers, memory = settings.numbers(height), scratch.arrays(height, width)
    solve_alone(J.reshape(-1), channels, field, out, weights, *numbers, *memory)


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
