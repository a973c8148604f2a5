"""The kernels for the GPU, compiled for the processor, give the bits of the backend `flowreg`."""

import numpy as np
import pytest
from cases import on_processor, parameters, scene
from closeness import assert_same
from golden import CASES, flow_options, load
from numpy.testing import assert_array_equal

SMALL = [name for name in CASES if "64x64" in name]


def golden_pair(name, **options):
    case = load(name)
    given = flow_options(case)
    uv = given.pop("uv", None)
    fixed, moving = (np.atleast_3d(case[key]) for key in ("f1", "f2"))
    return fixed, moving[None], uv, {**given, **options}


@pytest.mark.parametrize("name", CASES)
def test_golden(cuda_backend, name):
    fixed, moving, uv, options = golden_pair(name)
    plan = cuda_backend().prepare(fixed, parameters(**options))
    found = plan.displacements(moving, uv)
    assert_same(found, on_processor(fixed, moving, uv, **options))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("numerics", "precision"),
    [("matlab", "single"), ("standard", "double"), ("matlab", "double")],
)
def test_golden_with_other_numerics(cuda_backend, name, numerics, precision):
    fixed, moving, uv, options = golden_pair(name, numerics=numerics, precision=precision)
    plan = cuda_backend().prepare(fixed, parameters(**options))
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
def test_sizes_and_settings(cuda_backend, size, options):
    fixed, moving = scene(*size)
    found = cuda_backend().prepare(fixed, parameters(**options)).displacements(moving)
    assert np.abs(found).max() > 0.1
    assert_same(found, on_processor(fixed, moving, **options))


def test_memory_of_the_device_instead_of_shared_memory(cuda_backend):
    fixed, moving = scene(40, 52)
    small = cuda_backend(shared_bytes=1000).prepare(fixed, parameters()).displacements(moving)
    assert_same(small, on_processor(fixed, moving))


@pytest.mark.parametrize("options", [{}, {"a_smooth": 0.5}])
@pytest.mark.parametrize("threads", [7, 96, None])
def test_any_number_of_threads_in_any_order(cuda_backend, threads, options):
    """A missing barrier would let the order of threads change the result."""
    fixed, moving = scene(24, 37, 2)
    options = {"iterations": 11, **options}
    plan = cuda_backend(threads=threads).prepare(fixed, parameters(**options))
    assert_same(plan.displacements(moving), on_processor(fixed, moving, **options))


def test_weight_map(cuda_backend):
    fixed, moving = scene(36, 28, 2)
    weight = np.random.default_rng(3).random((36, 28, 2))
    found = cuda_backend().prepare(fixed, parameters(weight=weight)).displacements(moving)
    assert_same(found, on_processor(fixed, moving, weight=weight))


def test_frames_do_not_depend_on_each_other(cuda_backend):
    fixed, moving = scene(30, 26, frames=5)
    plan = cuda_backend().prepare(fixed, parameters())
    together = plan.displacements(moving)
    for frame, w in zip(moving, together, strict=True):
        assert_array_equal(plan.displacements(frame[None])[0], w)
    assert_array_equal(plan.displacements(moving[::-1])[::-1], together)


def test_initial_displacement(cuda_backend):
    fixed, moving = scene(48, 40)
    y, x = np.mgrid[:48, :40]
    uv = np.stack([np.sin(x / 9), 0.1 * y - 2], axis=-1)
    found = cuda_backend().prepare(fixed, parameters()).displacements(moving, uv)
    assert_same(found, on_processor(fixed, moving, uv))


def test_still_frame_has_no_displacement(cuda_backend):
    fixed, _ = scene(32, 40)
    assert not cuda_backend().prepare(fixed, parameters()).displacements(fixed[None]).any()


def test_constant_frames(cuda_backend):
    flat = np.full((1, 32, 24, 1), 0.3)
    assert not cuda_backend().prepare(flat[0], parameters()).displacements(flat).any()


def test_shift_is_found(cuda_backend):
    wide = scene(60, 60)[0]
    fixed, moving = wide[4:-4, 4:-4], wide[3:-5, 6:-2]
    w = cuda_backend().prepare(fixed, parameters(iterations=50)).displacements(moving[None])[0]
    assert np.abs(np.median(w, axis=(0, 1)) - (-2, 1)).max() < 0.1


def test_frame_without_finite_values_spoils_only_itself(cuda_backend):
    fixed, moving = scene(32, 32, frames=3)
    moving[1, 10, 10] = np.nan
    w = cuda_backend().prepare(fixed, parameters()).displacements(moving)
    assert np.isnan(w[1]).any()
    assert_same(w[[0, 2]], on_processor(fixed, moving[[0, 2]]))


def test_no_frames(cuda_backend):
    fixed, moving = scene(16, 20)
    assert cuda_backend().prepare(fixed, parameters()).displacements(moving[:0]).shape == (
        0,
        16,
        20,
        2,
    )
