"""Vectors of numbers as variables of compiled kernels.

Where the compiler does not vectorise a plain loop (many arrays that might overlap, results that
stay in registers through an inner loop), the loop is written on vectors. The compiler breaks a
vector down to what the machine has, so that a vector longer than a register is a block of
registers. Every operation rounds as the plain one does, the same on every machine; except that
`times_plus` does not round the product where the machine can add to it unrounded.

Positions count numbers from the beginning of a contiguous array of any dimension.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

REGISTER = 64
"""Bytes of the widest vector register there is; on others, a vector takes several."""

BLOCK = 4
"""Registers of a block. It hides the latency of additions, which depend on each other."""


class Vector(types.Type):
    """Type of a vector.

    Parameters
    ----------
    real : numba type
        Type of the numbers.
    lanes : int
        How many there are.
    """

    def __init__(self, real: Any, lanes: int) -> None:
        self.real = real
        self.lanes = lanes
        super().__init__(name=f"vector({real}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Any) -> None:
        real = manager.lookup(vector.real).get_value_type()
        super().__init__(manager, vector, ir.VectorType(real, vector.lanes))


def _is_array(array: Any) -> bool:
    return isinstance(array, types.Array) and array.layout == "C"


def _address(
    context: Any, builder: Any, array_type: Any, array: Any, position: Any, vector: Any
) -> Any:
    """Where the vector at a position of an array begins."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [position]), vector.as_pointer())


def _converted(builder: Any, value: Any, given: Any, wanted: Any, vector: Any) -> Any:
    """Bring numbers from one floating-point type to another."""
    if given == wanted:
        return value
    convert = builder.fpext if given.bitwidth < wanted.bitwidth else builder.fptrunc
    return convert(value, vector)


def _define_operator(function: Any, instruction: str) -> None:
    @infer_global(function)
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(function, Vector, Vector)
    def lower(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


_define_operator(operator.add, "fadd")
_define_operator(operator.sub, "fsub")
_define_operator(operator.mul, "fmul")
_define_operator(operator.truediv, "fdiv")


def _zeros(lanes_of: Any) -> Any:
    @intrinsic
    def zeros(typing_context, array):
        """Zeros of an array's type."""
        vector = Vector(array.dtype, lanes_of(array.dtype))

        def generate(context, builder, sig, args):
            return ir.Constant(context.get_value_type(vector), [0.0] * vector.lanes)

        return vector(array), generate

    return zeros


zeros_one = _zeros(lambda real: 1)
zeros_four = _zeros(lambda real: 4)
zeros_eight = _zeros(lambda real: 8)
zeros_register = _zeros(lambda real: REGISTER // (real.bitwidth // 8))
zeros_block = _zeros(lambda real: BLOCK * REGISTER // (real.bitwidth // 8))


@intrinsic
def lanes(typing_context, vector):
    """How many numbers a vector has."""

    def generate(context, builder, sig, args):
        return context.get_constant(types.intp, vector.lanes)

    return types.intp(vector), generate


@intrinsic
def splat(typing_context, like, number):
    """The same number in all lanes of a vector as `like`."""
    if number != like.real:
        return None

    def generate(context, builder, sig, args):
        undefined = ir.Constant(context.get_value_type(like), ir.Undefined)
        first = builder.insert_element(undefined, args[1], ir.Constant(ir.IntType(32), 0))
        order = ir.Constant(ir.VectorType(ir.IntType(32), like.lanes), [0] * like.lanes)
        return builder.shuffle_vector(first, undefined, order)

    return like(like, number), generate


@intrinsic
def element(typing_context, array, position):
    """One number; the position is not taken for one from the end if it is negative."""
    if not _is_array(array):
        return None

    def generate(context, builder, sig, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), generate


@intrinsic
def convert(typing_context, like, vector):
    """Bring the numbers of a vector to the type of `like`, which has as many."""
    if like.lanes != vector.lanes:
        return None

    def generate(context, builder, sig, args):
        kind = context.get_value_type(like)
        return _converted(builder, args[1], vector.real, like.real, kind)

    return like(like, vector), generate


@intrinsic
def load(typing_context, like, array, position):
    """Read as many numbers as `like` has, and bring them to its type."""
    if not _is_array(array):
        return None

    def generate(context, builder, sig, args):
        stored = ir.VectorType(context.get_value_type(array.dtype), like.lanes)
        _, source, place = args
        loaded = builder.load(_address(context, builder, array, source, place, stored))
        loaded.align = array.dtype.bitwidth // 8
        kind = context.get_value_type(like)
        return _converted(builder, loaded, array.dtype, like.real, kind)

    return like(like, array, types.intp), generate


@intrinsic
def store(typing_context, array, position, vector):
    """Write a vector."""
    if not _is_array(array) or array.dtype != vector.real:
        return None

    def generate(context, builder, sig, args):
        target, place, value = args
        written = builder.store(value, _address(context, builder, array, target, place, value.type))
        written.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


def _choose(comparison: str) -> Any:
    @intrinsic
    def choose(typing_context, a, b):
        """The smaller, or the larger, of two numbers, lane by lane."""

        def generate(context, builder, sig, args):
            return builder.select(builder.fcmp_ordered(comparison, *args), *args)

        return a(a, b) if a == b else None, generate

    return choose


smaller = _choose("<")
larger = _choose(">")


def _apply(name: str) -> Any:
    @intrinsic
    def function(typing_context, vector):
        """Compute a function that rounds correctly, lane by lane."""

        def generate(context, builder, sig, args):
            kind = args[0].type
            full_name = f"llvm.{name}.v{kind.count}{kind.element.intrinsic_name}"
            function_type = ir.FunctionType(kind, [kind])
            called = cgutils.get_or_insert_function(builder.module, function_type, full_name)
            return builder.call(called, args)

        return vector(vector), generate

    return function


@intrinsic
def times_plus(typing_context, a, b, c):
    """Compute a * b + c, rounded once wherever the machine can."""
    if not isinstance(a, Vector) or not a == b == c:
        return None

    def generate(context, builder, sig, args):
        kind = args[0].type
        name = f"llvm.fmuladd.v{kind.count}{kind.element.intrinsic_name}"
        function_type = ir.FunctionType(kind, [kind] * 3)
        called = cgutils.get_or_insert_function(builder.module, function_type, name)
        return builder.call(called, args)

    return a(a, b, c), generate


square_root = _apply("sqrt")
whole_part = _apply("trunc")


@intrinsic
def store_transposed(typing_context, array, position, stride, a, b, c, d, e, f, g, h):
    """Write a square of eight vectors of eight: lane k of all of them, in order, is row k.

    Rows begin `stride` numbers apart.
    """
    rows = (a, b, c, d, e, f, g, h)
    if not _is_array(array) or any(row != Vector(array.dtype, 8) for row in rows):
        return None

    def generate(context, builder, sig, args):
        target, place, step, *values = args
        order = ir.VectorType(ir.IntType(32), 8)
        low = ir.Constant(order, [k // 2 + k % 2 * 8 for k in range(8)])
        high = ir.Constant(order, [k // 2 + k % 2 * 8 + 4 for k in range(8)])
        for _ in range(3):  # a perfect shuffle of all lanes, log2(8) times
            values = [
                builder.shuffle_vector(values[k], values[k + 4], mask)
                for k in range(4)
                for mask in (low, high)
            ]
        for value in values:
            address = _address(context, builder, array, target, place, value.type)
            builder.store(value, address).align = array.dtype.bitwidth // 8
            place = builder.add(place, step)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, *rows), generate


@intrinsic
def transposed(typing_context, a, b, c, d):
    """Exchange lanes and vectors of four vectors of four numbers."""
    if a.lanes != 4 or not a == b == c == d:
        return None
    square = types.UniTuple(a, 4)

    def generate(context, builder, sig, args):
        order = ir.VectorType(ir.IntType(32), 4)
        low, high = (ir.Constant(order, [k, k + 4, k + 1, k + 5]) for k in (0, 2))
        for _ in range(2):  # a perfect shuffle of all lanes, log2(4) times
            args = [
                builder.shuffle_vector(args[k], args[k + 2], mask)
                for k in range(2)
                for mask in (low, high)
            ]
        return context.make_tuple(builder, square, args)

    return square(a, b, c, d), generate


def exchange_network(pairs: tuple[tuple[int, int], ...]) -> Any:
    """Make a function of a tuple of vectors that puts pairs of places in order, lane by lane.

    Parameters
    ----------
    pairs : tuple of pairs of int
        The smaller of the two numbers goes to the first place of the tuple.

    Returns
    -------
    intrinsic
        Returns a tuple of as many. What is not used of them is not computed.
    """

    @intrinsic
    def network(typing_context, vectors):
        if not isinstance(vectors, types.UniTuple):
            return None

        def generate(context, builder, sig, args):
            values = cgutils.unpack_tuple(builder, args[0])
            for i, k in pairs:
                a, b = values[i], values[k]
                values[i] = builder.select(builder.fcmp_ordered("<", a, b), a, b)
                values[k] = builder.select(builder.fcmp_ordered(">", a, b), a, b)
            return context.make_tuple(builder, vectors, values)

        return vectors(vectors), generate

    return network
