"""Explicit vectors for compiled kernels.

The compiler vectorises plain loops only when nothing depends on the step before; the solver's
sweeps do. Here a kernel is written on vectors of 64 bytes; the compiler breaks them down to
whatever the machine has. Nothing is reassociated, and only `Vector.times_plus` is contracted: all
machines that multiply and add in one step give the same bits, older ones the same to rounding.

`vectors` has vectors as variables of ordinary compiled functions; here, code is written by Python
functions that know what they write: with masks or without, for so many strips at a time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

VECTOR_BYTES = 64
"""Size of a vector: 16 numbers in single precision, 8 in double. It has no influence on results."""

INDEX = ir.IntType(64)
_LANE = ir.IntType(32)


def lane_count(dtype: np.dtype[Any]) -> int:
    """Numbers in a vector."""
    return VECTOR_BYTES // dtype.itemsize


def index(value: int) -> ir.Constant:
    """Make a constant position."""
    return ir.Constant(INDEX, value)


@dataclass(frozen=True)
class Vector:
    """Floating-point numbers in a kernel that is being written.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Where the operations are written to.
    value : llvmlite.ir.Value
        Of a vector type.
    """

    builder: Any
    value: Any

    @property
    def lanes(self) -> int:
        """How many numbers there are."""
        count: int = self.value.type.count
        return count

    def __add__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fsub(self.value, other.value))

    def __mul__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fmul(self.value, other.value))

    def __truediv__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fdiv(self.value, other.value))

    def times_plus(self, factor: Vector, term: Vector) -> Vector:
        """Compute self * factor + term, rounded once wherever the machine can."""
        operands = [self.value, factor.value, term.value]
        kind = self.value.type
        name = f"llvm.fmuladd.v{self.lanes}f{64 if kind.element == ir.DoubleType() else 32}"
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(kind, [kind] * 3), name
        )
        return Vector(self.builder, self.builder.call(function, operands))

    def where(self, mask: Any, other: Vector) -> Vector:
        """This vector where the mask is set, else the other."""
        return Vector(self.builder, self.builder.select(mask, self.value, other.value))

    def at_least(self, other: Vector) -> Vector:
        """The larger of the two, lane by lane."""
        return self.where(self.builder.fcmp_ordered(">", self.value, other.value), other)

    def shuffled(self, other: Vector, lanes: Sequence[int]) -> Vector:
        """Lanes of this vector (0 to lanes - 1) and of the other (from there on), as listed."""
        order = ir.Constant(ir.VectorType(_LANE, self.lanes), list(lanes))
        return Vector(self.builder, self.builder.shuffle_vector(self.value, other.value, order))

    def constant(self, number: float) -> Vector:
        """The same number in all lanes."""
        return Vector(self.builder, ir.Constant(self.value.type, [number] * self.lanes))


def one_down(first: Vector, rest: Vector) -> Vector:
    """The last lane of `first`, then all but the last of `rest`."""
    return first.shuffled(rest, [first.lanes - 1 + lane for lane in range(first.lanes)])


def one_up(rest: Vector, last: Vector) -> Vector:
    """All but the first lane of `rest`, then the first of `last`."""
    return rest.shuffled(last, [1 + lane for lane in range(rest.lanes)])


def transposed(rows: list[Vector]) -> list[Vector]:
    """Exchange lanes and vectors of a square of numbers."""
    lanes = rows[0].lanes
    half = lanes // 2
    low = [lane // 2 + lane % 2 * lanes for lane in range(lanes)]
    high = [half + lane for lane in low]
    # A perfect shuffle of the vectors' lanes, as often as their number is a power of two.
    for _ in range(lanes.bit_length() - 1):
        pairs = [(rows[k], rows[k + half]) for k in range(half)]
        rows = [a.shuffled(b, order) for a, b in pairs for order in (low, high)]
    return rows


class Kernel:
    """What a kernel is written with: constants, loops, masks.

    Parameters
    ----------
    context, builder
        Of numba and llvmlite, as given to an intrinsic.
    real : numba.types.Float
        Type of all numbers.
    """

    def __init__(self, context: Any, builder: Any, real: Any) -> None:
        self.context = context
        self.builder = builder
        self.real = context.get_value_type(real)
        self._alignment = real.bitwidth // 8
        self.lanes = VECTOR_BYTES // self._alignment
        self.type = ir.VectorType(self.real, self.lanes)
        self.lane_numbers = ir.Constant(ir.VectorType(_LANE, self.lanes), list(range(self.lanes)))

    def splat(self, value: Any) -> Any:
        """The same scalar in all lanes, as a plain vector value."""
        vector = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(vector, value, ir.Constant(_LANE, 0))
        order = ir.Constant(ir.VectorType(_LANE, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, vector, order)

    def all(self, value: Any) -> Vector:
        """The same number, a scalar value, in all lanes."""
        return Vector(self.builder, self.splat(value))

    def number(self, value: float) -> Vector:
        """The same number, known now, in all lanes."""
        return Vector(self.builder, ir.Constant(self.type, [value] * self.lanes))

    def load(self, pointer: Any) -> Vector:
        """Read a vector."""
        value = self.builder.load(self.builder.bitcast(pointer, self.type.as_pointer()))
        value.align = self._alignment
        return Vector(self.builder, value)

    def store(self, vector: Vector, pointer: Any) -> None:
        """Write a vector."""
        written = self.builder.store(
            vector.value, self.builder.bitcast(pointer, self.type.as_pointer())
        )
        written.align = self._alignment

    def offset(self, pointer: Any, elements: Any) -> Any:
        """Address so many numbers further on."""
        return self.builder.gep(pointer, [elements])

    def variable(self, vector: Vector) -> Variable:
        """A vector that changes from step to step."""
        place = cgutils.alloca_once_value(self.builder, vector.value)
        return Variable(self.builder, place)

    @contextmanager
    def loop(self, start: Any, stop: Any, step: int = 1) -> Iterator[Any]:
        """Write what follows into a loop; yields the position."""
        with cgutils.for_range_slice(self.builder, start, stop, index(step), INDEX) as (
            position,
            _,
        ):
            yield position

    def smaller(self, a: Any, b: Any) -> Any:
        """The smaller of two positions."""
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def larger(self, a: Any, b: Any) -> Any:
        """The larger of two positions."""
        return self.builder.select(self.builder.icmp_signed(">", a, b), a, b)

    def lanes_equal(self, lanes: Any, number: Any) -> Any:
        """Mask of the lanes in which an integer vector equals a position."""
        return self.builder.icmp_signed("==", lanes, self.lane_splat(number))

    def lane_splat(self, number: Any) -> Any:
        """A position in all lanes, as an integer vector."""
        return self.splat(self.builder.trunc(number, _LANE))


@dataclass(frozen=True)
class Variable:
    """A vector kept from one step of a loop to the next."""

    builder: Any
    place: Any

    def get(self) -> Vector:
        """Its present value."""
        return Vector(self.builder, self.builder.load(self.place))

    def set(self, vector: Vector) -> None:
        """Give it another value."""
        self.builder.store(vector.value, self.place)


def vector_code(function: Callable[..., None]) -> Any:
    """Make a function callable from compiled code out of one that writes its vector operations.

    Parameters
    ----------
    function : callable
        Called as ``function(kernel, *values)`` with one value per argument: of an array the address
        of its first number, of None nothing else than None. The first argument must be an array of
        the numbers that the kernel works on.
    """

    def code(typing_context, *arguments):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            kernel = Kernel(context, builder, signature.args[0].dtype)
            pairs = zip(signature.args, values, strict=True)
            function(kernel, *(_usable(context, builder, kind, value) for kind, value in pairs))
            return context.get_dummy_value()

        return types.void(*arguments), generate

    # numba looks for the number of arguments.
    parameters = list(inspect.signature(function).parameters.values())
    code.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    code.__name__ = function.__name__
    return intrinsic(code)


def _usable(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.NoneType):
        return None
    if isinstance(kind, types.Array):
        return context.make_array(kind)(context, builder, value).data
    return value


def bit_pattern(kernel: Kernel, number: float) -> int:
    """The bits of a number of the kernel's type, as an integer."""
    single = kernel.real == ir.FloatType()
    real, integer = (np.float32, np.int32) if single else (np.float64, np.int64)
    return int(np.array(number, real).view(integer))
