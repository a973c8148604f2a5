"""The solver of one pyramid level for many frames; see `core.solver_kernels` for the equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from pyflowreg.core.level_solver import LevelSettings
from pyflowreg.core.linear_system import EPSILON, OMEGA
from pyflowreg.core.tensors.motion import Tensors
from pyflowreg.core.tensors.resampling import padded, to_tensor
from pyflowreg.core.tensors.skewed import RIM, Front, Skewed


def power(x: torch.Tensor, exponent: torch.Tensor | float) -> torch.Tensor:
    """Powers of positive numbers; PyTorch's own depend on where in memory a number is."""
    return (exponent * x.log()).exp()


def _neighbours(around: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Left, right, upper and lower neighbours of padded planes."""
    return (
        around[..., 1:-1, :-2],
        around[..., 1:-1, 2:],
        around[..., :-2, 1:-1],
        around[..., 2:, 1:-1],
    )


def _squared_gradient(around: torch.Tensor, hx: float, hy: float) -> torch.Tensor:
    """|grad u|^2 + |grad v|^2 of (T, 2, h, w); differences central, at the ends one-sided."""
    total = None
    for axis, spacing in ((-1, hx), (-2, hy)):
        size = around.shape[axis]
        inner = (around.narrow(axis, 2, size - 2) - around.narrow(axis, 0, size - 2)) * (
            0.5 / spacing
        )
        first, last = (
            (around.narrow(axis, k + 1, 1) - around.narrow(axis, k, 1)) * (1 / spacing)
            for k in (0, size - 2)
        )
        slope = torch.cat([first, inner, last], axis)
        squares = slope[:, 0] * slope[:, 0] + slope[:, 1] * slope[:, 1]
        total = squares if total is None else total + squares
    return total


class _Smoothness(NamedTuple):
    """What the linear system takes from the smoothness term.

    `total` is the sum of the weights of a point's edges, `missing` that of the edges out of the
    frame, (T, h, w); `laplace` the weighted Laplacian of the displacement, (T, 2, h, w).
    """

    total: torch.Tensor | float
    laplace: torch.Tensor
    missing: torch.Tensor


class _System(NamedTuple):
    """The linear system between two updates of the robust weights, stored by anti-diagonals.

    A sweep is ``new = keep own + scale (sum of edge times neighbour) + right - coupling other``,
    with a plane for u and one for v. A neighbour outside the frame has the point's own value of the
    sweep before, so its edge is part of `keep`. `edges` are those to the neighbours of `Front`;
    without a robust smoothness term they are the same everywhere, and folded into `scale`.
    """

    keep: torch.Tensor
    scale: torch.Tensor
    right: torch.Tensor
    coupling: torch.Tensor
    edges: tuple[torch.Tensor, ...]

    @property
    def planes(self) -> tuple[torch.Tensor, ...]:
        return self.keep, self.scale, self.right, self.coupling, *self.edges


def _sweep(front: Front, ratio: float) -> None:
    """Bring several sweeps forward by one anti-diagonal."""
    keep, scale, right, coupling, *edges = front.planes
    if edges:
        around = edges[0] * front.before
        around.addcmul_(edges[1], front.after)
        around.addcmul_(edges[2], front.before_aside)
        around.addcmul_(edges[3], front.after_aside)
    else:
        around = front.before + front.after
        around.add_(front.before_aside + front.after_aside, alpha=ratio)
    u, v = front.own
    new = torch.addcmul(right, keep, front.own)
    new.addcmul_(scale, around)
    torch.addcmul(new[0], coupling[0], v, value=-1, out=u)
    torch.addcmul(new[1], coupling[1], u, value=-1, out=v)


def _outside(field: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """1 where the left, right, upper or lower neighbour is outside the frame, else 0, (h, w)."""
    around = field.new_ones([extent + 2 for extent in field.shape[-2:]])
    around[1:-1, 1:-1] = 0
    return _neighbours(around)


class LevelSolver:
    """Computes increments of the displacement at one level.

    Parameters
    ----------
    settings : LevelSettings
        Of the equations.
    weight : Tensor
        Data weights, (C, h, w) or (C, 1, 1).
    """

    def __init__(self, settings: LevelSettings, weight: torch.Tensor) -> None:
        self.settings = settings
        self.weight = weight
        self.exponents = to_tensor(settings.a_data, weight)[:, None, None]
        starts = torch.ones_like(self.exponents)
        if settings.first_channel_starts:
            starts[1:] = 0
        self.starts = starts
        self.robust = settings.a_smooth != 1
        self.ax = settings.alpha[0] / (settings.hx * settings.hx)
        self.ay = settings.alpha[1] / (settings.hy * settings.hy)

    def __call__(self, tensors: Tensors, field: torch.Tensor) -> torch.Tensor:
        """Solve a level.

        Parameters
        ----------
        tensors : tuple of Tensor
            Motion tensors.
        field : Tensor
            Displacements, (T, 2, h, w), full-resolution pixels.

        Returns
        -------
        Tensor
            Increments, (T, 2, h, w).
        """
        count, _, height, width = field.shape
        return _Run(self, tensors, field, Skewed(count, height, width)).increments()


class _Run:
    """One call of a `LevelSolver`."""

    def __init__(
        self, solver: LevelSolver, tensors: Tensors, field: torch.Tensor, shape: Skewed
    ) -> None:
        self._solver, self._settings = solver, solver.settings
        self._tensors, self._field, self._shape = tensors, field, shape
        self._around = padded(field)
        self._outside = _outside(field)
        self._unknowns = shape.planes(2, field, RIM)
        self._du_dv = shape.as_frames(self._unknowns, RIM)  # (2, T, h, w)
        self._old = torch.zeros_like(field)
        number_of_edges = 4 if solver.robust else 0
        self._system = _System(
            keep=shape.planes(2, field),
            scale=shape.planes(2, field),
            right=shape.planes(2, field),
            coupling=shape.planes(2, field),
            edges=tuple(shape.planes(1, field) for _ in range(number_of_edges)),
        )
        self._fronts: dict[int, list[Front]] = {}
        ax, ay = solver.ax, solver.ay
        self._smoothness = self._of_edges([ax, ax, ay, ay])

    def increments(self) -> torch.Tensor:
        """Sweep as often as the settings say, (T, 2, h, w)."""
        lag, iterations = self._settings.update_lag, self._settings.iterations
        done = 0
        while done < iterations:
            update = (done + 1) % lag == 0
            stop = min((done + 1) // lag * lag + lag - 1, iterations)
            if self._solver.robust and update:
                self._smoothness = self._of_edges(self._robust_edges())
            self._fold(update)
            if self._solver.robust:
                # The last sweep before an update alone, to see the border before it.
                self._sweep(stop - done - 1)
                self._old = self._so_far()
                done = stop - 1
            self._sweep(stop - done)
            done = stop
        return self._so_far()

    def _so_far(self) -> torch.Tensor:
        return self._du_dv.transpose(0, 1).contiguous()

    def _sweep(self, sweeps: int) -> None:
        if not sweeps:
            return
        if sweeps not in self._fronts:
            planes = self._system.planes
            self._fronts[sweeps] = self._shape.fronts(self._unknowns, planes, sweeps)
        ratio = self._solver.ay / self._solver.ax
        if self._shape.is_tall:
            ratio = 1 / ratio
        for front in self._fronts[sweeps]:
            _sweep(front, ratio)

    def _robust_edges(self) -> list[torch.Tensor]:
        """Robust weights of the edges to the left, right, upper and lower neighbour."""
        settings, a = self._settings, self._settings.a_smooth
        total = self._around + padded(self._old)
        total[..., 1:-1, 1:-1] = self._field + self._so_far()
        squared = _squared_gradient(total, settings.hx, settings.hy) + settings.smoothness_epsilon
        psi = a * power(squared, a - 1)
        centre = psi[:, 1:-1, 1:-1]
        ax, ay = self._solver.ax, self._solver.ay
        factors = zip((ax, ax, ay, ay), _neighbours(psi), strict=True)
        return [factor * (0.5 * (near + centre)) for factor, near in factors]

    def _of_edges(self, edges: Sequence[torch.Tensor | float]) -> _Smoothness:
        """Work out what the linear system takes from the weights of edges, and store them."""
        sides = list(zip(edges, self._outside, _neighbours(self._around), strict=True))
        laplace = torch.zeros_like(self._field)
        missing = torch.zeros_like(self._field[:, 0])
        for edge, outside, near in sides:
            weight = edge[:, None] if isinstance(edge, torch.Tensor) else edge
            laplace += weight * (near - self._field)
            missing += edge * outside
        if self._solver.robust:
            inside = [edge * (1 - outside) for edge, outside, _ in sides]
            if self._shape.is_tall:  # the order of the neighbours in `Front`
                inside = [*inside[2:], *inside[:2]]
            for plane, edge in zip(self._system.edges, inside, strict=True):
                self._shape.as_frames(plane)[0] = edge
        total = (edges[0] + edges[1]) + (edges[2] + edges[3])
        return _Smoothness(total, laplace, missing)

    def _data(self, update: bool) -> list[torch.Tensor]:
        """Weighted J11, J22, J12, J13, J23, summed over the channels, (T, h, w)."""
        j11, j22, j33, j12, j13, j23 = self._tensors
        solver = self._solver
        factor = solver.weight * solver.starts
        if update:
            du, dv = self._so_far().split(1, dim=1)
            mixed = j13 * du + j23 * dv + j12 * du * dv
            pure = j11 * du * du + j22 * dv * dv + j33
            value = (2 * mixed + pure).clamp(min=0) + EPSILON
            a = solver.exponents
            factor = solver.weight * (a * power(value, a - 1))
        sums = []
        for component in (j11, j22, j12, j13, j23):
            weighted = factor * component
            total = weighted[:, 0]
            for c in range(1, weighted.shape[1]):
                total = total + weighted[:, c]
            sums.append(total)
        return sums

    def _fold(self, update: bool) -> None:
        """Set up the linear system from the present increments."""
        solver, system, smooth = self._solver, self._system, self._smoothness
        j11, j22, j12, j13, j23 = self._data(update)
        # Rounded as OMEGA is: the difference would act like a force that pulls increments to zero.
        kept = 1 - torch.tensor(OMEGA, dtype=j11.dtype).item()
        folded = 1.0
        if not solver.robust:
            folded = solver.ay if self._shape.is_tall else solver.ax
        keep, scale, right, coupling = (
            self._shape.as_frames(planes)
            for planes in (system.keep, system.scale, system.right, system.coupling)
        )
        for c, (own, other) in enumerate(((j11, j13), (j22, j23))):
            factor = OMEGA / (smooth.total + own)
            keep[c] = kept + factor * smooth.missing
            scale[c] = factor * folded
            right[c] = factor * (smooth.laplace[:, c] - other)
            coupling[c] = factor * j12
