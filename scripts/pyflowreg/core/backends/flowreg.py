"""The reference backend: numba kernels, one frame per thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.level_solver import solve_level
from pyflowreg.core.median import median_5x5
from pyflowreg.core.motion_tensor import motion_tensor
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.pyramid import Level, pyramid_levels, resize
from pyflowreg.core.threads import for_each
from pyflowreg.core.warp_kernels import warp_cubic

MEDIAN_ABOVE = 5
"""Increments are median filtered on levels whose sides are both longer than this (pixels)."""


def create(backend_params: dict[str, Any]) -> FlowregBackend:
    """Make the backend; it has no settings of its own."""
    del backend_params
    return FlowregBackend()


class FlowregBackend:
    """Coarse-to-fine variational flow on the CPU."""

    def prepare(self, fixed: NDArray[Any], parameters: FlowParameters) -> FlowregPlan:
        """Make the plan for one fixed frame; see `FlowregPlan`."""
        return FlowregPlan(fixed, parameters)


SINGLE_BELOW = 2.0
"""With `precision: single`, levels of a larger grid spacing (px) are still computed in float64.
They are cheap, and they are where rounding grows: the normalised data term sees the second
derivatives of a smooth, small image, and every finer level starts from the result."""


@dataclass(frozen=True)
class _PlanLevel:
    level: Level
    fixed: NDArray[Any]
    weight: NDArray[Any]
    alpha: tuple[float, float]
    a_data: NDArray[Any]
    dtype: np.dtype[Any]


def _resize_planes(
    planes: NDArray[Any], height: int, width: int, dtype: np.dtype[Any]
) -> NDArray[Any]:
    return np.stack([resize(plane, height, width, dtype) for plane in planes])


class FlowregPlan:
    """Reference pyramid, weights and spacings of one fixed frame.

    Parameters
    ----------
    fixed : ndarray
        Shape (H, W, C), scaled to about [0, 1].
    parameters : FlowParameters
        Settings of the computation.
    """

    def __init__(self, fixed: NDArray[Any], parameters: FlowParameters) -> None:
        self.parameters = parameters
        self.height, self.width, _ = fixed.shape
        self._levels = [
            self._plan_level(fixed, level)
            for level in pyramid_levels(
                self.height,
                self.width,
                eta=parameters.eta,
                levels=parameters.levels,
                min_level=parameters.min_level,
                swapped_spacing=parameters.switches.swapped_spacing,
            )
        ]

    def _plan_level(self, fixed: NDArray[Any], level: Level) -> _PlanLevel:
        parameters = self.parameters
        channels = fixed.shape[2]
        dtype = parameters.dtype if level.spacing <= SINGLE_BELOW else np.dtype(np.float64)
        size = (level.height, level.width)
        weight = parameters.weight_planes(self.height, self.width, channels)
        if weight.shape[1:] == (1, 1):
            weight = np.broadcast_to(weight, (channels, *size)).astype(dtype)
        else:
            # The cubic kernel overshoots at a sharp edge, and a negative weight has no minimum.
            weight = np.maximum(_resize_planes(weight, *size, dtype), 0)
        alpha_x, alpha_y = (alpha * level.alpha_scale for alpha in parameters.alpha)
        return _PlanLevel(
            level,
            _resize_planes(self._planes(fixed), *size, dtype),
            weight,
            (alpha_x, alpha_y),
            parameters.exponents(channels).astype(dtype),
            dtype,
        )

    def _planes(self, frame: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(np.moveaxis(frame, -1, 0), dtype=self.parameters.dtype)

    def displacements(
        self, moving: NDArray[Any], uv: NDArray[Any] | None = None, threads: int = 1
    ) -> NDArray[Any]:
        """Displacement of every moving frame.

        Parameters
        ----------
        moving : ndarray
            Shape (T, H, W, C).
        uv : ndarray, optional
            Initial displacement for all frames, pixels, shape (H, W, 2); zero by default.
        threads : int
            Frames computed at the same time; the result does not depend on it.

        Returns
        -------
        ndarray
            Backward map in pixels, shape (T, H, W, 2), dtype of the chosen precision.
        """
        out = np.empty((len(moving), self.height, self.width, 2), self.parameters.dtype)

        def one(index: int) -> None:
            out[index] = self.displacement(moving[index], uv)

        for_each(one, len(moving), threads)
        return out

    def displacement(self, moving: NDArray[Any], uv: NDArray[Any] | None = None) -> NDArray[Any]:
        """Displacement of one moving frame (H, W, C): shape (H, W, 2), pixels."""
        dtype = self.parameters.dtype
        full = self._planes(moving)
        field = np.zeros((2, self.height, self.width), dtype)
        if uv is not None:
            field[:] = np.moveaxis(uv, -1, 0)
        warp = self.parameters.switches.warp_coarsest and bool(field.any())
        for entry in self._levels:
            size = (entry.level.height, entry.level.width)
            field = _resize_planes(field, *size, entry.dtype)
            target = _resize_planes(full, *size, entry.dtype)
            if warp:
                target = self._warp(target, field, entry)
            self._refine(field, target, entry)
            warp = True
        field = _resize_planes(field, self.height, self.width, dtype)
        return np.ascontiguousarray(np.moveaxis(field, 0, -1))

    @staticmethod
    def _warp(target: NDArray[Any], field: NDArray[Any], entry: _PlanLevel) -> NDArray[Any]:
        out = np.empty_like(target)
        u, v = field
        warp_cubic(target, u, v, 1 / entry.level.hx, 1 / entry.level.hy, entry.fixed, out)
        return out

    def _refine(self, field: NDArray[Any], target: NDArray[Any], entry: _PlanLevel) -> None:
        """Add one level's increment to `field` (2, H, W), in place."""
        parameters, level = self.parameters, entry.level
        switches = parameters.switches
        tensor = np.stack(
            [
                motion_tensor(
                    fixed, plane, level.hx, level.hy, parameters.data_term, parameters.normaliser
                )
                for fixed, plane in zip(entry.fixed, target, strict=True)
            ]
        )
        u, v = np.pad(field, ((0, 0), (1, 1), (1, 1)), mode="edge")
        increments = solve_level(
            tensor,
            entry.weight,
            u,
            v,
            a_data=entry.a_data,
            a_smooth=parameters.a_smooth,
            alpha=entry.alpha,
            hx=level.hx,
            hy=level.hy,
            iterations=parameters.iterations,
            update_lag=parameters.update_lag,
            first_channel_starts=switches.first_channel_starts,
            smoothness_epsilon=switches.smoothness_epsilon,
        )
        filtered = min(level.height, level.width) > MEDIAN_ABOVE
        for component, increment in zip(field, increments, strict=True):
            interior = np.ascontiguousarray(increment[1:-1, 1:-1])
            component += median_5x5(interior) if filtered else interior
            if filtered and level.spacing <= switches.flow_median_spacing:
                component[:] = median_5x5(component)
