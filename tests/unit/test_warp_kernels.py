"""The bicubic warp equals Keys' convolution of the image with its extrapolated border."""

import numpy as np
import pytest

from pyflowreg.core.warp_kernels import warp_cubic

from .test_resize import keys

SHAPES = [(4, 4), (4, 9), (8, 8), (5, 260), (300, 6), (33, 41)]


def extended(plane):
    """One more pixel around, f(-1) = 3 f(0) - 3 f(1) + f(2)."""
    for axis in (0, 1):
        a = np.moveaxis(plane, axis, 0)
        first, last = 3 * a[0] - 3 * a[1] + a[2], 3 * a[-1] - 3 * a[-2] + a[-3]
        plane = np.moveaxis(np.concatenate([first[None], a, last[None]]), 0, axis)
    return plane


def warped(plane, u, v, fill):
    height, width = plane.shape
    tall = extended(plane)
    out = fill.copy()
    for y in range(height):
        for x in range(width):
            px, py = x + float(u[y, x]), y + float(v[y, x])
            if 0 <= px <= width - 1 and 0 <= py <= height - 1:
                x0, y0 = min(int(px), width - 2), min(int(py), height - 2)
                wx, wy = (
                    np.array([keys(p - p0 - k) for k in (-1, 0, 1, 2)])
                    for p, p0 in ((px, x0), (py, y0))
                )
                out[y, x] = wy @ tall[y0 : y0 + 4, x0 : x0 + 4] @ wx
    return out


def field(shape, rng):
    """Every kind of sample: on pixels, between them, at all borders, just and far outside, NaN."""
    u, v = rng.normal(0, 1.5, (2, *shape))
    near_edge = rng.random(shape) < 0.2
    u[near_edge] = np.round(u[near_edge])
    v[near_edge] = np.round(v[near_edge])
    u[1, 1], v[2, 2], u[3, 3] = np.nan, np.inf, 1e30
    u[0, 0], v[0, 0], u[0, 1] = 0, 0, -np.nextafter(1, 2)
    return u, v


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "error"), [("f4", 2e-6), ("f8", 1e-13)])
def test_every_sample(shape, dtype, error):
    rng = np.random.default_rng(3)
    moving, fill = rng.random((2, 2, *shape)).astype(dtype)
    for kind in ("f4", "f8"):
        u, v = (plane.astype(kind) for plane in field(shape, rng))
        out = np.full_like(moving, np.nan)
        warp_cubic(moving, u, v, 0.75, 1.25, fill, out)
        su, sv = u.astype("f8") * 0.75, v.astype("f8") * 1.25
        for result, plane, outside in zip(out, moving, fill, strict=True):
            expected = warped(plane.astype("f8"), su, sv, outside.astype("f8"))
            np.testing.assert_allclose(result, expected, rtol=0, atol=error)
        interleaved = np.stack([u, v], axis=-1)
        again = np.empty_like(out)
        warp_cubic(moving, interleaved[..., 0], interleaved[..., 1], 0.75, 1.25, fill, again)
        np.testing.assert_array_equal(again, out)


def test_positions_far_to_the_right_are_exact():
    """In float32, a position near x = 3000 would be off by 1e-4 pixels."""
    width = 3000
    moving = np.tile((np.arange(width) % 2).astype(np.float32), (1, 4, 1))
    u = np.full((4, width), 0.3, np.float32)
    out = np.empty_like(moving)
    warp_cubic(moving, u, np.zeros_like(u), 1.0, 1.0, moving, out)
    np.testing.assert_allclose(out[:, :, 2900:2990:2], out[:, :, 10:100:2], rtol=0, atol=2e-7)


def test_a_frame_does_not_depend_on_its_neighbours():
    """Rows are worked on in pieces; what is left from one has no influence on the next."""
    rng = np.random.default_rng(0)
    moving, fill = rng.random((2, 1, 6, 270))
    u, v = rng.normal(0, 2, (2, 6, 270))
    out, again = np.empty_like(moving), np.empty_like(moving)
    warp_cubic(moving, u, v, 1.0, 1.0, fill, out)
    u[:3] = np.nan
    warp_cubic(moving, u, v, 1.0, 1.0, fill, again)
    np.testing.assert_array_equal(again[:, 3:], out[:, 3:])
    np.testing.assert_array_equal(again[:, :3], fill[:, :3])
