"""The median filter equals SciPy's, for any size, values with ties, and both precisions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_array_equal
from scipy.ndimage import median_filter

from pyflowreg.core.median import median_5x5, median_5x5_into, median_scratch_size


@st.composite
def planes(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shape = draw(st.tuples(st.integers(1, 70), st.integers(1, 200)))
    largest = draw(st.sampled_from([2, 10, 1000]))
    values = draw(arrays.arrays(np.int16, shape, elements=st.integers(-largest, largest)))
    return values.astype(dtype)


@settings(deadline=None)  # the first call compiles
@given(planes())
def test_median_is_scipys(plane):
    before = plane.copy()
    assert_array_equal(median_5x5(plane), median_filter(plane, 5, mode="reflect"))
    assert_array_equal(plane, before)


def test_a_part_of_an_array_and_dirty_scratch():
    """Any layout is taken, and what scratch holds has no influence."""
    for dtype in (np.float32, np.float64):
        padded = np.random.default_rng(0).random((20, 300)).astype(dtype)
        out = np.empty((20, 300), dtype)
        scratch = np.full(median_scratch_size(out.shape), np.nan, dtype)
        interior = (slice(1, -1), slice(1, -1))
        median_5x5_into(padded[interior], out[interior], scratch)
        expected = median_filter(padded[interior], 5, mode="reflect")
        assert_array_equal(out[interior], expected)
