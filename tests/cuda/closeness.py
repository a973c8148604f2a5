"""How near to the CPU's results those of the backend have to be."""

import os

import numpy as np
from emulated import has_fma
from numpy.testing import assert_array_equal

ON_GPU = os.environ.get("PYFLOWREG_TEST_GPU", "") not in ("", "0")
"""Whether the tests run on a GPU, which must then be there."""

EXACT = has_fma() and not ON_GPU
"""Equal bits are asked for: of the kernels on the processor, if it rounds a product with a sum
once. On a GPU they are expected, see test_gpu.py."""

MEAN = 2e-3
"""Largest mean difference of displacements, px."""


def assert_same(found, expected):
    """Equal bits, or a mean difference that rounding of float32 explains."""
    assert found.dtype == expected.dtype
    if EXACT:
        assert_array_equal(found, expected)
    else:
        assert np.abs(found - expected).mean() <= MEAN


def assert_same_frames(found, expected):
    """Warped frames with their masks and statistics."""
    assert found.frames.dtype == expected.frames.dtype
    if EXACT:
        assert_array_equal(found.frames, expected.frames)
        assert_array_equal(found.valid, expected.valid)
        assert_array_equal(found.statistics, expected.statistics)
        return
    spread = np.ptp(expected.frames.astype(float))
    difference = np.abs(found.frames.astype(float) - expected.frames.astype(float))
    assert difference.mean() <= 1e-3 * spread
    assert (found.valid != expected.valid).mean() <= 1e-3
    np.testing.assert_allclose(found.statistics, expected.statistics, rtol=1e-2, atol=1e-3)
