"""What holds for the warp of any frames, and for the way back to integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyflowreg.core.numerics import to_dtype
from pyflowreg.core.warping import (
    align_sequence,
    backward_valid_mask,
    compute_batch_valid_masks,
    imregister_binary,
    warp_frame,
    warp_sequence,
)

from ..unit.scenes import interior, seen
from .strategies import movies

QUICK = settings(max_examples=30, deadline=None)
KERNELS = ("cubic", "linear", "nearest")
INTEGERS = ("uint8", "uint16", "int16")
SIZES = st.tuples(st.integers(4, 12), st.integers(4, 12))


def fields(size, reach=20.0, scale=1):
    elements = st.floats(-reach, reach, width=32)
    return hnp.arrays(np.float64, (*size, 2), elements=elements).map(lambda w: w * scale)


def integer_values(dtype):
    info = np.iinfo(dtype)
    return st.floats(info.min - 1000.0, info.max + 1000.0) | st.sampled_from(
        [info.min - 0.5, info.max + 0.5, info.max - 0.5, 0.5, -0.5, 0.49999999999999994, 1e300]
    )


@given(st.data(), st.sampled_from(INTEGERS))
@QUICK
def test_integers_are_rounded_and_saturate(data, dtype):
    values = data.draw(hnp.arrays(np.float64, 20, elements=integer_values(dtype)))
    info = np.iinfo(dtype)
    result = to_dtype(values, dtype)
    assert result.dtype == dtype
    away = [int(abs(v) // 1 + (abs(v) % 1 >= 0.5)) * (1 if v >= 0 else -1) for v in values]
    np.testing.assert_array_equal(result, np.clip(np.array(away, dtype=object), info.min, info.max))


@given(movies(dtypes=("uint8", "uint16", "int16")), st.sampled_from(INTEGERS))
@QUICK
def test_integers_in_other_integers_saturate(frames, dtype):
    info = np.iinfo(dtype)
    expected = np.clip(frames.astype(np.int64), info.min, info.max)
    np.testing.assert_array_equal(to_dtype(frames, dtype), expected)


@given(movies(), st.sampled_from(KERNELS), st.integers(1, 3))
@QUICK
def test_a_warp_by_zero_is_the_identity_to_the_bit(frames, kernel, threads):
    if min(frames.shape[1:3]) < 4:
        frames = np.pad(frames, ((0, 0), (0, 4), (0, 4), (0, 0)), mode="edge")
    # Values near the largest float overflow in any arithmetic.
    if frames.dtype.kind == "f":
        frames = np.clip(frames, -1e30, 1e30)
    still = np.zeros((*frames.shape[1:3], 2))
    fill = np.full(frames.shape[1:], 7.0)
    warped = warp_sequence(frames, still, fill, kernel, threads)
    assert warped.dtype == frames.dtype
    np.testing.assert_array_equal(warped, frames)


@given(st.data(), SIZES, st.sampled_from(KERNELS))
@QUICK
def test_every_pixel_is_a_sample_or_the_fill(data, size, kernel):
    w = data.draw(fields(size))
    frame = np.random.default_rng(0).random((*size, 2))
    warped = warp_frame(frame, w, np.full((*size, 2), 9.0), kernel)
    valid = backward_valid_mask(w[..., 0], w[..., 1])
    assert (warped[~valid] == 9).all()
    # Cubic overshoots, but not as far as the fill.
    assert (np.abs(warped[valid]) < 4).all()
    if kernel != "cubic":
        assert frame.min() <= warped[valid].min(initial=1)
        assert warped[valid].max(initial=0) <= frame.max()


@given(st.data(), SIZES)
@QUICK
def test_valid_is_the_closed_box(data, size):
    w = data.draw(fields(size) | fields(size, 3, 4).map(np.round))
    y, x = np.mgrid[: size[0], : size[1]]
    inside = (
        (x + w[..., 0] >= 0)
        & (x + w[..., 0] <= size[1] - 1)
        & (y + w[..., 1] >= 0)
        & (y + w[..., 1] <= size[0] - 1)
    )
    np.testing.assert_array_equal(backward_valid_mask(w[..., 0], w[..., 1]), inside)
    batch = compute_batch_valid_masks(np.stack([w, np.zeros_like(w)]))
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, np.stack([inside, np.ones_like(inside)]) * 255)


@given(st.data(), SIZES)
@QUICK
def test_a_warped_mask_is_inside_the_box_and_shrinks_with_the_mask(data, size):
    w = data.draw(fields(size))
    larger = data.draw(hnp.arrays(bool, size))
    smaller = larger & data.draw(hnp.arrays(bool, size))
    u, v = w[..., 0], w[..., 1]
    a, b = imregister_binary(smaller, u, v), imregister_binary(larger, u, v)
    assert a.dtype == bool
    assert not (a & ~b).any()
    assert not (b & ~backward_valid_mask(u, v)).any()
    np.testing.assert_array_equal(imregister_binary(np.ones(size), u, v), backward_valid_mask(u, v))


@given(st.integers(-5, 5), st.integers(-5, 5), st.sampled_from(["uint16", "float32", "float64"]))
@QUICK
def test_whole_pixels_move_without_interpolation(dx, dy, dtype):
    frame = (seen(20, 24) * 1000).astype(dtype)[..., None]
    warped = warp_frame(frame, np.broadcast_to((float(dx), float(dy)), (20, 24, 2)), frame * 0)
    y, x = np.mgrid[:20, :24]
    valid = (x + dx >= 0) & (x + dx < 24) & (y + dy >= 0) & (y + dy < 20)
    expected = np.where(valid, frame[np.clip(y + dy, 0, 19), np.clip(x + dx, 0, 23), 0], 0)
    np.testing.assert_array_equal(warped[..., 0], expected)


@given(st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 4))
@QUICK
def test_a_scene_is_seen_from_elsewhere(dx, dy, seed):
    frame = seen(32, 36, seed=seed)[..., None]
    warped = warp_frame(frame, np.broadcast_to((dx, dy), (32, 36, 2)), frame)
    error = interior(warped - seen(32, 36, dx, dy, seed)[..., None], 4)
    assert np.abs(error).max() < 0.02


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.integers(0, 4))
@QUICK
def test_two_warps_are_nearly_the_warp_by_their_composition(a, b, seed):
    y, x = np.mgrid[:40, :44]
    w1 = np.stack([a + 0.5 * np.sin(y / 9), b + 0.5 * np.cos(x / 9)], axis=-1)
    w2 = np.stack([b + 0.5 * np.cos(x / 7), a + 0.5 * np.sin(y / 7)], axis=-1)
    frame = seen(40, 44, seed=seed)[..., None]
    twice = warp_frame(warp_frame(frame, w1, frame), w2, frame)
    composed = w2 + warp_frame(w1, w2, w1)
    once = warp_frame(frame, composed, frame)
    assert np.abs(interior(twice - once, 8)).max() < 0.03


@given(movies(dtypes=("uint8", "uint16", "int16", "float32")), st.integers(1, 4), st.data())
@QUICK
def test_chunks_and_threads_change_nothing(frames, threads, data):
    frames = np.pad(frames, ((0, 0), (0, 4), (0, 4), (0, 0)), mode="edge")
    if frames.dtype.kind == "f":
        frames = np.clip(frames, -1e6, 1e6)
    w = data.draw(fields(frames.shape[1:3], 3))
    reference = frames.mean(axis=0, dtype=np.float64)
    whole = align_sequence(frames, w, reference, n_workers=threads)
    assert whole.shape == frames.shape
    assert whole.dtype == frames.dtype
    cut = data.draw(st.integers(0, len(frames)))
    parts = [align_sequence(part, w, reference) for part in (frames[:cut], frames[cut:])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(
        align_sequence(frames[..., 0], w, reference[..., 0]), whole[..., 0]
    )


@pytest.mark.parametrize("dtype", INTEGERS)
def test_overshoot_of_the_cubic_kernel_saturates(dtype):
    info = np.iinfo(dtype)
    frames = np.full((2, 16, 16, 1), info.min, dtype)
    frames[:, :, 8:] = info.max
    w = np.broadcast_to((0.5, 0.0), (16, 16, 2))
    warped = align_sequence(frames, w, frames[0].astype(float))
    exact = warp_frame(frames[0].astype(float), w, frames[0].astype(float))
    assert exact.max() > info.max
    assert exact.min() < info.min
    rounded = np.trunc(exact + np.copysign(0.5, exact))
    np.testing.assert_array_equal(warped[1], np.clip(rounded, info.min, info.max))
