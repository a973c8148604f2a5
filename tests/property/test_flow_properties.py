"""What holds for the displacement of any two frames."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflowreg.core.backend_registry import get_backend
from pyflowreg.core.motion_tensor import motion_tensor
from pyflowreg.core.optical_flow import get_displacement
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.errors import BackendError, ConfigError

from ..unit.scenes import interior, seen
from .strategies import frames_of

FEW = settings(max_examples=12, deadline=None)
TERMS = ("gc", "gray", "cs")
PROFILES = ("standard", "matlab")
# As stage 1 has them, but faster.
STAGE1 = {"alpha": 1.5, "eta": 0.8, "a_smooth": 1.0, "update_lag": 5, "iterations": 30}


def error(w, dx, dy):
    """Mean end-point error inside, px."""
    return float(np.hypot(*np.moveaxis(interior(w) - (dx, dy), -1, 0)).mean())


@given(frames_of(min_side=16, max_side=40), st.sampled_from(PROFILES), st.sampled_from(TERMS))
@FEW
def test_no_motion_gives_exactly_zero(frame, numerics, term):
    w = get_displacement(frame, frame, numerics=numerics, const_assumption=term)
    assert w.shape == (*frame.shape[:2], 2)
    assert not w.any()


def allowed_error(term, dx, dy):
    """The census changes by steps: where less than a pixel moves, most of it stays the same."""
    return 0.1 + 0.7 * float(np.hypot(dx, dy)) ** 0.5 if term == "cs" else 0.15


@given(st.floats(-4, 4), st.floats(-4, 4), st.sampled_from(TERMS), st.integers(0, 5))
@FEW
def test_a_shift_is_recovered(dx, dy, term, seed):
    w = get_displacement(
        seen(48, 56, seed=seed), seen(48, 56, -dx, -dy, seed), const_assumption=term, **STAGE1
    )
    assert error(w, dx, dy) < allowed_error(term, dx, dy)


@pytest.mark.parametrize("numerics", PROFILES)
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("shift", [(3, -2), (0.4, 0.3)])
def test_every_data_term_and_profile_recovers_a_shift(numerics, term, shift):
    dx, dy = shift
    w = get_displacement(
        seen(48, 56), seen(48, 56, -dx, -dy), const_assumption=term, numerics=numerics, **STAGE1
    )
    assert error(w, dx, dy) < {"cs": 0.4}.get(term, 0.05)


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (16, 64), (64, 16), (31, 48)])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_odd_small_and_elongated_frames(size, channels, precision):
    pair = [
        np.stack([seen(*size, d, -d, 10 * c) for c in range(channels)], axis=-1) for d in (0, -1)
    ]
    w = get_displacement(*pair, precision=precision, **STAGE1)
    assert w.dtype == {"single": np.float32, "double": np.float64}[precision]
    assert w.flags.c_contiguous
    border = 4
    assert np.abs(np.median(interior(w, border), axis=(0, 1)) - (1, -1)).max() < 0.15


@given(st.integers(2, 5), st.integers(0, 3))
@settings(max_examples=5, deadline=None)
def test_threads_change_nothing(threads, seed):
    frames = np.stack([seen(32, 40, d, -d, seed) for d in (0.5, 1, -2, 3)])[..., None]
    plan = get_backend("flowreg").prepare(seen(32, 40, seed=seed)[..., None], FlowParameters())
    alone = [plan.displacements(frame[None])[0] for frame in frames]
    np.testing.assert_array_equal(plan.displacements(frames, threads=threads), alone)


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_channels_in_another_order(channels, precision):
    weights = [0.5, 0.3, 0.2][:channels]
    order = [*range(1, channels), 0]
    f1, f2 = (
        np.stack([seen(40, 44, d, d / 2, 20 * c) for c in range(channels)], axis=-1)
        for d in (0, -2)
    )
    options = {"a_data": 0.45, "precision": precision}
    w = get_displacement(f1, f2, weight=weights, **options)
    other = get_displacement(
        f1[..., order], f2[..., order], weight=[weights[k] for k in order], **options
    )
    # Only the order of additions differs.
    tolerance = {"single": 2e-2, "double": 1e-6}[precision]
    np.testing.assert_allclose(w, other, atol=tolerance)


@pytest.mark.parametrize("numerics", PROFILES)
def test_a_channel_of_weight_0_does_not_count(numerics):
    f1, f2 = (np.stack([seen(40, 44, d), seen(40, 44, -d, d, 9)], axis=-1) for d in (0, -2))
    w = get_displacement(f1, f2, weight=[1, 0], numerics=numerics, precision="double")
    alone = get_displacement(f1[..., 0], f2[..., 0], numerics=numerics, precision="double")
    np.testing.assert_allclose(w, alone, atol=1e-6)


# The solver sweeps in one direction and is not iterated to the end, so that mirrored or transposed
# frames give nearly, not exactly, the mirrored or transposed field.
@pytest.mark.parametrize("size", [(40, 40), (32, 48)])
@pytest.mark.parametrize("how", ["left-right", "up-down", "transposed"])
def test_mirrored_frames_give_the_mirrored_field(size, how):
    f1, f2 = seen(*size), seen(*size, -1.5, 1)
    w = get_displacement(f1, f2, **{**STAGE1, "iterations": 100})
    turn = {"left-right": np.fliplr, "up-down": np.flipud, "transposed": np.transpose}[how]
    turned = get_displacement(turn(f1), turn(f2), **{**STAGE1, "iterations": 100})
    u, v = turn(w[..., 0]), turn(w[..., 1])
    expected = {"left-right": (-u, v), "up-down": (u, -v), "transposed": (v, u)}[how]
    difference = np.abs(turned - np.stack(expected, axis=-1))
    assert interior(difference, 6).mean() < 0.05


def test_more_sweeps_are_no_worse():
    f1, f2 = seen(48, 48), seen(48, 48, -1.7, 0.8)
    options = {key: value for key, value in STAGE1.items() if key != "iterations"}
    errors = [
        error(get_displacement(f1, f2, iterations=n, **options), 1.7, -0.8) for n in (5, 20, 80)
    ]
    assert errors[2] <= errors[0] + 0.01
    assert errors[1] <= errors[0] + 0.01


@pytest.mark.parametrize("numerics", PROFILES)
def test_an_initial_field_helps_where_the_pyramid_is_too_low(numerics):
    f1, f2 = seen(48, 56), seen(48, 56, -9, 5)
    options = {**STAGE1, "levels": 2, "numerics": numerics}
    start = np.broadcast_to((8.5, -5.0), (48, 56, 2))
    blind = get_displacement(f1, f2, **options)
    led = get_displacement(f1, f2, uv=start, **options)
    assert error(led, 9, -5) < 0.5
    assert error(led, 9, -5) < 0.2 * error(blind, 9, -5)


def test_the_true_initial_field_stays():
    start = np.broadcast_to((3.0, -2.0), (40, 48, 2))
    w = get_displacement(seen(40, 48), seen(40, 48, -3, 2), uv=start)
    assert error(w, 3, -2) < 0.05


@pytest.mark.parametrize("shape", ["(H, W)", "(H, W, C)"])
def test_a_weight_map_of_ones_is_a_weight_of_one(shape):
    f1, f2 = seen(32, 40), seen(32, 40, -1, 1)
    ones = np.ones((32, 40) if shape == "(H, W)" else (32, 40, 1))
    w = get_displacement(f1, f2, weight=ones, precision="double")
    np.testing.assert_allclose(w, get_displacement(f1, f2, precision="double"), atol=1e-7)


def test_a_weight_map_hides_what_moves_otherwise():
    f1, f2 = seen(48, 64), seen(48, 64, -2, 0)
    f2[:, 32:] = seen(48, 64, 2, 0)[:, 32:]
    weight = np.ones((48, 64))
    weight[:, 30:] = 0
    w = get_displacement(f1, f2, weight=weight, **STAGE1)
    assert np.abs(np.median(w[8:-8, 40:-8, 0]) - 2) < 0.3
    assert np.median(get_displacement(f1, f2, **STAGE1)[8:-8, 40:-8, 0]) < -1


@given(frames_of(min_side=8, max_side=20), st.floats(0.3, 3), st.floats(0.3, 3))
@FEW
def test_the_tensor_is_symmetric_and_positive(frame, hx, hy):
    moving = np.ascontiguousarray(frame[::-1])
    for term in TERMS:
        J = motion_tensor(frame, moving, hx, hy, term)
        assert np.isfinite(J).all()
        j11, j22, j33, j12, j13, j23 = J
        matrix = np.stack(
            [np.stack(r) for r in ((j11, j12, j13), (j12, j22, j23), (j13, j23, j33))]
        )
        smallest = np.linalg.eigvalsh(np.moveaxis(matrix, (0, 1), (-2, -1))).min()
        assert smallest >= -1e-9 * max(1.0, float(np.abs(J).max()))


@pytest.mark.parametrize("numerics", PROFILES)
@pytest.mark.parametrize("term", TERMS)
def test_constant_frames_do_not_move(numerics, term):
    options = {"numerics": numerics, "const_assumption": term}
    flat = np.full((24, 32), 0.5)
    assert not get_displacement(flat, flat, **options).any()
    for pair in ((flat, seen(24, 32)), (seen(24, 32), flat), (flat, flat + 0.25)):
        assert np.isfinite(get_displacement(*pair, **options)).all()


@given(st.sampled_from(["fixed", "moving", "uv"]), st.sampled_from([np.nan, np.inf, -np.inf]))
@FEW
def test_values_that_are_not_finite_are_refused(name, value):
    arrays = {"fixed": seen(16, 16), "moving": seen(16, 16), "uv": np.zeros((16, 16, 2))}
    arrays[name][3, 4] = value
    with pytest.raises(ValueError, match=f"{name} contains NaN or infinite"):
        get_displacement(arrays["fixed"], arrays["moving"], uv=arrays["uv"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", 0),
        ("alpha", "abc"),
        ("alpha", (1, 2, 3)),
        ("alpha", float("inf")),
        ("levels", -1),
        ("levels", 2.5),
        ("eta", 1),
        ("eta", float("nan")),
        ("eta", None),
        ("iterations", 0),
        ("iterations", 10.5),
        ("update_lag", 0),
        ("a_data", 1.5),
        ("a_data", [0.4, 0.4]),
        ("a_smooth", "x"),
        ("min_level", -1),
        ("weight", -1),
        ("weight", [1, 1]),
        ("weight", "x"),
        ("weight", np.ones((3, 3))),
        ("uv", np.zeros((16, 16))),
        ("const_assumption", "grey"),
        ("const_assumption", ["gc"]),
        ("numerics", "octave"),
        ("precision", "half"),
    ],
)
def test_parameters_that_are_refused_are_named(name, value):
    frame = seen(16, 16)
    with pytest.raises(ValueError, match=rf"\b{name} (is|has)\b"):
        get_displacement(frame, frame, **{name: value})


def test_frames_that_do_not_fit():
    frame = seen(16, 16)
    for other in (frame[:, :15], np.stack([frame, frame], axis=-1)):
        with pytest.raises(ValueError, match=r"fixed has shape .* moving"):
            get_displacement(frame, other)
    with pytest.raises(ValueError, match="at least 8 pixels"):
        get_displacement(frame[:7], frame[:7])
    with pytest.raises(BackendError, match="Did you mean flowreg"):
        get_displacement(frame, frame, backend="flowrge")
    assert issubclass(ConfigError, ValueError)


def test_nothing_given_is_changed():
    arrays = [seen(24, 24), seen(24, 24, 1), np.full((24, 24, 2), 0.5), np.ones((24, 24))]
    before = [array.copy() for array in arrays]
    get_displacement(arrays[0], arrays[1], uv=arrays[2], weight=arrays[3], precision="double")
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("dtype", ["float32", "float16", ">f8", "uint8", "bool"])
def test_any_real_type_of_frame(dtype):
    f1, f2 = (frame > 0.5 if dtype == "bool" else frame for frame in (seen(24, 24), seen(24, 24)))
    w = get_displacement(f1.astype(dtype), f2.astype(dtype))
    assert w.dtype == np.float32
    assert not w.any()


def test_frames_in_any_memory_order():
    f1, f2 = seen(32, 40), seen(32, 40, 1, 1)
    expected = get_displacement(f1, f2)
    strided = np.asfortranarray(np.repeat(f2, 2, axis=1))[:, ::2]
    np.testing.assert_array_equal(get_displacement(np.asfortranarray(f1), strided), expected)
