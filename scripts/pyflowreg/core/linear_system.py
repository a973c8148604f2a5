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

FUSED = 3
"""Sweeps that run together, each one strip behind the one before: they do not wait for each other,
and find the memory in the cache."""

DU, DV, SCALE_U, SCALE_V, COUPLING, RIGHT_U, RIGHT_V = range(7)
"""Planes of the linear system: increments, omega / diagonal, j12, right-hand sides."""
EDGES = 7
"""First of four planes, weights of the edges to the left, right, upper and lower neighbour; only
with a robust smoothness term. The robust weights of these neighbours are put there first."""
SYSTEM_PLANES = {False: 7, True: 11}

U, V, LAPLACE_U, LAPLACE_V = range(4)
"""Planes of the data: displacement before, and its Laplacian if that does not change."""
PSI = LAPLACE_U
"""Plane of the robust smoothness weights, if the Laplacian does change."""
TENSOR = 4
"""First of six planes per channel: J11, J22, J33, J12, J13, J23."""


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


@vector_code
def laplacians(kernel, data, planes, height, width, strip, ax, ay):
    """Laplacian of the displacement, with constant weights."""
    records = Records(kernel, data, planes, width)
    whole = Strip(records, height, strip)
    x, y = kernel.all(ax), kernel.all(ay)
    edges = Neighbours(x, x, x, y, y)

    def step(position, borders):
        place = kernel.builder.add(whole.first, position)
        for plane, result in ((U, LAPLACE_U), (V, LAPLACE_V)):
            records.store(_laplacian(edges, records.neighbours(place, plane)), place, result)

    along(kernel, [whole], step)


def _tensor_sums(kernel: Kernel, data: Records, place: Any, weights: Records, weight_place: Any,
                 channels: Any, weigh: Any, du: Vector, dv: Vector) -> list[Vector]:  # fmt: skip
    """Sum over the channels of the weighted J11, J22, J12, J13, J23."""
    sums = [kernel.variable(kernel.number(0)) for _ in range(5)]
    with kernel.loop(index(0), channels) as channel:
        first = kernel.builder.add(kernel.builder.mul(channel, index(6)), index(TENSOR))
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
    system: Records
    weights: Records
    weight_step: Any
    channels: Any
    ax: Vector
    ay: Vector
    robust: bool
    start: bool

    def step(self, place: Any, border: Border | None, weigh: Any) -> None:
        """Write one vector of points."""
        kernel, system = self.kernel, self.system
        omega, zero = kernel.number(OMEGA), kernel.number(0)
        du, dv = zero, zero
        if not self.start:
            du, dv = system.load(place, DU), system.load(place, DV)
        weight_place = kernel.builder.mul(place, self.weight_step)
        j11, j22, j12, j13, j23 = _tensor_sums(
            kernel, self.data, place, self.weights, weight_place, self.channels, weigh, du, dv
        )
        around, laplace_u, laplace_v = self._smoothness(place)
        new = {
            SCALE_U: omega / (around + j11), SCALE_V: omega / (around + j22), COUPLING: j12,
            RIGHT_U: laplace_u - j13, RIGHT_V: laplace_v - j23,
        }  # fmt: skip
        if self.start:
            new |= {DU: zero, DV: zero}
        for plane, vector in new.items():
            # Zeros outside the frame stay zeros.
            inside = vector.where(border.inside, zero) if border else vector
            system.store(inside, place, plane)

    def _smoothness(self, place: Any) -> tuple[Vector, Vector, Vector]:
        """Sum of the edges' weights, and the weighted Laplacian of the displacement."""
        data, system, x, y = self.data, self.system, self.ax, self.ay
        if not self.robust:
            return (x + x) + (y + y), data.load(place, LAPLACE_U), data.load(place, LAPLACE_V)
        edges = Neighbours(x, x, x, y, y)
        if not self.start:
            psi = (system.load(place, EDGES + k) for k in range(4))
            edges = _edges(Neighbours(data.load(place, PSI), *psi), x, y)
        for offset, edge in enumerate(edges[1:]):
            system.store(edge, place, EDGES + offset)
        around = (edges.left + edges.right) + (edges.up + edges.down)
        laplace_u = _laplacian(edges, data.neighbours(place, U))
        return around, laplace_u, _laplacian(edges, data.neighbours(place, V))


def _write_fold(kernel, data, system, weights, weight_step, channels, height, width, strip, ax, ay,
                robust, weigh, start):  # fmt: skip
    planes = kernel.builder.add(kernel.builder.mul(channels, index(6)), index(TENSOR))
    whole = Records(kernel, system, index(SYSTEM_PLANES[robust is not None]), width)
    fold = _Fold(
        kernel,
        Records(kernel, data, planes, width),
        whole,
        Records(kernel, weights, channels, width),
        weight_step,
        channels,
        kernel.all(ax),
        kernel.all(ay),
        robust is not None,
        start,
    )
    line = Strip(whole, height, strip)

    def step(position, borders):
        place = kernel.builder.add(line.first, position)
        fold.step(place, borders and borders[0], weigh)

    along(kernel, [line], step)


@vector_code
def start(kernel, data, system, weights, weight_step, starts, channels, height, width, strip,
          ax, ay, robust):  # fmt: skip
    """Set up the linear system before the first sweep."""
    _write_fold(kernel, data, system, weights, weight_step, channels, height, width, strip, ax, ay,
                robust, _first_weight(kernel, starts), start=True)  # fmt: skip


@vector_code
def fold(kernel, data, system, weights, weight_step, exponents, channels, height, width, strip,
         ax, ay, robust):  # fmt: skip
    """Update the linear system."""
    _write_fold(kernel, data, system, weights, weight_step, channels, height, width, strip, ax, ay,
                robust, _robust_weight(kernel, exponents, EPSILON), start=False)  # fmt: skip


@dataclass
class _Chain:
    """One sweep along one strip: what it keeps in registers."""

    strip: Strip
    left: tuple[Variable, Variable]
    own: tuple[Variable, Variable]


def _chain(kernel: Kernel, records: Records, height: Any, number: Any) -> _Chain:
    strip = Strip(records, height, number)
    zero = kernel.number(0)
    return _Chain(
        strip,
        (kernel.variable(zero), kernel.variable(zero)),
        (
            kernel.variable(records.load(strip.first, DU)),
            kernel.variable(records.load(strip.first, DV)),
        ),
    )


def _write_sweep_step(kernel: Kernel, records: Records, chain: _Chain, position: Any,
                      border: Border | None, edges: Neighbours | None) -> None:  # fmt: skip
    place = kernel.builder.add(chain.strip.first, position)
    if edges is None:
        edges = Neighbours(kernel.number(0), *(records.load(place, EDGES + k) for k in range(4)))
    # Rounded as OMEGA is: the difference would act like a force that pulls increments to zero.
    keep = kernel.number(1) - kernel.number(OMEGA)
    coupling = records.load(place, COUPLING)
    other = chain.own[1].get()
    for component, left, own in zip((DU, DV), chain.left, chain.own, strict=True):
        before, after = left.get(), records.load(place, component, 1)
        n = Neighbours(
            own.get(),
            before,
            after,
            one_down(records.above(place, component), before),
            one_up(after, records.below(place, component)),
        )
        if border is not None:
            n = border.replace(n, n.centre)
        # What is new comes last: the operations on it are what the next step waits for.
        rest = edges.right.times_plus(n.right, records.load(place, RIGHT_U + component))
        rest = edges.down.times_plus(n.down, rest) - coupling * other
        sum_ = edges.left.times_plus(n.left, edges.up.times_plus(n.up, rest))
        new = records.load(place, SCALE_U + component).times_plus(sum_, keep * n.centre)
        records.store(new, place, component)
        left.set(new)
        own.set(after)
        other = new


@vector_code
def sweep(kernel, system, height, width, strip, chains, ax, ay, robust):
    """Sweep along `strip`, and with the sweeps after that along the strips above it."""
    builder = kernel.builder
    planes = index(SYSTEM_PLANES[robust is not None])
    records = Records(kernel, system, planes, width)
    x, y = kernel.all(ax), kernel.all(ay)
    constant = None if robust is not None else Neighbours(x, x, x, y, y)
    for count in range(1, FUSED + 1):
        with builder.if_then(builder.icmp_signed("==", chains, index(count))):
            fused = [
                _chain(kernel, records, height, builder.sub(strip, index(k))) for k in range(count)
            ]

            def step(position, borders, fused=fused):
                for k, chain in enumerate(fused):
                    border = borders[k] if borders else None
                    _write_sweep_step(kernel, records, chain, position, border, constant)

            along(kernel, [chain.strip for chain in fused], step)
