"""The fused passes over frames give what their parts give."""

import numpy as np
import pytest
from scipy.ndimage import correlate1d, sobel

from pyflowreg.core.frame_warp import field_statistics, warp_frames
from pyflowreg.core.numerics import to_dtype
from pyflowreg.core.warping import compute_batch_valid_masks, warp_frame
from pyflowreg.motion_correction.preprocessing import Scale, gaussian, gaussian_kernel
from pyflowreg.motion_correction.statistics import RunningMean


def random_frames(shape, dtype, seed=0):
    values = np.random.default_rng(seed).random(shape) * 300 - (20 if dtype == "int16" else 0)
    return values.astype(dtype)


def rough_fields(shape, dtype=np.float32):
    """Displacements that leave the frame, lie on pixels, half way between, and on the border."""
    fields = np.random.default_rng(1).standard_normal((*shape, 2)) * 3
    fields[:, 2] = np.round(fields[:, 2])
    fields[:, 3] = np.round(fields[:, 3]) + 0.5
    fields[:, 4] = 0
    fields[:, :, -1, 0] = 0
    return fields.astype(dtype)


@pytest.mark.parametrize("size", [(9, 70), (13, 64)])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("stored", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("result", [None, "uint8", "float32", "float64"])
def test_warped_frames(size, channels, stored, result):
    frames = random_frames((3, *size, channels), stored)
    fields = rough_fields((3, *size))
    fill = random_frames((*size, channels), "float64", 2)
    dtype = np.dtype(result or stored)
    warped = warp_frames(frames, fields, fill, dtype, threads=2)
    converted = to_dtype(frames, dtype)
    expected = [
        to_dtype(warp_frame(frame, w, fill), dtype)
        for frame, w in zip(converted, fields, strict=True)
    ]
    assert warped.frames.dtype == dtype
    if dtype.kind == "f":
        np.testing.assert_allclose(warped.frames, expected, rtol=1e-6, atol=1e-4)
    else:
        np.testing.assert_array_equal(warped.frames, expected)
    np.testing.assert_array_equal(warped.valid, compute_batch_valid_masks(fields))


@pytest.mark.parametrize("shift", [-1, -0.4, 0, 0.3, 2.5, 3])
def test_the_smallest_frame(shift):
    frame, w = random_frames((4, 4, 1), "float64"), np.full((4, 4, 2), shift)
    warped = warp_frames(frame[None], w, -frame, np.float64).frames[0]
    np.testing.assert_allclose(warped, warp_frame(frame, w, -frame), rtol=1e-12)


def test_halves_are_rounded_away_from_zero_and_types_saturate():
    frames = np.zeros((1, 6, 6, 1), np.int16)
    frames[0, :, 3:] = 1
    half = np.full((1, 6, 6, 2), (0.5, 0), np.float32)
    for sign in (1, -1):
        found = warp_frames(frames * sign, half, np.zeros((6, 6, 1)), np.int16).frames
        assert (found[0, :, 2, 0] == sign).all()
    steep = np.zeros((1, 8, 8, 1), np.uint8)
    steep[0, :, 4:] = 255
    found = warp_frames(steep, np.full((1, 8, 8, 2), (0.5, 0)), np.zeros((8, 8, 1)), np.uint8)
    assert set(np.unique(found.frames[0, :, [2, 4], 0])) == {0, 255}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_of_a_field(dtype):
    w = rough_fields((1, 11, 70), dtype)[0]
    u, v = w.astype(np.float64).transpose(2, 0, 1)
    divergence = sobel(u, axis=1, mode="nearest") + sobel(v, axis=0, mode="nearest")
    length = np.hypot(u, v)
    expected = (length.mean(), length.max(), divergence.mean(), np.hypot(u.mean(), v.mean()))
    np.testing.assert_allclose(field_statistics(w), expected, rtol=1e-12)
    for value in (np.nan, np.inf):
        w[3, 5, 1] = value
        assert not np.isfinite(field_statistics(w)[0])


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize("size", [(3, 5), (20, 33)])
def test_smoothing_is_correlation_with_replicated_borders(size, dtype):
    sigma = np.array([[1, 1, 0.1], [2, 0.2, 0.7], [0.1, 3, 1.2]])
    frames = random_frames((4, *size, 3), dtype)
    expected = frames.astype(np.float32 if dtype == "uint16" else dtype)
    for channel, widths in enumerate(sigma):
        for axis, width in zip((1, 2, 0), widths, strict=True):
            expected[..., channel] = correlate1d(
                expected[..., channel], gaussian_kernel(width), axis=axis, mode="nearest"
            )
    np.testing.assert_array_equal(gaussian(frames, sigma), to_dtype(expected, frames.dtype))


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("constant", [None, np.array([np.nan, 7.0])])
def test_scaling_and_smoothing_at_once(clip, constant):
    frames = random_frames((5, 9, 12, 2), "uint16")
    sigma = np.array([[1, 1, 0.8], [0.5, 2, 0.1]])
    scale = Scale(np.array([10.0, 5]), np.array([250.0, 200]), clip, constant)
    expected = gaussian(scale(frames, np.float32), sigma)
    for threads in (1, 3):
        found = scale.smoothed(frames, sigma, np.float32, range(1, 4), threads)
        np.testing.assert_array_equal(found, expected[1:4])


def test_a_mean_does_not_depend_on_the_blocks():
    frames = random_frames((7, 40, 41, 2), "float32")
    blocks, single = RunningMean(), RunningMean()
    for start in range(0, 7, 3):
        blocks.add_all(frames[start : start + 3])
    for frame in frames:
        single.add(frame)
    np.testing.assert_array_equal(blocks.mean(), single.mean())
    np.testing.assert_allclose(blocks.mean(), frames.mean(axis=0, dtype=np.float64))
