"""The median filter equals SciPy's, for any size, values with ties, and both precisions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_array_equal
from scipy.ndimage import median_filter

from pyflowreg.core.median import median_5x5


@st.composite
def planes(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shape = draw(st.tuples(st.integers(2, 70), st.integers(2, 70)))
    largest = draw(st.sampled_from([2, 10, 1000]))
    values = draw(arrays.arrays(np.int16, shape, elements=st.integers(-largest, largest)))
    return values.astype(dtype)


@settings(deadline=None)  # the first call compiles
@given(planes())
def test_median_is_scipys(plane):
    before = plane.copy()
    assert_array_equal(median_5x5(plane), median_filter(plane, 5, mode="reflect"))
    assert_array_equal(plane, before)
