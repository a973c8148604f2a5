"""Powers by arithmetic: as exact as the type allows, over all values the solver meets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflowreg.core.level_solver import _penalise


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None)
@given(
    exponents=st.lists(st.floats(-5, 12), min_size=1, max_size=40),
    a=st.floats(0.01, 1),
)
def test_penalty_weight(dtype, exponents, a):
    plane = (10.0 ** np.array([exponents])).astype(dtype)
    a = dtype(a)
    wide = np.longdouble
    expected = wide(a) * plane.astype(wide) ** (wide(a) - wide(1))
    _penalise(plane, a)
    # The rounding of the logarithm counts as often as the result has powers of e.
    tolerance = np.finfo(dtype).eps * (8 + 2 * np.abs(np.log(expected / wide(a))))
    assert (np.abs(plane / expected - 1) <= tolerance).all()


def test_quadratic_penalty_has_weight_one():
    plane = np.array([[1e-5, 0.3, 7.0, 1e9]], dtype=np.float32)
    _penalise(plane, np.float32(1))
    np.testing.assert_array_equal(plane, 1)
