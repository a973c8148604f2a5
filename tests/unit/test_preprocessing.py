"""Smoothing and intensity scales."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pyflowreg.motion_correction.frames import FrameRange
from pyflowreg.motion_correction.preprocessing import (
    Preprocessor,
    RangeFinder,
    Scale,
    gaussian,
    gaussian_kernel,
    robust_scale,
    temporal_radius,
)
from pyflowreg.motion_correction.rigid import integer_shift, rigid_shift
from pyflowreg.motion_correction.statistics import ChannelMoments, RunningMean, frame_statistics

from .scenes import movie, seen, wobble

SIGMA = np.array([[1.0, 2.0, 0.7], [0.0, 0.0, 0.0]])


def test_channels_are_smoothed_apart():
    frames = movie(wobble(5), (20, 24), channels=2, dtype="float64")
    smooth = gaussian(frames, SIGMA)
    radius = tuple(np.ceil(2 * SIGMA[0, [2, 0, 1]]).astype(int))
    expected = gaussian_filter(frames[..., 0], SIGMA[0, [2, 0, 1]], mode="nearest", radius=radius)
    np.testing.assert_allclose(smooth[..., 0], expected, atol=1e-12)
    np.testing.assert_array_equal(smooth[..., 1], frames[..., 1])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_integers_stay_integers(dtype):
    frames = movie(wobble(3), (16, 18), dtype=dtype)
    smooth = gaussian(frames, SIGMA[:1])
    assert smooth.dtype == dtype
    exact = gaussian(frames.astype(float), SIGMA[:1])
    assert np.abs(smooth - exact).max() <= 0.51


def test_the_default_looks_at_no_other_frame():
    assert temporal_radius(np.array([[1, 1, 0.1]])) == 0
    assert gaussian_kernel(0.1).tolist() == [1]
    assert temporal_radius(SIGMA) == 2


def test_the_range_is_joint_or_of_each_channel():
    frames = np.stack([np.linspace(0, 1, 48), np.linspace(5, 25, 48)], axis=-1).reshape(2, 4, 6, 2)
    for joint, low, high in ((True, [0, 0], [25, 25]), (False, [0, 5], [1, 25])):
        found = RangeFinder(2, joint)
        for frame in frames:
            found.add(frame[None])
        scale = found.scale(clip=False)
        np.testing.assert_allclose((scale.low, scale.high), (low, high))
    np.testing.assert_allclose(scale(frames, "float64").min(axis=(0, 1, 2)), 0)
    assert scale(frames, "float32").dtype == np.float32


@pytest.mark.parametrize("clip", [False, True])
def test_constant_intensities_are_not_stretched(clip):
    scaled = Scale(np.array([7.0]), np.array([7.0]), clip)(np.full((2, 4, 4, 1), 7), "float32")
    assert np.isfinite(scaled).all()
    assert np.ptp(scaled) == 0


def test_a_hot_pixel_does_not_change_the_robust_scale():
    image = seen(48, 48)[..., None]
    hot = image.copy()
    hot[3, 4] = 1000
    clean, with_hot = robust_scale(image, joint=True), robust_scale(hot, joint=True)
    assert np.abs(with_hot.high - clean.high).max() < 0.05
    apart = robust_scale(np.concatenate([image, 10 * image], axis=-1), joint=False)
    np.testing.assert_allclose(apart.high[1], 10 * apart.high[0])


@pytest.mark.parametrize("fixed_range", [True, False], ids=["standard", "matlab"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_chunks_change_nothing(chunk, fixed_range):
    frames = movie(wobble(7), (16, 18), channels=2)
    sigma = np.array([[1, 1, 0.9], [1, 1, 0.4]])
    scale = Scale(np.zeros(2), np.full(2, 4000.0)) if fixed_range else None
    found = []
    for size in (chunk, 7):
        preprocess = Preprocessor(sigma, "float32", True, size, scale)
        parts = list(preprocess.chunks(FrameRange(7, lambda a, b: frames[a:b])))
        assert [start for start, _, _ in parts] == list(range(0, 7, size))
        np.testing.assert_array_equal(np.concatenate([raw for _, raw, _ in parts]), frames)
        found.append(np.concatenate([smooth for _, _, smooth in parts]))
    np.testing.assert_array_equal(*found)


def spots(dx, dy):
    y, x = np.mgrid[:48, :56]
    places = [(20, 20), (30, 26), (24, 34)]
    return sum(np.exp(-((x - a - dx) ** 2 + (y - b - dy) ** 2) / 8) for a, b in places)


SHIFTS = pytest.mark.parametrize("shift", [(0, 0), (7, -5), (-12, 3)])


@SHIFTS
@pytest.mark.parametrize("noise", [0, 0.1])
def test_a_rigid_jump_is_found(shift, noise):
    dx, dy = shift
    rng = np.random.default_rng(0)
    fixed, moving = (
        image + noise * rng.standard_normal(image.shape)
        for image in (seen(48, 56), seen(48, 56, -dx, -dy))
    )
    np.testing.assert_allclose(rigid_shift(fixed, moving, 4), shift, atol=0.5)


@SHIFTS
def test_the_original_finds_it_where_structure_is_bright_on_black(shift):
    found = integer_shift(spots(0, 0)[..., None], spots(*shift)[..., None])
    np.testing.assert_array_equal(found, shift)


def test_constant_frames_have_no_rigid_shift():
    flat, textured = np.full((20, 30, 1), 0.3), seen(20, 30)[..., None]
    for pair in ((flat, flat), (flat, textured), (textured, flat)):
        assert not integer_shift(*pair).any()
        assert not rigid_shift(*(image[..., 0] for image in pair), 4).any()


def test_statistics_of_known_fields():
    y, x = np.mgrid[:10, :12].astype(float)
    assert frame_statistics(np.zeros((10, 12, 2))) == (0, 0, 0, 0)
    shift = frame_statistics(np.broadcast_to((3.0, -4.0), (10, 12, 2)))
    np.testing.assert_allclose(shift, (5, 5, 0, 5))
    growth = frame_statistics(np.stack([0.1 * (x - 5.5), 0.1 * (y - 4.5)], axis=-1))
    inside = 0.1 * 8 * 2
    assert 0.8 * inside < growth[2] <= inside
    assert growth[3] == pytest.approx(0, abs=1e-12)


def test_running_numbers_are_those_of_the_whole():
    frames = movie(wobble(6), (8, 9), channels=2)
    mean, moments = RunningMean(), ChannelMoments(2)
    for frame in frames:
        mean.add(frame)
        moments.add(frame)
    np.testing.assert_allclose(mean.mean(), frames.mean(axis=0))
    values = frames.reshape(-1, 2)
    np.testing.assert_allclose(moments.mean, values.mean(axis=0))
    np.testing.assert_allclose(moments.std, values.std(axis=0, ddof=1))
