"""The reference backend: numba kernels, one frame per thread."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.jit import kernel
from pyflowreg.core.level_kernels import refine_level
from pyflowreg.core.level_solver import packed_weights
from pyflowreg.core.motion_tensor import census_numbers
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.plan_levels import PlanLevel, plan_levels, resized
from pyflowreg.core.pyramid import Level, resize_planes
from pyflowreg.core.threads import for_each
from pyflowreg.core.workspace import Workspace, borrowed_workspace


def create(backend_params: dict[str, Any]) -> FlowregBackend:
    """Make the backend; it has no settings of its own."""
    del backend_params
    return FlowregBackend()


def missing(backend_params: dict[str, Any]) -> str | None:
    """Why the backend cannot run here; it always can."""
    del backend_params
    return None


class FlowregBackend:
    """Coarse-to-fine variational flow on the CPU."""

    def prepare(self, fixed: NDArray[Any], parameters: FlowParameters) -> FlowregPlan:
        """Make the plan for one fixed frame; see `FlowregPlan`."""
        return FlowregPlan(fixed, parameters)


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
        self._levels = [self._entry(found) for found in plan_levels(fixed, parameters)]
        self._layout = (
            tuple((entry.level, entry.dtype) for entry in self._levels),
            (self._channels, self.height, self.width),
            parameters.dtype,
            parameters.data_term,
            parameters.a_smooth != 1,
            parameters.update_lag,
        )

    def _entry(self, found: PlanLevel) -> _PlanLevel:
        level = found.level
        return _PlanLevel(
            level,
            found.dtype,
            (found.filtered, found.twice),
            (
                found.fixed,
                found.energies,
                level.hx,
                level.hy,
                float(self.parameters.noise_weight),
                *self._data_term(level, found.dtype),
                packed_weights(found.weight),
                *found.settings.numbers(level.height),
            ),
        )

    def _data_term(self, level: Level, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Numbers of the data terms, all but those of the chosen one None."""
        term = self.parameters.data_term
        census = census_numbers(level.hx, level.hy, dtype) if term == "cs" else (None, None)
        normaliser = self.parameters.normaliser if term == "gc" else None
        return normaliser, True if term == "gray" else None, *census

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
            initial = resized(planes, *size, coarsest.dtype)
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
