"""Motion tensors equal their definition by derivatives of edge-replicated images."""

import numpy as np
import pytest

from pyflowreg.core.motion_tensor import (
    CENSUS_EPSILON,
    motion_tensor,
    motion_tensor_into,
    tensor_scratch_size,
)

SHAPES = [(8, 8), (2, 3), (1, 1), (9, 70), (70, 9), (5, 16), (33, 50)]
HX, HY = 1.25, 1.75


def shifted(image, dy, dx):
    """The image's value at a neighbour; edges are replicated."""
    height, width = image.shape
    return np.pad(image, 1, mode="edge")[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]


def derivatives(image):
    return (
        (shifted(image, 0, 1) - shifted(image, 0, -1)) / (2 * HX),
        (shifted(image, 1, 0) - shifted(image, -1, 0)) / (2 * HY),
    )


def products(gx, gy, gt):
    return np.stack([gx * gx, gy * gy, gt * gt, gx * gy, gx * gt, gy * gt])


def gradient(fixed, moving, normaliser):
    mean, change = (fixed + moving) / 2, moving - fixed
    fxx = (shifted(mean, 0, 1) - 2 * mean + shifted(mean, 0, -1)) / HX**2
    fyy = (shifted(mean, 1, 0) - 2 * mean + shifted(mean, -1, 0)) / HY**2
    corners = [shifted(mean, dy, dx) * dy * dx for dy in (-1, 1) for dx in (-1, 1)]
    fxy = sum(corners) / (4 * HX * HY)
    fxt, fyt = derivatives(change)
    return products(fxx, fxy, fxt) / (fxx**2 + fxy**2 + normaliser) + products(fxy, fyy, fyt) / (
        fxy**2 + fyy**2 + normaliser
    )


def brightness(fixed, moving):
    return products(*derivatives((fixed + moving) / 2), moving - fixed)


def census(fixed, moving):
    total = 0
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if (dy, dx) != (0, 0):
                distance = np.hypot(dx * HX, dy * HY)
                slopes = [(shifted(f, dy, dx) - f) / distance for f in (fixed, moving)]
                codes = [0.5 * (1 + r / np.hypot(r, CENSUS_EPSILON)) for r in slopes]
                total = total + brightness(*codes) / 4
    return total


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "error"), [("f4", 2e-5), ("f8", 1e-12)])
def test_tensor(shape, dtype, error):
    fixed, moving = np.random.default_rng(0).random((2, *shape)).astype(dtype)
    exact = [image.astype("f8") for image in (fixed, moving)]
    for term, expected in (
        ("gc", gradient(*exact, 1e-3)),
        ("gray", brightness(*exact)),
        ("cs", census(*exact)),
    ):
        out = np.full((6, *shape), np.nan, dtype)
        scratch = np.full(tensor_scratch_size(shape, term), np.nan, dtype)
        motion_tensor_into(fixed, moving, HX, HY, term, 1e-3, out, scratch)
        scale = max(np.abs(expected).max(), 1e-12)
        np.testing.assert_allclose(out / scale, expected / scale, rtol=0, atol=error, err_msg=term)
        np.testing.assert_array_equal(motion_tensor(fixed, moving, HX, HY, term, 1e-3), out)
