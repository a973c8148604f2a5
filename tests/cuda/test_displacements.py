"""The kernels for the GPU, compiled for the processor, give the bits of the backend `flowreg`."""

import numpy as np
import pytest
from cases import on_processor, parameters, scene
from emulated import has_fma
from golden import CASES, flow_options, load
from numpy.testing import assert_array_equal

SMALL = [name for name in CASES if "64x64" in name]


def assert_same(found, expected):
    """Equal; without fused multiplication on this processor, equal to rounding of float32."""
    assert found.dtype == expected.dtype
    if has_fma():
        assert_array_equal(found, expected)
    else:
        assert np.abs(found - expected).mean() <= 2e-3


def golden_pair(name, **options):
    case = load(name)
    given = flow_options(case)
    uv = given.pop("uv", None)
    fixed, moving = (np.atleast_3d(case[key]) for key in ("f1", "f2"))
    return fixed, moving[None], uv, {**given, **options}


@pytest.mark.parametrize("name", CASES)
def test_golden(emulate, name):
    fixed, moving, uv, options = golden_pair(name)
    plan = emulate().prepare(fixed, parameters(**options))
    found = plan.displacements(moving, uv)
    assert_same(found, on_processor(fixed, moving, uv, **options))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("numerics", "precision"),
    [("matlab", "single"), ("standard", "double"), ("matlab", "double")],
)
def test_golden_with_other_numerics(emulate, name, numerics, precision):
    fixed, moving, uv, options = golden_pair(name, numerics=numerics, precision=precision)
    plan = emulate().prepare(fixed, parameters(**options))
    found = plan.displacements(moving, uv)
    assert_same(found, on_processor(fixed, moving, uv, **options))


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((8, 8, 1), {}),
        ((16, 16, 1), {}),
        ((16, 120, 1), {}),
        ((120, 17, 2), {}),
        ((33, 47, 2), {"data_term": "gray"}),
        ((33, 47, 1), {"data_term": "cs"}),
        ((41, 41, 1), {"update_lag": 1}),
        ((41, 41, 1), {"update_lag": 1, "a_smooth": 0.5}),
        ((41, 41, 1), {"update_lag": 100, "iterations": 30}),
        ((50, 41, 1), {"update_lag": 12, "iterations": 30}),
        ((50, 41, 1), {"update_lag": 12, "iterations": 30, "a_smooth": 0.3}),
        ((41, 50, 1), {"iterations": 3}),
        ((80, 70, 1), {"min_level": 4}),
        ((40, 40, 2), {"weight": (1.0, 0.0), "a_data": (0.45, 0.6), "alpha": (1.5, 6.0)}),
    ],
    ids=lambda value: str(value),
)
def test_sizes_and_settings(emulate, size, options):
    fixed, moving = scene(*size)
    found = emulate().prepare(fixed, parameters(**options)).displacements(moving)
    assert np.abs(found).max() > 0.1
    assert_same(found, on_processor(fixed, moving, **options))


def test_memory_of_the_device_instead_of_shared_memory(emulate):
    fixed, moving = scene(40, 52)
    small = emulate(shared_bytes=1000).prepare(fixed, parameters()).displacements(moving)
    assert_same(small, on_processor(fixed, moving))


@pytest.mark.parametrize("options", [{}, {"a_smooth": 0.5}])
@pytest.mark.parametrize("threads", [7, 96, None])
def test_any_number_of_threads_in_any_order(emulate, threads, options):
    """A missing barrier would let the order of threads change the result."""
    fixed, moving = scene(24, 37, 2)
    options = {"iterations": 11, **options}
    plan = emulate(threads=threads).prepare(fixed, parameters(**options))
    assert_same(plan.displacements(moving), on_processor(fixed, moving, **options))


def test_weight_map(emulate):
    fixed, moving = scene(36, 28, 2)
    weight = np.random.default_rng(3).random((36, 28, 2))
    found = emulate().prepare(fixed, parameters(weight=weight)).displacements(moving)
    assert_same(found, on_processor(fixed, moving, weight=weight))


def test_frames_do_not_depend_on_each_other(emulate):
    fixed, moving = scene(30, 26, frames=5)
    plan = emulate().prepare(fixed, parameters())
    together = plan.displacements(moving)
    for frame, w in zip(moving, together, strict=True):
        assert_array_equal(plan.displacements(frame[None])[0], w)


def test_initial_displacement(emulate):
    fixed, moving = scene(48, 40)
    y, x = np.mgrid[:48, :40]
    uv = np.stack([np.sin(x / 9), 0.1 * y - 2], axis=-1)
    found = emulate().prepare(fixed, parameters()).displacements(moving, uv)
    assert_same(found, on_processor(fixed, moving, uv))


def test_still_frame_has_no_displacement(emulate):
    fixed, _ = scene(32, 40)
    assert not emulate().prepare(fixed, parameters()).displacements(fixed[None]).any()


def test_constant_frames(emulate):
    flat = np.full((1, 32, 24, 1), 0.3)
    assert not emulate().prepare(flat[0], parameters()).displacements(flat).any()


def test_shift_is_found(emulate):
    wide = scene(60, 60)[0]
    fixed, moving = wide[4:-4, 4:-4], wide[3:-5, 6:-2]
    w = emulate().prepare(fixed, parameters(iterations=50)).displacements(moving[None])[0]
    assert np.abs(np.median(w, axis=(0, 1)) - (-2, 1)).max() < 0.1


def test_frame_without_finite_values_spoils_only_itself(emulate):
    fixed, moving = scene(32, 32, frames=3)
    moving[1, 10, 10] = np.nan
    w = emulate().prepare(fixed, parameters()).displacements(moving)
    assert np.isnan(w[1]).any()
    assert_same(w[[0, 2]], on_processor(fixed, moving[[0, 2]]))


def test_no_frames(emulate):
    fixed, moving = scene(16, 20)
    assert emulate().prepare(fixed, parameters()).displacements(moving[:0]).shape == (0, 16, 20, 2)
