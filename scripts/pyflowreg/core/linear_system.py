"""The linear system of one level between two updates of the robust weights, on vectors.

Everything that is fixed between two updates is folded into a few planes: a sweep has no division.
The layout is that of `strips`. A neighbour outside the frame has the point's own value of the sweep
before.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyflowreg.core.power import power
from pyflowreg.core.simd import Kernel, Variable, Vector, index, one_down, one_up, vector_code
from pyflowreg.core.strips import Border, Neighbours, Records, Strip, along

OMEGA = 1.95
EPSILON = 1e-5

FUSED = 5
"""Sweeps that run together, each one strip behind the one before: they do not wait for each other,
and find the memory in the cache."""

DU, DV = range(2)
"""Planes of the unknowns: the increments."""
SCALE_U, SCALE_V, COUPLING, RIGHT_U, RIGHT_V = range(5)
"""Planes of the linear system: omega / diagonal, j12, right-hand sides. Of no more strips than are
worked on at the same time, in a ring, if nobody needs the others later: they stay in the cache."""
EDGES = 5
"""First of four planes, weights of the edges to the left, right, upper and lower neighbour; only
with a robust smoothness term. The robust weights of these neighbours are put there first."""
SYSTEM_PLANES = {False: 5, True: 9}

LAPLACE_U, LAPLACE_V = range(2)
"""Planes of the data with a quadratic smoothness term: Laplacian of the displacement before."""
U, V, PSI = range(3)
"""Planes of the data with a robust one: displacement before, weights of the smoothness term."""
TENSOR = {False: 2, True: 3}
"""First of six more planes per channel: J11, J22, J33, J12, J13, J23."""


def _edges(psi: Neighbours, x: Vector, y: Vector) -> Neighbours:
    """Weights of the edges around points, from the robust weights of the points."""
    half = x.constant(0.5)
    return Neighbours(
        psi.centre,
        x * (half * (psi.left + psi.centre)),
        x * (half * (psi.right + psi.centre)),
        y * (half * (psi.up + psi.centre)),
        y * (half * (psi.down + psi.centre)),
    )


def _laplacian(edges: Neighbours, n: Neighbours) -> Vector:
    return (
        edges.left * (n.left - n.centre) + edges.right * (n.right - n.centre)
    ) + (edges.up * (n.up - n.centre) + edges.down * (n.down - n.centre))  # fmt: skip


def _tensor_sums(kernel: Kernel, data: Records, place: Any, weights: Records, weight_place: Any,
                 channels: Any, tensor: int, weigh: Any, du: Vector, dv: Vector
                 ) -> list[Vector]:  # fmt: skip
    """Sum over the channels of the weighted J11, J22, J12, J13, J23."""
    sums = [kernel.variable(kernel.number(0)) for _ in range(5)]
    with kernel.loop(index(0), channels) as channel:
        first = kernel.builder.add(kernel.builder.mul(channel, index(6)), index(tensor))
        j = [data.load(place, kernel.builder.add(first, index(c))) for c in range(6)]
        factor = weights.load(weight_place, channel) * weigh(channel, j, du, dv)
        for total, component in zip(sums, (j[0], j[1], j[3], j[4], j[5]), strict=True):
            total.set(factor.times_plus(component, total.get()))
    return [total.get() for total in sums]


def _robust_weight(kernel: Kernel, exponents: Any, epsilon: Any) -> Any:
    """Weights of the data term at the present increments."""
    two, zero, eps = kernel.number(2), kernel.number(0), kernel.number(epsilon)

    def weigh(channel: Any, j: list[Vector], du: Vector, dv: Vector) -> Vector:
        # J11 du^2 + J22 dv^2 + J33 + 2 (J12 du dv + J13 du + J23 dv)
        mixed = j[4].times_plus(du, j[5] * dv) + j[3] * du * dv
        pure = (j[0] * du).times_plus(du, (j[1] * dv).times_plus(dv, j[2]))
        value = mixed.times_plus(two, pure)
        place = kernel.offset(exponents, channel)
        a = kernel.all(kernel.builder.load(place))
        return a * power(kernel, value.at_least(zero) + eps, a - kernel.number(1))

    return weigh


def _first_weight(kernel: Kernel, starts: Any) -> Any:
    """Weights of the data term before the first update."""

    def weigh(channel: Any, j: list[Vector], du: Vector, dv: Vector) -> Vector:
        return kernel.all(kernel.builder.load(kernel.offset(starts, channel)))

    return weigh


@dataclass
class _Fold:
    """Folds all that is fixed between two updates into the planes of the linear system."""

    kernel: Kernel
    data: Records
    unknowns: Records
    system: Records
    weights: Records
    weight_step: Any
    channels: Any
    ax: Vector
    ay: Vector
    robust: bool
    start: bool

    def step(self, place: Any, slot: Any, border: Border | None, weigh: Any) -> None:
        """Write one vector of points: `place` in the level, `slot` in the ring."""
        kernel = self.kernel
        omega, zero = kernel.number(OMEGA), kernel.number(0)
        du, dv = zero, zero
        if not self.start:
            du, dv = self.unknowns.load(place, DU), self.unknowns.load(place, DV)
        weight_place = kernel.builder.mul(place, self.weight_step)
        j11, j22, j12, j13, j23 = _tensor_sums(
            kernel, self.data, place, self.weights, weight_place, self.channels,
            TENSOR[self.robust], weigh, du, dv,
        )  # fmt: skip
        around, laplace_u, laplace_v = self._smoothness(place, slot)
        new = {
            SCALE_U: omega / (around + j11), SCALE_V: omega / (around + j22), COUPLING: j12,
            RIGHT_U: laplace_u - j13, RIGHT_V: laplace_v - j23,
        }  # fmt: skip
        for plane, vector in new.items():
            # The increments outside the frame are zeros; they stay zeros.
            inside = vector.where(border.inside, zero) if border else vector
            self.system.store(inside, slot, plane)

    def _smoothness(self, place: Any, slot: Any) -> tuple[Vector, Vector, Vector]:
        """Sum of the edges' weights, and the weighted Laplacian of the displacement."""
        data, system, x, y = self.data, self.system, self.ax, self.ay
        if not self.robust:
            return (x + x) + (y + y), data.load(place, LAPLACE_U), data.load(place, LAPLACE_V)
        edges = Neighbours(x, x, x, y, y)
        if not self.start:
            psi = (system.load(slot, EDGES + k) for k in range(4))
            edges = _edges(Neighbours(data.load(place, PSI), *psi), x, y)
        for offset, edge in enumerate(edges[1:]):
            system.store(edge, slot, EDGES + offset)
        around = (edges.left + edges.right) + (edges.up + edges.down)
        laplace_u = _laplacian(edges, data.neighbours(place, U))
        return around, laplace_u, _laplacian(edges, data.neighbours(place, V))


def _write_fold(kernel, data, unknowns, system, weights, weight_step, channels, height, width,
                strip, ring, ax, ay, robust, weigh, start):  # fmt: skip
    builder = kernel.builder
    is_robust = robust is not None
    planes = builder.add(builder.mul(channels, index(6)), index(TENSOR[is_robust]))
    whole = Records(kernel, unknowns, index(2), width)
    system_records = Records(kernel, system, index(SYSTEM_PLANES[is_robust]), width)
    fold = _Fold(
        kernel,
        Records(kernel, data, planes, width),
        whole,
        system_records,
        Records(kernel, weights, channels, width),
        weight_step,
        channels,
        kernel.all(ax),
        kernel.all(ay),
        is_robust,
        start,
    )
    line = Strip(whole, height, strip)
    slot = system_records.first(builder.urem(strip, ring))

    def step(position, borders):
        place = builder.add(line.first, position)
        fold.step(place, builder.add(slot, position), borders and borders[0], weigh)

    along(kernel, [line], step)


@vector_code
def start(kernel, data, unknowns, system, weights, weight_step, starts, channels, height, width,
          strip, ring, ax, ay, robust):  # fmt: skip
    """Set up the linear system of a strip before the first sweep."""
    _write_fold(kernel, data, unknowns, system, weights, weight_step, channels, height, width,
                strip, ring, ax, ay, robust, _first_weight(kernel, starts), start=True)  # fmt: skip


@vector_code
def fold(kernel, data, unknowns, system, weights, weight_step, exponents, channels, height, width,
         strip, ring, ax, ay, robust):  # fmt: skip
    """Update the linear system of a strip."""
    weigh = _robust_weight(kernel, exponents, EPSILON)
    _write_fold(kernel, data, unknowns, system, weights, weight_step, channels, height, width,
                strip, ring, ax, ay, robust, weigh, start=False)  # fmt: skip


@dataclass
class _Chain:
    """One sweep along one strip: where its linear system is, and what it keeps in registers."""

    strip: Strip
    slot: Any
    left: tuple[Variable, Variable]
    own: tuple[Variable, Variable]


def _chain(unknowns: Records, system: Records, height: Any, number: Any, ring: Any) -> _Chain:
    kernel = unknowns.kernel
    strip = Strip(unknowns, height, number)
    zero = kernel.number(0)
    return _Chain(
        strip,
        system.first(kernel.builder.urem(number, ring)),
        (kernel.variable(zero), kernel.variable(zero)),
        (
            kernel.variable(unknowns.load(strip.first, DU)),
            kernel.variable(unknowns.load(strip.first, DV)),
        ),
    )


def _write_sweep_step(unknowns: Records, system: Records, chain: _Chain, position: Any,
                      border: Border | None, edges: Neighbours | None) -> None:  # fmt: skip
    kernel = unknowns.kernel
    place = kernel.builder.add(chain.strip.first, position)
    slot = kernel.builder.add(chain.slot, position)
    if edges is None:
        edges = Neighbours(kernel.number(0), *(system.load(slot, EDGES + k) for k in range(4)))
    # Rounded as OMEGA is: the difference would act like a force that pulls increments to zero.
    keep = kernel.number(1) - kernel.number(OMEGA)
    coupling = system.load(slot, COUPLING)
    other = chain.own[1].get()
    for component, left, own in zip((DU, DV), chain.left, chain.own, strict=True):
        before, after = left.get(), unknowns.load(place, component, 1)
        n = Neighbours(
            own.get(),
            before,
            after,
            one_down(unknowns.above(place, component), before),
            one_up(after, unknowns.below(place, component)),
        )
        if border is not None:
            n = border.replace(n, n.centre)
        # What is new comes last: the operations on it are what the next step waits for.
        rest = edges.right.times_plus(n.right, system.load(slot, RIGHT_U + component))
        rest = edges.down.times_plus(n.down, rest) - coupling * other
        sum_ = edges.left.times_plus(n.left, edges.up.times_plus(n.up, rest))
        new = system.load(slot, SCALE_U + component).times_plus(sum_, keep * n.centre)
        unknowns.store(new, place, component)
        left.set(new)
        own.set(after)
        other = new


@vector_code
def sweep(kernel, unknowns, system, height, width, strip, chains, ring, ax, ay, robust):
    """Sweep along `strip`, and with the sweeps after that along the strips above it."""
    builder = kernel.builder
    whole = Records(kernel, unknowns, index(2), width)
    coefficients = Records(kernel, system, index(SYSTEM_PLANES[robust is not None]), width)
    x, y = kernel.all(ax), kernel.all(ay)
    constant = None if robust is not None else Neighbours(x, x, x, y, y)
    for count in range(1, FUSED + 1):
        with builder.if_then(builder.icmp_signed("==", chains, index(count))):
            fused = [
                _chain(whole, coefficients, height, builder.sub(strip, index(k)), ring)
                for k in range(count)
            ]

            def step(position, borders, fused=fused):
                for k, chain in enumerate(fused):
                    border = borders[k] if borders else None
                    _write_sweep_step(whole, coefficients, chain, position, border, constant)

            along(kernel, [chain.strip for chain in fused], step)
