"""Whole displacement fields: the original's, and the truth."""

import numpy as np
import pytest
from golden import CASES, difference, end_point_error, flow_options, load, saved_rows

from pyflowreg.core.optical_flow import get_displacement

ELONGATED = [name for name in CASES if "128x96" in name]
TWO_CHANNELS = [name for name in CASES if np.ndim(load(name)["f1"]) == 3]


def run(name, **options):
    case = load(name)
    return case, get_displacement(case["f1"], case["f2"], **flow_options(case), **options)


@pytest.mark.parametrize("name", CASES)
def test_matlab_double_is_the_original(name):
    case, w = run(name, numerics="matlab", precision="double")
    mean, p99, largest = difference(saved_rows(case, w), case["w"])
    floor = case["sens_1e14"]
    assert mean <= max(1e-6, 50 * floor[0])
    assert p99 <= max(1e-5, 50 * floor[1])
    assert largest <= 1e-2


@pytest.mark.parametrize("name", CASES)
def test_single_precision_stays_near_the_original(name):
    case, w = run(name, numerics="matlab", precision="single")
    assert w.dtype == np.float32
    for error, allowed in zip(
        difference(saved_rows(case, w), case["w"]), 5 * case["sens_1e7"], strict=True
    ):
        assert error <= allowed


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("name", CASES)
def test_standard_is_as_accurate_as_the_original(name, precision):
    case, w = run(name, numerics="standard", precision=precision)
    original = np.hypot(*np.moveaxis(case["w"] - case["w_true"], -1, 0)).mean()
    assert end_point_error(case, w) <= original + 0.01


@pytest.mark.parametrize("names", [ELONGATED, TWO_CHANNELS], ids=["elongated", "two channels"])
def test_standard_is_better_where_the_original_has_known_faults(names):
    ours, original = [], []
    for name in names:
        case, w = run(name, numerics="standard", precision="single")
        ours.append(end_point_error(case, w))
        original.append(np.hypot(*np.moveaxis(case["w"] - case["w_true"], -1, 0)).mean())
    assert np.mean(ours) < 0.9 * np.mean(original)
    # One case, solved at the seventh level only, is equal within 1 %.
    assert all(a < 1.01 * b for a, b in zip(ours, original, strict=True))
