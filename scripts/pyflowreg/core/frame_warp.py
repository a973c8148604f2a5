"""Warping a recorded frame and describing its field, each in one pass over the field.

A frame leaves in its own type, without copies of its planes in floating point. Positions, weights
and sums are float64 whatever the types of frame and field.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import DTypeLike, NDArray

from pyflowreg.core.jit import inner_kernel, kernel
from pyflowreg.core.numerics import to_dtype
from pyflowreg.core.threads import for_each

DTYPES = ("uint8", "int8", "uint16", "int16", "float32", "float64")
"""Types that frames and result may have."""

BLOCK = 64
"""Pixels of a row whose positions and weights are found together: they fit the smallest cache."""


@intrinsic
def _sample(typing_context, plane, y, x, a0, a1, a2, a3, b0, b1, b2, b3):
    """Sum of b_j a_k plane[y + j, x + k] for j and k from 0 to 3, one vector per row."""
    real = types.float64
    number = plane.dtype
    vector = ir.VectorType(ir.DoubleType(), 4)
    lane = ir.IntType(32)

    def as_real(builder, value):
        if isinstance(number, types.Integer):
            convert = builder.sitofp if number.signed else builder.uitofp
            return convert(value, vector)
        return value if value.type == vector else builder.fpext(value, vector)

    def generate(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        _, width = cgutils.unpack_tuple(builder, array.shape, 2)
        stored = ir.VectorType(context.get_data_type(number), 4)
        place = builder.add(builder.mul(args[1], width), args[2])
        total = None
        for weight in args[7:11]:
            pointer = builder.bitcast(builder.gep(array.data, [place]), stored.as_pointer())
            row = builder.load(pointer)
            row.align = number.bitwidth // 8
            everywhere = ir.Constant(vector, ir.Undefined)
            everywhere = builder.insert_element(everywhere, weight, lane(0))
            first = ir.Constant(ir.VectorType(lane, 4), [0] * 4)
            everywhere = builder.shuffle_vector(everywhere, everywhere, first)
            term = builder.fmul(as_real(builder, row), everywhere)
            total = term if total is None else builder.fadd(total, term)
            place = builder.add(place, width)
        weights = ir.Constant(vector, ir.Undefined)
        for k, weight in enumerate(args[3:7]):
            weights = builder.insert_element(weights, weight, lane(k))
        total = builder.fmul(total, weights)
        e = [builder.extract_element(total, lane(k)) for k in range(4)]
        return builder.fadd(builder.fadd(e[0], e[1]), builder.fadd(e[2], e[3]))

    return real(plane, types.intp, types.intp, *[real] * 8), generate


@inner_kernel()
def _locate(w, first, y, height, width, place, weights):
    """Cells and Keys' weights of a block of samples; `w` holds u and v in turn.

    `place` holds columns, rows and whether the sample is inside, `weights` those along x and y,
    each as a run of BLOCK numbers.
    """
    for x in range(len(w) // 2):
        px = np.float64(first + x) + np.float64(w[2 * x])
        py = y + np.float64(w[2 * x + 1])
        inside = (px >= 0) & (px <= width - 1) & (py >= 0) & (py <= height - 1)
        px = px if inside else np.float64(0.0)
        py = py if inside else np.float64(0.0)
        column = min(np.int32(px), np.int32(width - 2))
        row = min(np.int32(py), np.int32(height - 2))
        place[x] = column
        place[BLOCK + x] = row
        place[2 * BLOCK + x] = np.int32(inside)
        t = px - column
        weights[x] = ((-0.5 * t + 1.0) * t - 0.5) * t
        weights[BLOCK + x] = (1.5 * t - 2.5) * t * t + 1.0
        weights[2 * BLOCK + x] = ((-1.5 * t + 2.0) * t + 0.5) * t
        weights[3 * BLOCK + x] = (0.5 * t - 0.5) * t * t
        t = py - row
        weights[4 * BLOCK + x] = ((-0.5 * t + 1.0) * t - 0.5) * t
        weights[5 * BLOCK + x] = (1.5 * t - 2.5) * t * t + 1.0
        weights[6 * BLOCK + x] = ((-1.5 * t + 2.0) * t + 0.5) * t
        weights[7 * BLOCK + x] = (0.5 * t - 0.5) * t * t


@inner_kernel()
def _folded(cell, size, w0, w1, w2, w3):
    """First pixel and weights of a sample; see `warp_kernels.cubic_weights` about the border."""
    if cell == 0:
        return 0, w1 + 3.0 * w0, w2 - 3.0 * w0, w3 + w0, 0.0
    if cell == size - 2:
        return size - 4, 0.0, w0 + w3, w1 - 3.0 * w3, w2 + 3.0 * w3
    return cell - 1, w0, w1, w2, w3


@inner_kernel()
def _sampled(plane, place, weights, out):
    """Values of a block of samples; those outside are any number."""
    height, width = plane.shape
    for i in range(len(out)):
        a0, a1, a2, a3 = (
            weights[i],
            weights[BLOCK + i],
            weights[2 * BLOCK + i],
            weights[3 * BLOCK + i],
        )
        b0, b1, b2, b3 = (
            weights[4 * BLOCK + i],
            weights[5 * BLOCK + i],
            weights[6 * BLOCK + i],
            weights[7 * BLOCK + i],
        )
        x = np.intp(place[i])
        y = np.intp(place[BLOCK + i])
        if x > 0 and x < width - 2 and y > 0 and y < height - 2:
            x -= 1
            y -= 1
        else:
            x, a0, a1, a2, a3 = _folded(x, width, a0, a1, a2, a3)
            y, b0, b1, b2, b3 = _folded(y, height, b0, b1, b2, b3)
        out[i] = _sample(plane, y, x, a0, a1, a2, a3, b0, b1, b2, b3)


@inner_kernel()
def _store(values, place, fill, low, high, out):
    """Round halves away from zero and saturate, or keep fractions if low is not below high."""
    if low < high:
        for i in range(len(values)):
            value = min(max(values[i], low), high)
            whole = np.trunc(value)
            part = value - whole
            whole += 1.0 if part >= 0.5 else (-1.0 if part <= -0.5 else 0.0)
            out[i] = np.int32(whole) if place[2 * BLOCK + i] != 0 else fill[i]
    else:
        for i in range(len(values)):
            out[i] = values[i] if place[2 * BLOCK + i] != 0 else fill[i]


@kernel()
def warp_planes(moving, w, fill, low, high, out, valid):
    """Warp planes (C, H, W) by a field, given flat, and tell which samples are inside.

    `fill` and `out` have one type; integers are kept within `low` and `high`. `valid` (H, W) is
    255 where the sample lies in the closed image box, else 0.
    """
    channels, height, width = out.shape
    place = np.empty(3 * BLOCK, np.int32)
    weights = np.empty(8 * BLOCK)
    values = np.empty(BLOCK)
    for y in range(height):
        for first in range(0, width, BLOCK):
            stop = min(first + BLOCK, width)
            count = stop - first
            begin = 2 * (y * width + first)
            _locate(w[begin : begin + 2 * count], first, y, height, width, place, weights)
            for c in range(channels):
                _sampled(moving[c], place, weights, values[:count])
                target = out[c, y, first:stop]
                _store(values[:count], place, fill[c, y, first:stop], low, high, target)
            mask = valid[y, first:stop]
            for i in range(count):
                mask[i] = 255 if place[2 * BLOCK + i] != 0 else 0


@inner_kernel()
def _accumulate(w, sums):
    """Add lengths, u and v of a run of samples to `sums`, and keep the largest length."""
    for i in range(len(w) // 2):
        u = np.float64(w[2 * i])
        v = np.float64(w[2 * i + 1])
        squared = u * u + v * v
        sums[i] += np.sqrt(squared)
        sums[BLOCK + i] += u
        sums[2 * BLOCK + i] += v
        # False for NaN, which the sum of the lengths tells.
        sums[3 * BLOCK + i] = squared if squared > sums[3 * BLOCK + i] else sums[3 * BLOCK + i]


@inner_kernel()
def _sum(values):
    total = 0.0
    for x in range(len(values)):
        total += values[x]
    return total


# Plain loops: sums and maxima of NumPy take seconds to compile.
@kernel()
def _summarise(w, height, width):
    """See `field_statistics`; `w` is flat."""
    sums = np.empty(4 * BLOCK)
    for k in range(4 * BLOCK):
        sums[k] = 0.0
    for begin in range(0, len(w), 2 * BLOCK):
        _accumulate(w[begin : begin + 2 * BLOCK], sums)
    # Sums of derivatives are differences of the borders; Sobel's filter weighs them by 8.
    across = 0.0
    for y in range(height):
        last = 2 * (y + 1) * width - 2
        across += np.float64(w[last]) - np.float64(w[2 * y * width])
    for x in range(width):
        last = 2 * ((height - 1) * width + x) + 1
        across += np.float64(w[last]) - np.float64(w[2 * x + 1])
    count = height * width
    u, v = _sum(sums[BLOCK : 2 * BLOCK]) / count, _sum(sums[2 * BLOCK : 3 * BLOCK]) / count
    largest = 0.0
    for k in range(3 * BLOCK, 4 * BLOCK):
        largest = max(largest, sums[k])
    return (
        _sum(sums[:BLOCK]) / count,
        np.sqrt(largest),
        8.0 * across / count,
        np.sqrt(u * u + v * v),
    )


def field_statistics(w: NDArray[Any]) -> tuple[float, float, float, float]:
    """Summarise a contiguous field; see `motion_correction.statistics.frame_statistics`."""
    height, width, _ = w.shape
    mean_disp, max_disp, mean_div, mean_translation = _summarise(w.reshape(-1), height, width)
    return mean_disp, max_disp, mean_div, mean_translation


def planes(frame: NDArray[Any]) -> NDArray[Any]:
    """Bring a frame (H, W, C) into contiguous planes (C, H, W); no copy if they are already."""
    return np.ascontiguousarray(np.moveaxis(frame, -1, 0))


@dataclass(frozen=True)
class WarpedFrames:
    """Frames after a backward warp.

    Parameters
    ----------
    frames : ndarray
        Shape (T, H, W, C); the planes are contiguous.
    valid : ndarray
        255 where a sample lay inside its frame, uint8, one (H, W) per field.
    statistics : ndarray
        See `field_statistics`; float64, four numbers per field; none of a field for all frames.
    """

    frames: NDArray[Any]
    valid: NDArray[np.uint8]
    statistics: NDArray[np.float64]


def source_type(stored: np.dtype[Any], dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type in which frames of a stored type are sampled so that they become another type.

    Samples are the same as if the frames had that type already.
    """
    exact = stored.name in DTYPES and stored.kind in "iu" and dtype.kind == "f"
    return stored if exact else dtype


def _source(frame: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Planes (C, H, W) of a frame in a type whose samples become `dtype` as if it had that type."""
    return planes(to_dtype(frame, source_type(frame.dtype, dtype)))


def warp_frames(
    frames: NDArray[Any],
    fields: NDArray[Any],
    fill: NDArray[Any],
    dtype: DTypeLike,
    threads: int = 1,
) -> WarpedFrames:
    """Warp frames with cubic interpolation, find their valid masks and describe their fields.

    Parameters
    ----------
    frames : ndarray
        Shape (T, H, W, C), one of `DTYPES`, both sides at least 4 pixels.
    fields : ndarray
        Displacements in pixels, backward map, float32 or float64, (T, H, W, 2) or (H, W, 2) for
        all frames.
    fill : ndarray
        Values of the samples outside the image, shape (H, W, C).
    dtype : dtype-like
        Type of the result, one of `DTYPES`; integers are rounded half away from zero and saturated.
    threads : int
        Frames computed at the same time; the result does not depend on it.

    Returns
    -------
    WarpedFrames
    """
    target = np.dtype(dtype)
    count, height, width, channels = frames.shape
    out = np.empty((count, channels, height, width), target)
    described = fields.ndim == 4
    fields = fields if described else fields[np.newaxis]
    # A field for all frames has one mask; every frame writes the same there.
    valid = np.empty((len(fields), height, width), np.uint8)
    statistics = np.empty((len(fields) if described else 0, 4))
    outside = planes(to_dtype(fill, target))
    integer = target.kind in "iu"
    low, high = (np.iinfo(target).min, np.iinfo(target).max) if integer else (0, 0)

    def one(index: int) -> None:
        own = min(index, len(fields) - 1)
        w = np.ascontiguousarray(fields[own])
        source = _source(frames[index], target)
        bounds = float(low), float(high)
        warp_planes(source, w.reshape(-1), outside, *bounds, out[index], valid[own])
        if described:
            statistics[own] = field_statistics(w)

    for_each(one, count, threads)
    return WarpedFrames(np.moveaxis(out, 1, -1), valid, statistics)
