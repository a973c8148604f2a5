"""What holds for the displacements of every flow backend, on every device it computes on."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pyflowreg.core.numerics import MIN_SIDE
from pyflowreg.errors import BackendError

from ..backends import ALL, INSTALLED, required
from ..unit.scenes import interior, seen

pytestmark = pytest.mark.backends

# As stage 1 has them, but faster.
STAGE1 = {"alpha": 1.5, "eta": 0.8, "a_smooth": 1.0, "update_lag": 5, "iterations": 20}
FAST = {"alpha": (1.5, 1.5), "eta": 0.6, "a_smooth": 1.0, "update_lag": 5, "iterations": 10}


@pytest.fixture(params=INSTALLED, ids=lambda choice: choice.id)
def backend(request):
    return required(request.param)


@pytest.mark.parametrize("choice", ALL, ids=lambda choice: choice.id)
def test_is_here(choice):
    """Skipped, with the reason, where it is not; fails where it has to be."""
    required(choice)


@pytest.fixture
def solver(backend):
    if not backend.solves:
        pytest.skip(f"{backend.id} has none of these settings")
    return backend


def stack(size, shift, channels):
    """Frame (H, W, C) whose channels show different scenes."""
    return np.stack([seen(*size, *shift, 10 * c) for c in range(channels)], axis=-1)


def error(w, dx, dy, border=8):
    """Mean end-point error inside, px."""
    return float(np.hypot(*np.moveaxis(interior(w, border) - (dx, dy), -1, 0)).mean())


def test_no_motion_gives_exactly_zero(backend):
    for frame in (seen(33, 40), np.random.default_rng(0).random((24, 31)), np.full((20, 24), 0.3)):
        assert not backend.displacement(frame, frame).any()


@pytest.mark.parametrize("numerics", ["standard", "matlab"])
@pytest.mark.parametrize("term", ["gc", "gray", "cs"])
@pytest.mark.parametrize("a_smooth", [1.0, 0.5])
def test_no_motion_with_any_equations(solver, numerics, term, a_smooth):
    frame = stack((30, 37), (0, 0), 2)
    how = {"const_assumption": term, "numerics": numerics, **FAST, "a_smooth": a_smooth}
    assert not solver.displacement(frame, frame, **how).any()


@pytest.mark.parametrize("shift", [(1, 0), (0, -2), (3, -2), (0.5, 0.25), (-1.4, 2.3)])
def test_a_shift_is_recovered(backend, shift):
    dx, dy = shift
    w = backend.displacement(seen(64, 72), seen(64, 72, -dx, -dy), **STAGE1)
    assert w.shape == (64, 72, 2)
    assert error(w, dx, dy) < (0.05 if backend.solves else 0.2)


@pytest.mark.parametrize("numerics", ["standard", "matlab"])
@pytest.mark.parametrize("term", ["gc", "gray", "cs"])
def test_every_data_term_and_profile(solver, numerics, term):
    how = {"const_assumption": term, "numerics": numerics}
    w = solver.displacement(seen(48, 56), seen(48, 56, -2, 1.5), **how, **STAGE1)
    assert error(w, 2, -1.5) < {"cs": 0.4}.get(term, 0.05)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (16, 64), (64, 16), (31, 48), (16, 150)])
def test_odd_small_and_elongated_frames(backend, size, channels):
    w = backend.displacement(
        stack(size, (0, 0), channels), stack(size, (-1, 1), channels), **STAGE1
    )
    assert w.shape == (*size, 2)
    assert w.dtype == np.float32
    assert np.abs(np.median(interior(w, 4), axis=(0, 1)) - (1, -1)).max() < 0.15


def test_the_smallest_frames(backend):
    size = (MIN_SIDE, MIN_SIDE + 3)
    w = backend.displacement(seen(*size), seen(*size, -0.5, 0))
    assert np.isfinite(w).all()


def test_double_precision(solver):
    w = solver.displacement(seen(32, 40), seen(32, 40, -1, 1), precision="double", **FAST)
    assert w.dtype == np.float64
    assert error(w, 1, -1) < 0.05


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("with_uv", [False, True])
def test_the_other_frames_change_nothing(backend, channels, with_uv):
    """Alone, in chunks of any length, with any number of threads, in two threads at a time."""
    size = (33, 47)
    frames = np.stack([stack(size, (d, -d / 2), channels) for d in np.linspace(-2, 3, 7)])
    uv = np.full((*size, 2), 0.3) if with_uv else None
    plan = backend.plan(stack(size, (0, 0), channels), **backend.settings(**FAST))
    alone = np.concatenate([plan.displacements(frame[None], uv) for frame in frames])
    assert np.abs(alone).max() > 1
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(plan.displacements(frames, uv, threads), alone)
    with ThreadPoolExecutor() as pool:
        parts = [pool.submit(plan.displacements, part, uv, 2) for part in np.split(frames, [3, 5])]
        np.testing.assert_array_equal(np.concatenate([part.result() for part in parts]), alone)


def test_a_frame_without_a_result_spoils_no_other(backend):
    """Such frames are refused by those who call a plan; what is computed beside them is right."""
    frames = np.stack([seen(32, 40, d)[..., None] for d in (0.5, -1, 2)])
    plan = backend.plan(seen(32, 40)[..., None], **backend.settings(**FAST))
    expected = plan.displacements(frames)
    frames[1] *= 1e14
    found = plan.displacements(frames)
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])


def test_no_frames(backend):
    plan = backend.plan(seen(24, 24)[..., None], **backend.settings(**FAST))
    assert plan.displacements(np.empty((0, 24, 24, 1))).shape == (0, 24, 24, 2)


def test_a_weight_of_0_hides_a_channel(backend):
    f1, f2 = (np.stack([seen(40, 44, d), seen(40, 44, -d, d, 9)], axis=-1) for d in (0, -2))
    w = backend.displacement(f1, f2, weight=[1, 0], **STAGE1)
    alone = backend.displacement(f1[..., 0], f2[..., 0], **STAGE1)
    np.testing.assert_allclose(w, alone, atol=1e-3)


def test_a_weight_map_hides_what_moves_otherwise(backend):
    f1, f2 = seen(48, 64), seen(48, 64, -2, 0)
    f2[:, 32:] = seen(48, 64, 2, 0)[:, 32:]
    weight = np.ones((48, 64))
    weight[:, 30:] = 0
    if not backend.solves:
        with pytest.raises(BackendError, match=r"weight is a map .* one number per channel"):
            backend.displacement(f1, f2, weight=weight)
        return
    w = backend.displacement(f1, f2, weight=weight, **STAGE1)
    assert np.abs(np.median(w[8:-8, 40:-8, 0]) - 2) < 0.3


def test_an_initial_field_helps(backend):
    f1, f2 = seen(48, 56), seen(48, 56, -9, 5)
    start = np.broadcast_to((8.5, -5.0), (48, 56, 2))
    how = {**STAGE1, "levels": 2}
    blind = backend.displacement(f1, f2, **how)
    led = backend.displacement(f1, f2, uv=start, **how)
    assert error(led, 9, -5) < 0.5
    assert error(led, 9, -5) < 0.2 * error(blind, 9, -5)


def test_an_initial_field_that_differs_from_place_to_place(backend):
    y, x = np.mgrid[:40, :48]
    start = np.stack([2 + 0.02 * x, -1 - 0.02 * y], axis=-1)
    w = backend.displacement(seen(40, 48), seen(40, 48, -2.5, 1.5), uv=start, **STAGE1)
    assert error(w, 2.5, -1.5) < (0.1 if backend.solves else 0.3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["fixed", "moving", "uv"])
def test_values_that_are_not_finite_are_refused(backend, name, value):
    arrays = {"fixed": seen(16, 16), "moving": seen(16, 16), "uv": np.zeros((16, 16, 2))}
    arrays[name][3, 4] = value
    with pytest.raises(ValueError, match=f"{name} contains NaN or infinite"):
        backend.displacement(**arrays)


def test_nothing_given_is_changed(backend):
    arrays = [seen(24, 24), seen(24, 24, 1), np.full((24, 24, 2), 0.5)]
    before = [array.copy() for array in arrays]
    backend.displacement(arrays[0], arrays[1], uv=arrays[2])
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("dtype", ["float32", "float16", ">f8", "uint8"])
def test_any_real_type_and_memory_order(backend, dtype):
    f1, f2 = (np.rint(200 * seen(24, 30, d)).astype(dtype) for d in (0, 1))
    scaled = [frame.astype(float) / 256 if dtype == "uint8" else frame for frame in (f1, f2)]
    expected = backend.displacement(*(np.ascontiguousarray(frame) for frame in scaled))
    strided = np.asfortranarray(np.repeat(scaled[1], 2, axis=1))[:, ::2]
    np.testing.assert_array_equal(
        backend.displacement(np.asfortranarray(scaled[0]), strided), expected
    )
    assert not backend.displacement(f1, f1).any()
