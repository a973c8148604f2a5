"""Powers of positive numbers by arithmetic alone: fast, and the same on every machine.

The mathematical library's ``pow`` differs between machines in the last bit, which the flow
amplifies, and the compiler cannot use it on several numbers at a time.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from pyflowreg.core.jit import kernel
from pyflowreg.core.simd import VECTOR_BYTES, Kernel, Vector, bit_pattern, vector_code

_LN2 = math.log(2)
_LN2_HIGH = 0.693145751953125  # few digits: its product with a small integer is exact
_LN2_LOW = 1.42860682030941723212e-6
# Terms of the series of log and exp after which nothing changes in the last place.
_TERMS = {23: (5, 8), 52: (12, 14)}


def _polynomial(x: Vector, coefficients: list[float]) -> Vector:
    """Sum of coefficients[k] x^k, in a tree (Estrin): Horner's chain would wait for every step."""
    terms = [x.constant(coefficient) for coefficient in coefficients]
    power_of_x = x
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        last = terms[-1:] if len(terms) % 2 else []
        terms = [high.times_plus(power_of_x, low) for low, high in pairs] + last
        power_of_x = power_of_x * power_of_x
    return terms[0]


def power(kernel: Kernel, x: Vector, exponent: Vector) -> Vector:
    """Write x^exponent, to within a few units in the last place.

    Parameters
    ----------
    kernel : Kernel
        Writes the operations.
    x : Vector
        Positive and normal.
    exponent : Vector
        |exponent log2(x)| must stay below the largest exponent of the type.
    """
    builder = kernel.builder
    mantissa_bits = 23 if kernel.real == ir.FloatType() else 52
    integer = ir.VectorType(ir.IntType(32 if mantissa_bits == 23 else 64), kernel.lanes)
    log_terms, exp_terms = _TERMS[mantissa_bits]

    def whole(number: int) -> Any:
        return ir.Constant(integer, [number] * kernel.lanes)

    def real(bits: Any) -> Vector:
        return Vector(builder, builder.bitcast(bits, kernel.type))

    # Adding 1.5 * 2^mantissa rounds a small number to an integer, held in the low bits.
    magic = 1.5 * 2.0**mantissa_bits
    magic_bits = whole(bit_pattern(kernel, magic))
    # x = m 2^e with m in [sqrt(1/2), sqrt(2)).
    low = whole(bit_pattern(kernel, math.sqrt(0.5)))
    above = builder.sub(builder.bitcast(x.value, integer), low)
    fraction = builder.and_(above, whole((1 << mantissa_bits) - 1))
    m = real(builder.add(fraction, low))
    shifted = builder.add(builder.ashr(above, whole(mantissa_bits)), magic_bits)
    e = real(shifted) - x.constant(magic)
    s = (m - x.constant(1)) / (m + x.constant(1))
    log = s * _polynomial(s * s, [2 / (2 * k + 1) for k in range(log_terms)])
    y = exponent * e.times_plus(x.constant(_LN2), log)
    held = y.times_plus(x.constant(1 / _LN2), x.constant(magic))
    n = held - x.constant(magic)
    r = n.times_plus(x.constant(-_LN2_LOW), n.times_plus(x.constant(-_LN2_HIGH), y))
    exp = _polynomial(r, [1 / math.factorial(k) for k in range(exp_terms)])
    doublings = builder.sub(builder.bitcast(held.value, integer), magic_bits)
    scaled = builder.shl(doublings, whole(mantissa_bits))
    return real(builder.add(builder.bitcast(exp.value, integer), scaled))


@vector_code
def _raise_vector(kernel, values, position, exponent):
    place = kernel.offset(values, position)
    kernel.store(power(kernel, kernel.load(place), kernel.all(exponent)), place)


@kernel()
def raise_to(values, exponent):
    """Replace positive numbers by their powers; their count must be a multiple of `lane_count`."""
    for position in range(0, values.size, VECTOR_BYTES // values.itemsize):
        _raise_vector(values, position, exponent)
