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

from pyflowreg.core.jit import kernel

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


@kernel()
def _gradient_constancy(fixed, moving, hx, hy, eps, out):
    # `fixed` and `moving` are padded by one replicated pixel; `total` and `ft` likewise, so the
    # derivatives of derivatives see an edge-replicated first derivative, as in the original.
    height, width = out.shape[1:]
    half = out.dtype.type(0.5)
    two = out.dtype.type(2)
    one = out.dtype.type(1)
    cxx = half / (hx * hx)
    cyy = half / (hy * hy)
    cx = half / hx
    cy = half / hy
    cxy = half * cx * cy
    total = fixed + moving
    ft = moving - fixed
    for y in range(height):
        for x in range(width):
            s = total[y + 1, x + 1]
            fxx = (total[y + 1, x + 2] - two * s + total[y + 1, x]) * cxx
            fyy = (total[y + 2, x + 1] - two * s + total[y, x + 1]) * cyy
            lower = total[y + 2, x + 2] - total[y + 2, x]
            upper = total[y, x + 2] - total[y, x]
            fxy = (lower - upper) * cxy
            fxt = (ft[y + 1, x + 2] - ft[y + 1, x]) * cx
            fyt = (ft[y + 2, x + 1] - ft[y, x + 1]) * cy
            fxy2 = fxy * fxy
            nx = one / (fxx * fxx + fxy2 + eps)
            ny = one / (fxy2 + fyy * fyy + eps)
            out[0, y, x] = nx * (fxx * fxx) + ny * fxy2
            out[1, y, x] = nx * fxy2 + ny * (fyy * fyy)
            out[2, y, x] = nx * (fxt * fxt) + ny * (fyt * fyt)
            out[3, y, x] = nx * (fxx * fxy) + ny * (fxy * fyy)
            out[4, y, x] = nx * (fxx * fxt) + ny * (fxy * fyt)
            out[5, y, x] = nx * (fxy * fxt) + ny * (fyy * fyt)


@kernel()
def _add_brightness_constancy(fixed, moving, hx, hy, factor, out):
    height, width = out.shape[1:]
    quarter = out.dtype.type(0.25)
    cx = quarter / hx
    cy = quarter / hy
    for y in range(height):
        for x in range(width):
            right = fixed[y + 1, x + 2] + moving[y + 1, x + 2]
            left = fixed[y + 1, x] + moving[y + 1, x]
            below = fixed[y + 2, x + 1] + moving[y + 2, x + 1]
            above = fixed[y, x + 1] + moving[y, x + 1]
            fx = (right - left) * cx
            fy = (below - above) * cy
            ft = moving[y + 1, x + 1] - fixed[y + 1, x + 1]
            out[0, y, x] += factor * (fx * fx)
            out[1, y, x] += factor * (fy * fy)
            out[2, y, x] += factor * (ft * ft)
            out[3, y, x] += factor * (fx * fy)
            out[4, y, x] += factor * (fx * ft)
            out[5, y, x] += factor * (fy * ft)


@kernel()
def _smoothed_census_plane(image, dy, dx, distance, eps, out):
    height, width = image.shape
    half = out.dtype.type(0.5)
    one = out.dtype.type(1)
    for y in range(height):
        neighbour_y = min(max(y + dy, 0), height - 1)
        for x in range(width):
            neighbour_x = min(max(x + dx, 0), width - 1)
            r = (image[neighbour_y, neighbour_x] - image[y, x]) / distance
            out[y, x] = half * (one + r / np.sqrt(r * r + eps * eps))


def _census(
    fixed: NDArray[Any], moving: NDArray[Any], hx: float, hy: float, out: NDArray[Any]
) -> None:
    real = out.dtype.type
    height, width = fixed.shape
    code = np.empty((2, height, width), out.dtype)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dx == 0 and dy == 0:
                continue
            distance = real(np.hypot(dx * hx, dy * hy))
            for image, plane in zip((fixed, moving), code, strict=True):
                _smoothed_census_plane(image, dy, dx, distance, real(CENSUS_EPSILON), plane)
            padded = np.pad(code, ((0, 0), (1, 1), (1, 1)), mode="edge")
            _add_brightness_constancy(padded[0], padded[1], real(hx), real(hy), real(2 / 8), out)


def tensor_scratch_size(shape: tuple[int, ...], data_term: str) -> int:
    """Elements that `motion_tensor_into` needs as scratch for planes of this shape (..., H, W)."""
    return 2 * (shape[-2] + 2) * (shape[-1] + 2)


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
    if data_term == "cs":
        out[:] = 0
        _census(fixed, moving, hx, hy, out)
        return
    padded = [np.pad(image, 1, mode="edge") for image in (fixed, moving)]
    if data_term == "gray":
        out[:] = 0
        _add_brightness_constancy(*padded, real(hx), real(hy), real(1), out)
        return
    _gradient_constancy(*padded, real(hx), real(hy), real(normaliser), out)


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
