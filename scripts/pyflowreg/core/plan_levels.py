"""What the levels of a fixed frame hold, whatever computes with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.level_solver import LevelSettings
from pyflowreg.core.noise import flat_energy, noise_scratch_size
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.pyramid import Level, pyramid_levels, resize_planes, resize_scratch_size

MEDIAN_ABOVE = 5
"""Increments are median filtered on levels whose sides are both longer than this (pixels)."""

SINGLE_SPACING = 4.0
SINGLE_SIDE = 32
"""With `precision: single`, levels of a larger grid spacing (px) and with a shorter side (px) are
still computed in float64. They are cheap, and they are where rounding grows: the normalised data
term sees the second derivatives of a smooth, small image, and every finer level starts from the
result. The original's parameters let it grow on the larger of these levels too."""


@dataclass(frozen=True)
class PlanLevel:
    """One level of a fixed frame.

    Parameters
    ----------
    level : Level
        Its size and spacing.
    dtype : dtype
        Type of the computation.
    fixed : ndarray
        The fixed frame, shape (C, h, w), `dtype`.
    energies : ndarray
        `flat_energy` of its planes, float64, (C,); zeros where noise plays no part.
    weight : ndarray
        Data weights, (C, h, w), or (C, 1, 1) if they are the same everywhere, `dtype`.
    settings : LevelSettings
        Of the equations.
    filtered, twice : bool
        Median filter the increment; and then the displacement, too.
    """

    level: Level
    dtype: np.dtype[Any]
    fixed: NDArray[Any]
    energies: NDArray[np.float64]
    weight: NDArray[Any]
    settings: LevelSettings
    filtered: bool
    twice: bool


def resized(planes: NDArray[Any], height: int, width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return planes (C, H, W) resampled to (C, height, width), see `resize_planes`."""
    out = np.empty((len(planes), height, width), dtype)
    resize_planes(planes, out, np.empty(resize_scratch_size(planes.shape, out.shape), dtype))
    return out


def _level_dtype(parameters: FlowParameters, level: Level) -> np.dtype[Any]:
    small = min(level.height, level.width) < SINGLE_SIDE
    exact = small or parameters.switches.double_coarse_levels
    if exact and level.spacing > SINGLE_SPACING:
        return np.dtype(np.float64)
    return parameters.dtype


def _energies(fixed: NDArray[Any], level: Level, parameters: FlowParameters) -> NDArray[np.float64]:
    if not parameters.noise_weight:
        return np.zeros(len(fixed))
    scratch = np.empty(noise_scratch_size(fixed.shape), fixed.dtype)
    return np.array([flat_energy(plane, level.hx, level.hy, scratch) for plane in fixed])


def _plan_level(
    planes: NDArray[Any], level: Level, dtype: np.dtype[Any], parameters: FlowParameters
) -> PlanLevel:
    channels, height, width = planes.shape
    size = (level.height, level.width)
    weight = parameters.weight_planes(height, width, channels)
    if weight.shape[1:] != (1, 1):
        # The cubic kernel overshoots at a sharp edge, and a negative weight has no minimum.
        weight = np.maximum(resized(weight, *size, dtype), 0)
    alpha_x, alpha_y = (alpha * level.alpha_scale for alpha in parameters.alpha)
    settings = LevelSettings(
        a_data=parameters.exponents(channels).astype(dtype),
        a_smooth=parameters.a_smooth,
        alpha=(alpha_x, alpha_y),
        hx=level.hx,
        hy=level.hy,
        iterations=parameters.iterations,
        update_lag=parameters.update_lag,
        first_channel_starts=parameters.switches.first_channel_starts,
        smoothness_epsilon=parameters.switches.smoothness_epsilon,
    )
    fixed = resized(planes, *size, dtype)
    filtered = min(size) > MEDIAN_ABOVE
    return PlanLevel(
        level,
        dtype,
        fixed,
        _energies(fixed, level, parameters),
        weight.astype(dtype),
        settings,
        filtered,
        filtered and level.spacing <= parameters.switches.flow_median_spacing,
    )


def plan_levels(
    fixed: NDArray[Any], parameters: FlowParameters, *, has_float64: bool = True
) -> list[PlanLevel]:
    """Bring a fixed frame to all levels.

    Parameters
    ----------
    fixed : ndarray
        Shape (H, W, C), scaled to about [0, 1].
    parameters : FlowParameters
        Settings of the computation.
    has_float64 : bool
        Whether the device has this type; without, all levels are of the parameters' type.

    Returns
    -------
    list of PlanLevel
        From coarsest to finest.
    """
    planes = np.ascontiguousarray(np.moveaxis(fixed, -1, 0), dtype=parameters.dtype)
    _, height, width = planes.shape
    levels = pyramid_levels(
        height,
        width,
        eta=parameters.eta,
        levels=parameters.levels,
        min_level=parameters.min_level,
        swapped_spacing=parameters.switches.swapped_spacing,
    )
    return [
        _plan_level(
            planes,
            level,
            _level_dtype(parameters, level) if has_float64 else parameters.dtype,
            parameters,
        )
        for level in levels
    ]
