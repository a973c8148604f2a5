"""Powers of positive numbers by arithmetic alone: fast, and the same on every machine.

The mathematical library's ``pow`` differs between machines in the last bit, which the flow
amplifies, and the compiler cannot use it on several numbers at a time.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pyflowreg.core.jit import inline_kernel

_MANTISSA_BITS = {types.float32: 23, types.float64: 52}
_LOG = tuple(2 / (2 * k + 1) for k in range(12))
_EXP = tuple(1 / math.factorial(k) for k in range(14))
_LN2 = math.log(2)
_LN2_HIGH = 0.693145751953125  # few digits: its product with a small integer is exact
_LN2_LOW = 1.42860682030941723212e-6


def _bits(real: Any, value: float) -> int:
    return int(np.array(value, str(real)).view(f"int{real.bitwidth}"))


def _magic(real: Any) -> float:
    """1.5 * 2^mantissa: adding it rounds a small number to an integer, held in the low bits."""
    return 1.5 * 2.0 ** _MANTISSA_BITS[real]


@intrinsic
def _split(typing_context, x):
    """Return m in [sqrt(1/2), sqrt(2)) and the whole number e, as a float, with x = m 2^e."""
    if x not in _MANTISSA_BITS:
        return None

    def generate(context, builder, signature, arguments):
        number = ir.IntType(x.bitwidth)
        real = context.get_value_type(x)
        shift = ir.Constant(number, _MANTISSA_BITS[x])
        low = ir.Constant(number, _bits(x, math.sqrt(0.5)))
        mask = ir.Constant(number, (1 << _MANTISSA_BITS[x]) - 1)
        above = builder.sub(builder.bitcast(arguments[0], number), low)
        mantissa = builder.bitcast(builder.add(builder.and_(above, mask), low), real)
        magic = ir.Constant(number, _bits(x, _magic(x)))
        shifted = builder.add(builder.ashr(above, shift), magic)
        exponent = builder.fsub(builder.bitcast(shifted, real), ir.Constant(real, _magic(x)))
        return context.make_tuple(builder, signature.return_type, (mantissa, exponent))

    return types.UniTuple(x, 2)(x), generate


@intrinsic
def _round(typing_context, x):
    """Return the whole number nearest to a small x, as a float."""
    if x not in _MANTISSA_BITS:
        return None

    def generate(context, builder, signature, arguments):
        magic = ir.Constant(context.get_value_type(x), _magic(x))
        return builder.fsub(builder.fadd(arguments[0], magic), magic)

    return x(x), generate


@intrinsic
def _scale(typing_context, x, n):
    """Return x 2^n for a whole number n, given as a float."""
    if x not in _MANTISSA_BITS or n is not x:
        return None

    def generate(context, builder, signature, arguments):
        number = ir.IntType(x.bitwidth)
        real = context.get_value_type(x)
        held = builder.fadd(arguments[1], ir.Constant(real, _magic(x)))
        power = builder.sub(builder.bitcast(held, number), ir.Constant(number, _bits(x, _magic(x))))
        shifted = builder.shl(power, ir.Constant(number, _MANTISSA_BITS[x]))
        return builder.bitcast(builder.add(builder.bitcast(arguments[0], number), shifted), real)

    return x(x, x), generate


@inline_kernel()
def power(x, p, real):
    """Compute x^p to within a few units in the last place.

    Parameters
    ----------
    x : float32 or float64
        Positive and normal.
    p : same type
        Exponent; |p log2(x)| must stay below the largest exponent of the type.
    real : type
        `x.dtype.type` of the array `x` comes from.
    """
    mantissa, exponent = _split(x)
    s = (mantissa - real(1)) / (mantissa + real(1))
    z = s * s
    log = real(_LOG[11])
    log = log * z + real(_LOG[10])
    log = log * z + real(_LOG[9])
    log = log * z + real(_LOG[8])
    log = log * z + real(_LOG[7])
    log = log * z + real(_LOG[6])
    log = log * z + real(_LOG[5])
    log = log * z + real(_LOG[4])
    log = log * z + real(_LOG[3])
    log = log * z + real(_LOG[2])
    log = log * z + real(_LOG[1])
    log = log * z + real(_LOG[0])
    y = p * (s * log + exponent * real(_LN2))
    n = _round(y * real(1 / _LN2))
    r = (y - n * real(_LN2_HIGH)) - n * real(_LN2_LOW)
    exp = real(_EXP[13])
    exp = exp * r + real(_EXP[12])
    exp = exp * r + real(_EXP[11])
    exp = exp * r + real(_EXP[10])
    exp = exp * r + real(_EXP[9])
    exp = exp * r + real(_EXP[8])
    exp = exp * r + real(_EXP[7])
    exp = exp * r + real(_EXP[6])
    exp = exp * r + real(_EXP[5])
    exp = exp * r + real(_EXP[4])
    exp = exp * r + real(_EXP[3])
    exp = exp * r + real(_EXP[2])
    exp = exp * r + real(_EXP[1])
    exp = exp * r + real(_EXP[0])
    return _scale(exp, n)
