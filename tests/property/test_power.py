"""Powers by arithmetic: as exact as the type allows, over all values the solver meets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflowreg.core.power import raise_to
from pyflowreg.core.simd import lane_count


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None)
@given(
    exponents=st.lists(st.floats(-5, 12), min_size=1, max_size=40),
    a=st.floats(0.01, 1),
)
def test_power(dtype, exponents, a):
    lanes = lane_count(np.dtype(dtype))
    values = np.resize(10.0 ** np.array(exponents), (len(exponents) + lanes) // lanes * lanes)
    values = values.astype(dtype)
    a = dtype(a)
    wide = np.longdouble
    expected = values.astype(wide) ** (wide(a) - wide(1))
    raise_to(values, a - dtype(1))
    # The rounding of the logarithm counts as often as the result has powers of e.
    tolerance = np.finfo(dtype).eps * (8 + 2 * np.abs(np.log(expected)))
    assert (np.abs(values / expected - 1) <= tolerance).all()


def test_power_of_zero_is_one():
    values = np.resize(np.array([1e-5, 0.3, 7.0, 1e9], dtype=np.float32), 16)
    raise_to(values, np.float32(0))
    np.testing.assert_array_equal(values, 1)
