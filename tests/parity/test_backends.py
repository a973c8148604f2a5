"""Other backends on the golden cases.

Those that solve flowreg's equations are compared with flowreg, which is with the original; the
others with the truth.
"""

import numpy as np
import pytest
from golden import CASES, difference, end_point_error, flow_options, load

from pyflowreg.core.optical_flow import get_displacement

from ..backends import ALL, OTHERS, required

pytestmark = pytest.mark.backends

if not OTHERS:
    pytest.skip("no other backend is installed", allow_module_level=True)

SOLVERS = [choice for choice in OTHERS if choice.solves]

DISO_CHOICE = next(choice for choice in ALL if choice.name == "diso")
# End-point errors with the default preset, px.
DISO = {
    "g01": 0.035,
    "g02": 0.43,
    "g03": 0.265,
    "g04": 0.124,
    "g09": 0.63,
    "g10": 0.38,
    "g11": 0.22,
    "g14": 0.76,
    "g16": 0.22,
    "g18": 0.27,
}


@pytest.fixture(params=SOLVERS, ids=lambda choice: choice.id)
def solver(request):
    return required(request.param)


def both(choice, name, **options):
    case = load(name)
    options |= flow_options(case)
    w = choice.displacement(case["f1"], case["f2"], **options)
    return w, get_displacement(case["f1"], case["f2"], **options)


@pytest.mark.parametrize("numerics", ["standard", "matlab"])
@pytest.mark.parametrize("name", CASES)
def test_double_precision_is_flowreg_to_rounding(solver, name, numerics):
    if solver.params.get("device") == "mps":
        pytest.skip("the device has no double precision")
    w, expected = both(solver, name, numerics=numerics, precision="double")
    assert w.dtype == np.float64
    floor = load(name)["sens_1e14"] if numerics == "matlab" else np.zeros(3)
    for found, allowed, least in zip(
        difference(w, expected), 50 * floor, (1e-9, 1e-7, 1e-5), strict=True
    ):
        assert found <= max(allowed, least)


@pytest.mark.parametrize("name", CASES)
def test_single_precision_is_flowreg_to_rounding(solver, name):
    """As different as two orders of the same additions; the original allows ten times as much."""
    w, expected = both(solver, name)
    assert w.dtype == np.float32
    mean, _, largest = difference(w, expected)
    assert mean <= 2e-3
    assert largest <= 0.1


@pytest.mark.parametrize("name", CASES)
def test_the_matlab_profile_in_single_precision(solver, name):
    w, expected = both(solver, name, numerics="matlab")
    mean, _, _ = difference(w, expected)
    assert mean <= 2e-3


@pytest.mark.parametrize("name", [name for name in CASES if name[:3] in DISO])
def test_diso_against_the_truth(name):
    choice = required(DISO_CHOICE)
    case = load(name)
    w = choice.displacement(case["f1"], case["f2"], weight=case["weight"])
    assert end_point_error(case, w) < DISO[name[:3]] + 0.02
