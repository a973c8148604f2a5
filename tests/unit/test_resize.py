"""Resampling of planes equals its definition: every value a weighted sum of its taps."""

import math

import numpy as np
import pytest

from pyflowreg.core.pyramid import resize, resize_planes, resize_scratch_size

SHAPES = [
    ((8, 8), (8, 8)),
    ((8, 8), (13, 5)),
    ((3, 5), (9, 2)),
    ((40, 130), (17, 131)),
    ((9, 300), (9, 77)),
    ((150, 10), (15, 10)),
    ((21, 63), (50, 65)),
    ((33, 64), (11, 200)),
]


def keys(t):
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t <= 2 else 0.0


def matrix(n_in, n_out):
    """Weight of every input in every output, the image mirrored about its edges."""
    scale = n_out / n_in
    widen = min(scale, 1)
    result = np.zeros((n_out, n_in))
    for k in range(n_out):
        centre = (k + 0.5) / scale - 0.5
        reach = math.ceil(2 / widen) + 1
        for tap in range(math.floor(centre) - reach, math.floor(centre) + reach + 2):
            position = tap % (2 * n_in)
            result[k, min(position, 2 * n_in - 1 - position)] += keys(widen * (centre - tap))
    return result / result.sum(axis=1, keepdims=True)


def resampled(planes, out_shape, dtype):
    out = np.full((len(planes), *out_shape), np.nan, dtype)
    scratch = np.full(resize_scratch_size(planes.shape, out.shape), np.nan, dtype)
    resize_planes(planes, out, scratch)
    return out


@pytest.mark.parametrize(("shape", "out_shape"), SHAPES)
def test_resampling_is_a_product_of_matrices(shape, out_shape):
    planes = np.random.default_rng(0).random((2, *shape))
    rows, columns = (matrix(*sides) for sides in zip(shape, out_shape, strict=True))
    expected = rows @ planes @ columns.T
    for dtype, other, error in (
        ("f8", "f8", 1e-13),
        ("f4", "f4", 1e-6),
        ("f4", "f8", 1e-7),
        ("f8", "f4", 1e-6),
    ):
        given = planes.astype(dtype)
        result = resampled(given, out_shape, other)
        np.testing.assert_allclose(result, expected, rtol=0, atol=error)
        for plane, single in zip(given, result, strict=True):
            np.testing.assert_array_equal(resize(plane, *out_shape, other), single)


def test_a_plane_of_the_same_size_is_copied():
    plane = np.random.default_rng(0).random((12, 70)).astype(np.float32)
    result = resize(plane, 12, 70)
    np.testing.assert_array_equal(result, plane)
    assert not np.shares_memory(result, plane)


@pytest.mark.parametrize("value", [0.0, 0.1, 7.7])
def test_constant_planes_stay_constant(value):
    planes = np.random.default_rng(0).random((3, 20, 70))
    planes[1] = value
    result = resampled(planes, (9, 90), np.float64)
    assert (result[1] == value).all()
    assert np.ptp(result[0]) > 0
    assert np.ptp(result[2]) > 0


def test_planes_of_equal_corners_are_not_taken_for_constant():
    plane = np.zeros((1, 20, 70))
    plane[0, 7:12, 30:40] = 1
    assert np.ptp(resampled(plane, (9, 40), np.float64)) > 0.5


def test_any_layout_is_taken():
    plane = np.random.default_rng(0).random((40, 30))
    expected = resize(np.ascontiguousarray(plane.T), 11, 17)
    np.testing.assert_array_equal(resize(plane.T, 11, 17), expected)
