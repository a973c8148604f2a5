"""The motion correction of one recording: is motion removed, and nothing else."""

import numpy as np
import pytest

from pyflowreg.errors import ConfigError

from .scenes import interior, movie, remaining, scatter, wobble

BOTH = pytest.mark.parametrize("numerics", ["standard", "matlab"])


@BOTH
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_motion_is_removed(correct, numerics, channels):
    shifts = wobble(8)
    raw = movie(shifts, channels=channels)
    result = correct(raw, numerics=numerics, output_typename="input")
    assert result.frames.shape == raw.shape
    assert result.frames.dtype == np.uint16
    assert scatter(result.frames) < 0.12 * scatter(raw)
    assert remaining(result, shifts) < {"standard": 0.1, "matlab": 0.15}[numerics]


def test_samples_outside_take_the_reference_and_are_marked(correct):
    raw = movie([(0, 0), (0, 0), (6, 0)], dtype="float32")
    result = correct(raw, reference_frames=0, output_typename="input")
    outside = result.valid[2] == 0
    # Frame 2 looks 6 px to the right, so its left 6 columns are not in it.
    assert outside[:, :4].all()
    assert not outside[4:-4, 10:-4].any()
    np.testing.assert_array_equal(
        result.frames[2, ..., 0][outside], result.reference[..., 0][outside].astype(np.float32)
    )
    u, v = result.w[..., 0], result.w[..., 1]
    y, x = np.mgrid[:40, :48]
    inside = (x + u >= 0) & (x + u <= 47) & (y + v >= 0) & (y + v <= 39)
    np.testing.assert_array_equal(result.valid > 0, inside)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("channels", [1, 2])
def test_still_recordings_stay_as_they_are(correct, precision, dtype, channels):
    raw = np.repeat(movie([(0, 0)], dtype=dtype, channels=channels), 5, axis=0)
    result = correct(raw, precision=precision, output_typename="input", reference_frames=2)
    assert not result.w.any()
    np.testing.assert_array_equal(result.frames, raw)
    assert (result.valid == 255).all()


def test_still_recordings_hardly_move_in_the_original_numerics(correct):
    """It rounds the reference, and scales frames twice."""
    raw = np.repeat(movie([(0, 0)]), 5, axis=0)
    result = correct(raw, numerics="matlab", reference_frames=2)
    assert np.abs(result.w).max() < 0.01
    assert np.abs(result.frames - raw).max() < 10


@BOTH
@pytest.mark.parametrize("levels", [(7, 7), (7, 30), (0, 0), (0.1, 0.7)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cc_initialization": True},
        {"update_reference": True, "buffer_size": 2},
        {"reference_frames": 1, "channel_normalization": "separate"},
        {"precision": "double", "quality_setting": "quality", "sigma": [2, 2, 1]},
    ],
)
def test_constant_recordings_stay_as_they_are(correct, numerics, levels, options):
    dtype = np.float32 if any(value % 1 for value in levels) else np.uint16
    raw = np.broadcast_to(np.array(levels, dtype), (4, 20, 24, 2))
    result = correct(raw, numerics=numerics, output_typename="input", **options)
    assert not result.w.any()
    np.testing.assert_array_equal(result.frames, raw)
    assert all(np.isfinite(column).all() for column in result.statistics.values())


@BOTH
def test_a_dark_frame_gives_a_finite_field(correct, numerics):
    raw = movie(wobble(6))
    raw[3] = 0
    result = correct(raw, numerics=numerics)
    assert np.isfinite(result.w).all()
    assert np.isfinite(result.frames).all()


@BOTH
@pytest.mark.parametrize("size", [(16, 16), (17, 33), (16, 64)])
def test_two_frames_of_small_odd_and_elongated_size(correct, numerics, size):
    raw = movie([(0, 0), (1, 0)], size=size)
    result = correct(raw, numerics=numerics, reference_frames=0, quality_setting="quality")
    assert result.frames.shape == raw.shape
    assert np.abs(np.median(result.w[1, 4:-4, 4:-4], axis=(0, 1)) - (-1, 0)).max() < 0.25


@pytest.mark.parametrize("term", ["gc", "gray", "census"])
def test_every_data_term_removes_motion(correct, term):
    raw = movie(wobble(5))
    result = correct(raw, constancy_assumption=term, reference_frames=0)
    assert scatter(result.frames) < 0.5 * scatter(raw)


@BOTH
def test_intensities_of_the_recording_do_not_matter(correct, numerics):
    raw = movie(wobble(6), dtype="float32")
    other = 300 * raw + 50
    w = correct(raw, numerics=numerics, precision="double").w
    assert np.abs(w - correct(other, numerics=numerics, precision="double").w).mean() < 1e-3


@BOTH
@pytest.mark.parametrize("normalization", ["joint", "separate"])
def test_channels_in_another_order(correct, numerics, normalization):
    raw = movie(wobble(4), channels=2)
    raw[..., 1] //= 8
    options = {"channel_normalization": normalization, "precision": "double", "numerics": numerics}
    sigma = [(1, 1, 0.1), (2, 1.5, 0.1)]
    w = correct(raw, weight=[0.7, 0.3], sigma=sigma, **options).w
    turned = correct(raw[..., ::-1], weight=[0.3, 0.7], sigma=sigma[::-1], **options).w
    if numerics == "standard":
        np.testing.assert_allclose(w, turned, atol=1e-3)
    else:  # the first channel alone drives the first sweeps
        assert np.abs(interior(w - turned)).mean() < 0.1


def test_separate_normalization_lets_a_dim_channel_count(correct):
    """Channel 1 holds all the structure at a hundredth of channel 0's intensity."""
    shifts = wobble(5)
    raw = movie(shifts, channels=2, dtype="float32")
    rng = np.random.default_rng(0)
    raw[..., 0] = 100 * rng.random(raw.shape[:3])
    joint = correct(raw, channel_normalization="joint", reference_frames=0)
    separate = correct(raw, channel_normalization="separate", reference_frames=0)
    assert remaining(separate, shifts) < remaining(joint, shifts)


def test_a_weight_map(correct):
    raw = movie(wobble(4))
    ones = correct(raw, weight=np.ones((1, 40, 48)), precision="double")
    np.testing.assert_allclose(ones.w, correct(raw, precision="double").w, atol=1e-6)
    with pytest.raises(ConfigError, match=r"weight .*\(40, 48"):
        correct(raw, weight=np.ones((1, 3, 3)))


@pytest.mark.parametrize("noise", [0, 0.05])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_rigid_jump(correct, noise, channels):
    shifts = np.array([(0, 0), (0, 0), (-12, 0), (-12, 2), (0, 0)])
    raw = movie(shifts, (48, 64), noise=noise, channels=channels)
    options = {"reference_frames": 0, "levels": 3}
    found = correct(raw, cc_initialization=True, **options).w
    assert np.abs(np.median(interior(found, 14), axis=(1, 2)) + shifts).max() < 0.3
    blind = correct(raw, **options).w
    assert np.abs(np.median(interior(blind, 14), axis=(1, 2)) + shifts).max() > 2


def test_a_rigid_jump_in_the_original_numerics(correct):
    """Its correlation needs bright structure on black; its shift counts twice in what follows."""
    shifts = np.array([(0, 0), (0, 0), (0, 0), (-12, 0)])
    raw = movie(shifts, (48, 64))
    y, x = np.mgrid[:48, :64]
    for k, (dx, dy) in enumerate(shifts):
        spots = [(20, 20), (30, 26), (24, 34)]
        spot = sum(np.exp(-((x - a + dx) ** 2 + (y - b + dy) ** 2) / 8) for a, b in spots)
        raw[k, ..., 0] = 3000 * spot
    options = {"numerics": "matlab", "reference_frames": 0, "update_initialization_w": False}
    found = correct(raw, cc_initialization=True, **options).w
    assert np.abs(np.median(found[3, 16:36, 16:40], axis=(0, 1)) - (12, 0)).max() < 0.5


def test_a_function_is_applied_after_the_fields_are_known(correct):
    raw = movie(wobble(4), channels=2)
    plain = correct(raw, output_typename="input")
    seen_shapes = set()

    def halve(plane):
        seen_shapes.add(plane.shape)
        return plane / 2

    halved = correct(raw, preproc_funct=halve, output_typename="double")
    assert seen_shapes == {(40, 48)}
    np.testing.assert_array_equal(halved.w, plain.w)
    inside = halved.valid > 0
    assert np.abs(halved.frames[inside] - plain.frames[inside] / 2).max() <= 1
