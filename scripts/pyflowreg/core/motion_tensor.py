"""Motion tensors of the three data terms.

Gradient constancy, normalised (Zimmer, Bruhn and Weickert, IJCV 2011; Brox et al., ECCV 2004),
brightness constancy (Horn and Schunck 1981) and the smoothed census transform (Hafner, Demetz and
Weickert, SSVM 2013).
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.jit import inline_kernel, inner_kernel, kernel
from pyflowreg.core.vectors import (
    lanes,
    load,
    splat,
    square_root,
    store,
    times_plus,
    zeros_one,
    zeros_register,
)

COMPONENTS = 6
"""Order of the tensor components: J11, J22, J33, J12, J13, J23."""

CENSUS_EPSILON = 0.1 / 255
"""Width of the smoothed step of the census transform, for images scaled to [0, 1]."""

ALIASES = {
    "gc": "gc", "gradient": "gc",
    "gray": "gray", "brightness": "gray",
    "cs": "cs", "census": "cs",
}  # fmt: skip
"""Accepted names of the data terms."""


@inner_kernel()
def _plain_row(fixed, moving, y, scratch, total, change):
    """Row `y` of the sum and of the difference of two images, with one replicated pixel around."""
    width = fixed.shape[1]
    f, m = fixed[y], moving[y]
    t, d = scratch[total : total + width + 2], scratch[change : change + width + 2]
    t_inner, d_inner = t[1:-1], d[1:-1]
    for x in range(width):
        t_inner[x] = f[x] + m[x]
        d_inner[x] = m[x] - f[x]
    t[0], t[width + 1] = t[1], t[width]
    d[0], d[width + 1] = d[1], d[width]


@inline_kernel()
def _gradient_vector(zero, scratch, total, change, spacing, eps, x, out, place, size):
    # The rows above, here and below begin at `total` and `change`. Their ends are replicated, so
    # the derivatives of derivatives see an edge-replicated first derivative, as in the original.
    cxx, cyy, cx, cy, cxy = spacing
    above, here, below = total
    s = load(zero, scratch, here + x + 1)
    twice = s + s
    fxx = (load(zero, scratch, here + x + 2) - twice + load(zero, scratch, here + x)) * cxx
    fyy = (load(zero, scratch, below + x + 1) - twice + load(zero, scratch, above + x + 1)) * cyy
    lower = load(zero, scratch, below + x + 2) - load(zero, scratch, below + x)
    upper = load(zero, scratch, above + x + 2) - load(zero, scratch, above + x)
    fxy = (lower - upper) * cxy
    above, here, below = change
    fxt = (load(zero, scratch, here + x + 2) - load(zero, scratch, here + x)) * cx
    fyt = (load(zero, scratch, below + x + 1) - load(zero, scratch, above + x + 1)) * cy
    one = splat(zero, scratch.dtype.type(1))
    squared = times_plus(fxy, fxy, eps)
    nx = one / times_plus(fxx, fxx, squared)
    ny = one / times_plus(fyy, fyy, squared)
    ax, bx, cx = nx * fxx, nx * fxy, nx * fxt
    ay, by, cy = ny * fxy, ny * fyy, ny * fyt
    store(out, place, times_plus(ax, fxx, ay * fxy))
    store(out, place + size, times_plus(bx, fxy, by * fyy))
    store(out, place + 2 * size, times_plus(cx, fxt, cy * fyt))
    store(out, place + 3 * size, times_plus(ax, fxy, ay * fyy))
    store(out, place + 4 * size, times_plus(ax, fxt, ay * fyt))
    store(out, place + 5 * size, times_plus(bx, fxt, by * fyt))


@inline_kernel()
def _gradient_row(zero, scratch, total, change, hx, hy, eps, y, out):
    _, height, width = out.shape
    real = out.dtype.type
    half = real(0.5)
    cx, cy = half / hx, half / hy
    spacing = (
        splat(zero, half / (hx * hx)),
        splat(zero, half / (hy * hy)),
        splat(zero, cx),
        splat(zero, cy),
        splat(zero, half * cx * cy),
    )
    added = splat(zero, eps)
    step = lanes(zero)
    for x in range(0, width, step):
        first = min(x, width - step)  # the last vector overlaps the one before
        place = y * width + first
        _gradient_vector(
            zero, scratch, total, change, spacing, added, first, out, place, height * width
        )


@inline_kernel()
def _ring(start, y, height, length):
    """Where the rows above, at and below row `y` are in a ring of three; edges are replicated."""
    above, below = max(y - 1, 0), min(y + 1, height - 1)
    return start + above % 3 * length, start + y % 3 * length, start + below % 3 * length


@kernel()
def gradient_constancy(fixed, moving, hx, hy, eps, scratch, out):
    _, height, width = out.shape
    length = width + 2
    register, one = zeros_register(out), zeros_one(out)
    for y in range(-1, height):
        if y + 1 < height:
            slot = (y + 1) % 3 * length
            _plain_row(fixed, moving, y + 1, scratch, slot, 3 * length + slot)
        if y < 0:
            continue
        total = _ring(0, y, height, length)
        change = _ring(3 * length, y, height, length)
        if width >= lanes(register):
            _gradient_row(register, scratch, total, change, hx, hy, eps, y, out)
        else:
            _gradient_row(one, scratch, total, change, hx, hy, eps, y, out)


@inline_kernel()
def _brightness_vector(zero, scratch, total, change, codes, spacing, x, out, place, size):
    """Sum of the brightness constancy of all code images at one vector of pixels."""
    cx, cy, factor, stride = spacing
    above, here, below = total
    j11 = j22 = j33 = j12 = j13 = j23 = zero
    for k in range(codes):
        p = x + k * stride
        fx = (load(zero, scratch, here + p + 2) - load(zero, scratch, here + p)) * cx
        fy = (load(zero, scratch, below + p + 1) - load(zero, scratch, above + p + 1)) * cy
        ft = load(zero, scratch, change + p + 1)
        j11 = times_plus(factor * fx, fx, j11)
        j22 = times_plus(factor * fy, fy, j22)
        j33 = times_plus(factor * ft, ft, j33)
        j12 = times_plus(factor * fx, fy, j12)
        j13 = times_plus(factor * fx, ft, j13)
        j23 = times_plus(factor * fy, ft, j23)
    store(out, place, j11)
    store(out, place + size, j22)
    store(out, place + 2 * size, j33)
    store(out, place + 3 * size, j12)
    store(out, place + 4 * size, j13)
    store(out, place + 5 * size, j23)


@inline_kernel()
def _brightness_row(zero, scratch, codes, hx, hy, y, out):
    _, height, width = out.shape
    length = width + 2
    real = out.dtype.type
    spacing = (
        splat(zero, real(0.25) / hx),
        splat(zero, real(0.25) / hy),
        splat(zero, real(1) if codes == 1 else real(2 / 8)),
        6 * length,
    )
    total = _ring(0, y, height, length)
    _, change, _ = _ring(3 * length, y, height, length)
    step = lanes(zero)
    for x in range(0, width, step):
        first = min(x, width - step)
        place = y * width + first
        _brightness_vector(
            zero, scratch, total, change, codes, spacing, first, out, place, height * width
        )


@inline_kernel()
def _census_vector(zero, scratch, pixel, neighbour, distance, eps):
    """Smoothed step of the difference to a neighbour."""
    half = splat(zero, scratch.dtype.type(0.5))
    one = splat(zero, scratch.dtype.type(1))
    r = (load(zero, scratch, neighbour) - load(zero, scratch, pixel)) / splat(zero, distance)
    return half * (one + r / square_root(r * r + splat(zero, eps * eps)))


@inline_kernel()
def _census_row(zero, scratch, images, length, dy, dx, distance, eps, total, change):
    """Sum and difference of the codes of two images for one neighbour.

    Three rows of either image begin at `images`; the middle one is that of the result.
    """
    width = length - 2
    step = lanes(zero)
    for x in range(0, width, step):
        first = min(x, width - step)
        pixel = images + length + first + 1
        neighbour = pixel + dy * length + dx
        f = _census_vector(zero, scratch, pixel, neighbour, distance, eps)
        other = 3 * length
        m = _census_vector(zero, scratch, pixel + other, neighbour + other, distance, eps)
        store(scratch, total + first + 1, f + m)
        store(scratch, change + first + 1, m - f)
    for row in (total, change):
        scratch[row] = scratch[row + 1]
        scratch[row + width + 1] = scratch[row + width]


@inner_kernel()
def _pad_row(row, scratch, start):
    width = row.shape[0]
    target = scratch[start + 1 : start + 1 + width]
    for x in range(width):
        target[x] = row[x]
    scratch[start] = row[0]
    scratch[start + width + 1] = row[width - 1]


@inner_kernel()
def _census_rows(fixed, moving, y, distances, eps, scratch):
    """Row `y` of the sums and differences of the codes for all eight neighbours."""
    height, width = fixed.shape
    length = width + 2
    images = 8 * 6 * length
    for k in range(3):
        row = min(max(y + k - 1, 0), height - 1)
        _pad_row(fixed[row], scratch, images + k * length)
        _pad_row(moving[row], scratch, images + (3 + k) * length)
    register, one = zeros_register(scratch), zeros_one(scratch)
    across, down, diagonal = distances
    place = y % 3 * length
    for k in range(9):
        dy, dx = k // 3 - 1, k % 3 - 1
        if k != 4:
            distance = across if dy == 0 else (down if dx == 0 else diagonal)
            change = place + 3 * length
            if width >= lanes(register):
                _census_row(register, scratch, images, length, dy, dx, distance, eps, place, change)
            else:
                _census_row(one, scratch, images, length, dy, dx, distance, eps, place, change)
            place += 6 * length


@inline_kernel()
def _brightness_rows(scratch, codes, hx, hy, y, out):
    register, one = zeros_register(out), zeros_one(out)
    if out.shape[2] >= lanes(register):
        _brightness_row(register, scratch, codes, hx, hy, y, out)
    else:
        _brightness_row(one, scratch, codes, hx, hy, y, out)


@kernel()
def brightness_constancy(fixed, moving, hx, hy, scratch, out):
    _, height, width = out.shape
    length = width + 2
    for y in range(-1, height):
        if y + 1 < height:
            slot = (y + 1) % 3 * length
            _plain_row(fixed, moving, y + 1, scratch, slot, 3 * length + slot)
        if y < 0:
            continue
        _brightness_rows(scratch, 1, hx, hy, y, out)


@kernel()
def census_constancy(fixed, moving, hx, hy, distances, eps, scratch, out):
    """Brightness constancy of the images' eight census codes, one for every neighbour."""
    height = out.shape[1]
    for y in range(-1, height):
        if y + 1 < height:
            _census_rows(fixed, moving, y + 1, distances, eps, scratch)
        if y < 0:
            continue
        _brightness_rows(scratch, 8, hx, hy, y, out)


def census_numbers(hx: float, hy: float, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Distances to the neighbours across, down and diagonal, and the width of the step."""
    real = dtype.type
    return (real(hx), real(hy), real(np.hypot(hx, hy))), real(CENSUS_EPSILON)


def tensor_scratch_size(shape: tuple[int, ...], data_term: str) -> int:
    """Elements that `motion_tensor_into` needs as scratch for planes of this shape (..., H, W)."""
    # Three rows of a sum and a difference; for the census, of eight, and of the images.
    rows = 6 * (8 + 1 if data_term == "cs" else 1)
    return rows * (shape[-1] + 2)


def motion_tensor_into(
    fixed: NDArray[Any],
    moving: NDArray[Any],
    hx: float,
    hy: float,
    data_term: str,
    normaliser: float,
    out: NDArray[Any],
    scratch: NDArray[Any],
) -> None:
    """Compute the motion tensor of one channel.

    Parameters
    ----------
    fixed, moving : ndarray
        float32 or float64, shape (H, W), scaled to about [0, 1].
    hx, hy : float
        Grid spacing in x and y, full-resolution pixels.
    data_term : {'gc', 'gray', 'cs'}
        Constancy assumption.
    normaliser : float
        Added to the squared gradients that normalise the term 'gc'.
    out : ndarray
        Receives J11, J22, J33, J12, J13, J23: shape (6, H, W), dtype of the frames.
    scratch : ndarray
        One-dimensional, dtype of the frames, at least `tensor_scratch_size` elements.
    """
    real = fixed.dtype.type
    spacing = real(hx), real(hy)
    if data_term == "gc":
        gradient_constancy(fixed, moving, *spacing, real(normaliser), scratch, out)
    elif data_term == "gray":
        brightness_constancy(fixed, moving, *spacing, scratch, out)
    else:
        numbers = census_numbers(hx, hy, fixed.dtype)
        census_constancy(fixed, moving, *spacing, *numbers, scratch, out)


def motion_tensor(
    fixed: NDArray[Any],
    moving: NDArray[Any],
    hx: float,
    hy: float,
    data_term: str = "gc",
    normaliser: float = 1e-6,
) -> NDArray[Any]:
    """Return what `motion_tensor_into` computes as a new array."""
    out = np.empty((COMPONENTS, *fixed.shape), fixed.dtype)
    scratch = np.empty(tensor_scratch_size(fixed.shape, data_term), fixed.dtype)
    motion_tensor_into(fixed, moving, hx, hy, data_term, normaliser, out, scratch)
    return out
