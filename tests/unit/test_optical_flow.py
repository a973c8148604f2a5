"""Signature of `get_displacement`, and ways to say the same."""

import inspect

import numpy as np
import pytest

from pyflowreg.core.optical_flow import get_displacement

from .scenes import interior, seen

F1, F2 = seen(32, 40), seen(32, 40, -1, 0.5)
DEFAULTS = {
    "alpha": (2.0, 2.0),
    "levels": 50,
    "eta": 0.75,
    "iterations": 20,
    "update_lag": 10,
    "a_data": 0.45,
    "a_smooth": 0.5,
    "min_level": 0,
    "weight": None,
    "uv": None,
    "const_assumption": "gc",
    "numerics": "standard",
    "precision": "single",
    "backend": "flowreg",
    "backend_params": None,
}


def test_signature():
    first, second, *others = inspect.signature(get_displacement).parameters.values()
    assert (first.name, second.name) == ("fixed", "moving")
    assert {p.name: p.default for p in others} == DEFAULTS
    assert all(p.kind is p.KEYWORD_ONLY for p in others)


def test_a_fixed_frame_that_changed_in_place_is_noticed():
    fixed = F1.copy()
    before = get_displacement(fixed, F2)
    fixed[:] = F2
    np.testing.assert_array_equal(get_displacement(fixed, F2), 0)
    fixed[:] = F1
    np.testing.assert_array_equal(get_displacement(fixed, F2), before)
    assert not np.array_equal(get_displacement(fixed, F2, alpha=9.0), before)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"alpha": 3}, {"alpha": [3, 3]}),
        ({"a_data": 0.4}, {"a_data": [0.4]}),
        ({"weight": None}, {"weight": 1}),
        ({"weight": [1]}, {"weight": 1.0}),
        ({"uv": None}, {"uv": np.zeros((32, 40, 2))}),
        ({"const_assumption": "gc"}, {"const_assumption": "gradient"}),
        ({"const_assumption": "gray"}, {"const_assumption": "brightness"}),
        ({"const_assumption": "cs"}, {"const_assumption": "census"}),
        ({"levels": 50}, {"levels": np.int64(500)}),
    ],
)
def test_ways_to_say_the_same(one, other):
    np.testing.assert_array_equal(
        get_displacement(F1, F2, **one), get_displacement(F1, F2, **other)
    )


def test_an_axis_of_one_channel_may_be_left_out():
    expected = get_displacement(F1, F2)
    np.testing.assert_array_equal(get_displacement(F1[..., None], F2[..., None]), expected)
    np.testing.assert_array_equal(get_displacement(F1, F2[..., None]), expected)
    np.testing.assert_array_equal(get_displacement(F1.tolist(), F2.tolist()), expected)


@pytest.mark.parametrize("min_level", [1, 3, 6, 100])
def test_coarse_fields_have_full_size_and_full_length(min_level):
    w = get_displacement(F1, F2, min_level=min_level, eta=0.8, a_smooth=1, iterations=50)
    assert w.shape == (32, 40, 2)
    assert np.abs(np.median(interior(w, 6), axis=(0, 1)) - (1, -0.5)).max() < 0.2


def test_direction():
    """fixed(y, x) = moving(y + v, x + u): what moved right and down has positive u and v."""
    fixed, moving = (
        np.exp(-((np.arange(40) - x) ** 2 + (np.arange(32)[:, None] - y) ** 2) / 18)
        for x, y in ((18, 14), (20, 15))
    )
    u, v = get_displacement(fixed, moving)[14, 18]
    assert 1 < u < 2.5
    assert 0.5 < v < 1.5


def test_anisotropic_smoothness():
    """More smoothness between columns: a shear along x is followed less than one along y."""
    x = np.linspace(-1, 1, 40)
    shear = np.broadcast_to(2 * np.sin(3 * x), (32, 40))
    from scipy.ndimage import map_coordinates

    grid = np.mgrid[:32, :40].astype(float)
    moving = map_coordinates(F1, [grid[0] - shear, grid[1]], order=3, mode="nearest")
    spread = [
        np.ptp(get_displacement(F1, moving, alpha=alpha, a_smooth=1)[16, 4:-4, 1])
        for alpha in ((0.5, 50), (50, 0.5))
    ]
    assert spread[0] > spread[1]


@pytest.mark.parametrize("numerics", ["standard", "matlab"])
@pytest.mark.parametrize("mask", ["disc", "half-plane"])
def test_a_sharp_weight_map(numerics, mask):
    y, x = np.mgrid[:48, :64]
    kept = x < 30 if mask == "half-plane" else np.hypot(y - 24, x - 32) < 14
    fixed, moving = seen(48, 64), seen(48, 64, -1, 0.5)
    w = get_displacement(fixed, moving, weight=kept * 1.0, alpha=0.2, a_smooth=1, numerics=numerics)
    assert np.abs(w).max() < 10
    assert np.abs(np.median(w[kept], axis=0) - (1, -0.5)).max() < 0.2


@pytest.mark.parametrize("name", ["fixed", "moving", "uv"])
@pytest.mark.parametrize(
    ("value", "message"), [(1e25, r"beyond \+-1e\+15"), (np.nan, "NaN"), (1j, "real number type")]
)
def test_values_that_cannot_be_used(name, value, message):
    arrays = {"fixed": F1, "moving": F2, "uv": np.zeros((32, 40, 2))}
    arrays[name] = arrays[name].astype(type(value))
    arrays[name][3, 4] = value
    with pytest.raises(ValueError, match=f"{name} .*{message}"):
        get_displacement(arrays["fixed"], arrays["moving"], uv=arrays["uv"])
