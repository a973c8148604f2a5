"""From floating point to the number type of a file, and the two profiles."""

import dataclasses

import numpy as np
import pytest

from pyflowreg.core.numerics import PROFILES, to_dtype


def test_halves_are_rounded_away_from_zero():
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999999999999994, 2.4999, -0.49])
    np.testing.assert_array_equal(to_dtype(values, "int16"), [1, 2, 3, -1, -2, -3, 0, 2, 0])


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("uint8", 255.4, 255),
        ("uint8", 255.5, 255),
        ("uint8", 256, 255),
        ("uint8", -1, 0),
        ("uint8", -0.4, 0),
        ("uint16", 70000, 65535),
        ("uint16", np.inf, 65535),
        ("int16", 40000, 32767),
        ("int16", -40000, -32768),
        ("int16", -np.inf, -32768),
        ("uint16", np.float32(65535.4), 65535),
    ],
)
def test_values_out_of_range_saturate(dtype, value, expected):
    result = to_dtype(np.array([value]), dtype)
    assert result.dtype == dtype
    assert result[0] == expected


def test_integers_out_of_range_saturate():
    assert to_dtype(np.array([-5, 300], np.int16), "uint8").tolist() == [0, 255]
    assert to_dtype(np.array([0, 65535], np.uint16), "int16").tolist() == [0, 32767]


def test_floating_point_stays():
    values = np.array([0.1, np.nan, np.inf])
    assert to_dtype(values, "float64") is values
    np.testing.assert_array_equal(to_dtype(values, "float32"), values.astype(np.float32))


def test_nan_is_no_integer():
    with pytest.raises(ValueError, match="NaN cannot be stored as uint16"):
        to_dtype(np.array([1.0, np.nan]), "uint16")


def test_profiles_differ_in_every_switch():
    standard, matlab = (dataclasses.asdict(PROFILES[name]) for name in ("standard", "matlab"))
    assert all(standard[switch] != matlab[switch] for switch in standard)
