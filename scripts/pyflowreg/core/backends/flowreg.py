"""The reference backend: numba kernels, one frame per thread."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.jit import inner_kernel, kernel
from pyflowreg.core.level_solver import LevelSettings, packed_weights, solve_into
from pyflowreg.core.median import median_kernel
from pyflowreg.core.motion_tensor import motion_tensor_into
from pyflowreg.core.noise import excess_noise, flat_energy, noise_scratch_size
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.pyramid import Level, pyramid_levels, resize_planes, resize_scratch_size
from pyflowreg.core.resize_kernels import resize_planes as resize_between
from pyflowreg.core.threads import for_each
from pyflowreg.core.warp_kernels import warp_cubic
from pyflowreg.core.workspace import LevelArrays, Workspace, borrowed_workspace

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


SINGLE_SPACING = 4.0
SINGLE_SIDE = 32
"""With `precision: single`, levels of a larger grid spacing (px) and with a shorter side (px) are
still computed in float64. They are cheap, and they are where rounding grows: the normalised data
term sees the second derivatives of a smooth, small image, and every finer level starts from the
result. The original's parameters let it grow on the larger of these levels too."""


@dataclass(frozen=True)
class _PlanLevel:
    level: Level
    fixed: NDArray[Any]
    weights: NDArray[Any]
    settings: LevelSettings
    dtype: np.dtype[Any]
    energies: tuple[float, ...]


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


@kernel()
def _pad_edges(planes, out):
    """Copy planes (n, H, W) to (n, H + 2, W + 2) with a replicated border."""
    count, height, width = planes.shape
    for k in range(count):
        for y in range(height + 2):
            source, target = planes[k, min(max(y - 1, 0), height - 1)], out[k, y]
            target[0], target[width + 1] = source[0], source[width - 1]
            for x in range(width):
                target[x + 1] = source[x]


# Not one kernel, because those it would call are needed elsewhere, and compiled again for it.
def _enter_level(full, fixed, taps, warp, scale_x, scale_y, field, padded, target, warped,
                 scratch):  # fmt: skip
    """Bring a frame to a level and warp it; give the displacement a border."""
    resize_between(full, *taps, scratch, target)
    _pad_edges(field, padded)
    if warp:
        warp_cubic(target, field[0], field[1], scale_x, scale_y, fixed, warped)
    else:
        warped[:] = target


@kernel()
def _leave_level(increment, field, filtered, twice, plane, scratch):
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
        scratch = np.empty(noise_scratch_size(size), dtype)
        return _PlanLevel(
            level,
            fixed,
            packed_weights(weight.astype(dtype)),
            settings,
            dtype,
            tuple(flat_energy(plane, level.hx, level.hy, scratch) for plane in fixed),
        )

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
        before = None
        for entry, arrays in zip(self._levels, workspace.levels, strict=True):
            level = entry.level
            if before is None:
                arrays.field[:] = initial
            else:
                resize_planes(before, arrays.field, arrays.scratch)
            _enter_level(
                workspace.full, entry.fixed, arrays.frame_taps, warp, 1 / level.hx, 1 / level.hy,
                arrays.field, arrays.padded, arrays.target, arrays.warped, arrays.scratch,
            )  # fmt: skip
            self._refine(entry, arrays)
            before, warp = arrays.field, True
        resize_planes(workspace.levels[-1].field, workspace.whole, workspace.last)
        _interleave(workspace.whole, out)

    def _normaliser(self, entry: _PlanLevel, arrays: LevelArrays, channel: int) -> float:
        parameters, level = self.parameters, entry.level
        if not parameters.noise_weight:
            return parameters.normaliser
        # Before warping: interpolation smooths noise away.
        energy = flat_energy(arrays.target[channel], level.hx, level.hy, arrays.scratch)
        noise = excess_noise(entry.energies[channel], energy)
        return parameters.normaliser + parameters.noise_weight * noise

    def _refine(self, entry: _PlanLevel, arrays: LevelArrays) -> None:
        """Add one level's increment to its field, in place."""
        parameters, level = self.parameters, entry.level
        for c, (fixed, moving) in enumerate(zip(entry.fixed, arrays.warped, strict=True)):
            motion_tensor_into(
                fixed, moving, level.hx, level.hy, parameters.data_term,
                self._normaliser(entry, arrays, c), arrays.tensor[c], arrays.scratch,
            )  # fmt: skip
        solve_into(
            arrays.tensor, entry.weights, arrays.padded, entry.settings, arrays.solver,
            arrays.increment,
        )  # fmt: skip
        filtered = min(level.height, level.width) > MEDIAN_ABOVE
        twice = filtered and level.spacing <= parameters.switches.flow_median_spacing
        _leave_level(
            arrays.increment, arrays.field, filtered, twice, arrays.filtered, arrays.median_scratch
        )
