"""The reference backend: numba kernels, one frame per thread."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.jit import kernel
from pyflowreg.core.level_kernels import refine_level
from pyflowreg.core.level_solver import LevelSettings, packed_weights
from pyflowreg.core.motion_tensor import census_numbers
from pyflowreg.core.noise import flat_energy, noise_scratch_size
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.pyramid import Level, pyramid_levels, resize_planes, resize_scratch_size
from pyflowreg.core.threads import for_each
from pyflowreg.core.workspace import Workspace, borrowed_workspace

MEDIAN_ABOVE = 5
"""Increments are median filtered on levels whose sides are both longer than this (pixels)."""


def missing(backend_params: dict[str, Any]) -> str | None:
    """Why the backend cannot run here; it always can."""
    del backend_params
    return None


def create(backend_params: dict[str, Any]) -> FlowregBackend:
    """Make the backend; it has no settings of its own."""
    del backend_params
    return FlowregBackend()


class FlowregBackend:
    """Coarse-to-fine variational flow on the CPU."""

    def prepare(self, fixed: NDArray[Any], parameters: FlowParameters) -> FlowregPlan:
        """Make the plan for one fixed frame; see `FlowregPlan`."""
        return FlowregPlan(fixed, parameters)


SINGLE_SPACING = 4.0
SINGLE_SIDE = 32
"""With `precision: single`, levels of a larger grid spacing (px) and with a shorter side (px) are
still computed in float64. They are cheap, and they are where rounding grows: the normalised data
term sees the second derivatives of a smooth, small image, and every finer level starts from the
result. The original's parameters let it grow on the larger of these levels too."""


@dataclass(frozen=True)
class _PlanLevel:
    """One level of a fixed frame; `medians` and `numbers` are what `refine_level` takes."""

    level: Level
    dtype: np.dtype[Any]
    medians: tuple[bool, bool]
    numbers: tuple[Any, ...]


@kernel()
def _interleave(planes, out):
    """Copy planes (2, H, W) to (H, W, 2)."""
    _, height, width = planes.shape
    for y in range(height):
        u, v, line = planes[0, y], planes[1, y], out[y]
        for x in range(width):
            line[x, 0] = u[x]
            line[x, 1] = v[x]


def _resized(planes: NDArray[Any], height: int, width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    out = np.empty((len(planes), height, width), dtype)
    resize_planes(planes, out, np.empty(resize_scratch_size(planes.shape, out.shape), dtype))
    return out


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
        self.height, self.width, self._channels = fixed.shape
        planes = np.ascontiguousarray(np.moveaxis(fixed, -1, 0), dtype=parameters.dtype)
        self._levels = [
            self._plan_level(planes, level)
            for level in pyramid_levels(
                self.height,
                self.width,
                eta=parameters.eta,
                levels=parameters.levels,
                min_level=parameters.min_level,
                swapped_spacing=parameters.switches.swapped_spacing,
            )
        ]
        self._layout = (
            tuple((entry.level, entry.dtype) for entry in self._levels),
            (self._channels, self.height, self.width),
            parameters.dtype,
            parameters.data_term,
            parameters.a_smooth != 1,
            parameters.update_lag,
        )

    def _level_dtype(self, level: Level) -> np.dtype[Any]:
        parameters = self.parameters
        small = min(level.height, level.width) < SINGLE_SIDE
        exact = small or parameters.switches.double_coarse_levels
        if exact and level.spacing > SINGLE_SPACING:
            return np.dtype(np.float64)
        return parameters.dtype

    def _plan_level(self, planes: NDArray[Any], level: Level) -> _PlanLevel:
        parameters = self.parameters
        channels = len(planes)
        dtype = self._level_dtype(level)
        size = (level.height, level.width)
        weight = parameters.weight_planes(self.height, self.width, channels)
        if weight.shape[1:] != (1, 1):
            # The cubic kernel overshoots at a sharp edge, and a negative weight has no minimum.
            weight = np.maximum(_resized(weight, *size, dtype), 0)
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
        fixed = _resized(planes, *size, dtype)
        filtered = min(size) > MEDIAN_ABOVE
        return _PlanLevel(
            level,
            dtype,
            (filtered, filtered and level.spacing <= parameters.switches.flow_median_spacing),
            (
                fixed,
                self._energies(fixed, level),
                level.hx,
                level.hy,
                float(parameters.noise_weight),
                *self._data_term(level, dtype),
                packed_weights(weight.astype(dtype)),
                *settings.numbers(level.height),
            ),
        )

    def _data_term(self, level: Level, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Numbers of the data terms, all but those of the chosen one None."""
        term = self.parameters.data_term
        census = census_numbers(level.hx, level.hy, dtype) if term == "cs" else (None, None)
        normaliser = self.parameters.normaliser if term == "gc" else None
        return normaliser, True if term == "gray" else None, *census

    def _energies(self, fixed: NDArray[Any], level: Level) -> NDArray[np.float64]:
        if not self.parameters.noise_weight:
            return np.zeros(len(fixed))
        scratch = np.empty(noise_scratch_size(fixed.shape), fixed.dtype)
        return np.array([flat_energy(plane, level.hx, level.hy, scratch) for plane in fixed])

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
        coarsest = self._levels[0]
        size = (coarsest.level.height, coarsest.level.width)
        initial = np.zeros((2, *size), coarsest.dtype)
        warp = False
        if uv is not None and np.any(uv):
            planes = np.ascontiguousarray(np.moveaxis(uv, -1, 0), dtype=self.parameters.dtype)
            initial = _resized(planes, *size, coarsest.dtype)
            warp = self.parameters.switches.warp_coarsest

        def one(index: int) -> None:
            with borrowed_workspace(*self._layout) as workspace:
                self._displacement(moving[index], initial, warp, workspace, out[index])

        for_each(one, len(moving), threads)
        return out

    def _displacement(
        self,
        moving: NDArray[Any],
        initial: NDArray[Any],
        warp: bool,
        workspace: Workspace,
        out: NDArray[Any],
    ) -> None:
        """Write the displacement of one moving frame (H, W, C) to `out` (H, W, 2).

        `initial` is the displacement to start from at the coarsest level, (2, h, w), and `warp`
        tells whether the frame is warped by it.
        """
        workspace.full[:] = np.moveaxis(moving, -1, 0)
        coarse = workspace.levels[0].field
        coarse[:] = initial
        for entry, arrays in zip(self._levels, workspace.levels, strict=True):
            field = arrays.field
            resample = coarse is not field
            if coarse.dtype != field.dtype:  # once; not worth a kernel of its own
                resize_planes(coarse, field, arrays.scratch)
                coarse, resample = field, False
            refine_level(
                workspace.full, *arrays.taps, coarse, *arrays.coarse_taps, *arrays.step, resample,
                warp, *entry.medians, *entry.numbers, *arrays.solver,
            )  # fmt: skip
            coarse, warp = field, True
        resize_planes(coarse, workspace.whole, workspace.last)
        _interleave(workspace.whole, out)
