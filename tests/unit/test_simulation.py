"""The simulator: its truth is exact, its files are reproducible, its scores are what they say."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from pyflowreg.errors import ConfigError
from pyflowreg.simulation import (
    SimulationConfig,
    load_truth,
    simulate_session,
    stage1_error,
    stage1_offset,
    stage2_error,
)
from pyflowreg.simulation.__main__ import main
from pyflowreg.simulation.motion import pixel_grid
from pyflowreg.simulation.session import recording_frames, recording_truth, session_scene

SMALL = SimulationConfig(n_recordings=3, n_frames=6, height=56, width=64, seed=5)
PINNED = [
    [0.8161867972, -1.2854030629],
    [0.9964020964, -2.427893045],
]  # motion (x, y) of two points, px


def perfect_stage1(truth):
    """Solve w(x) = -m(x + w(x)) by fixed-point iteration."""
    x, y = pixel_grid(*truth.shape[1:])
    w = np.zeros((*truth.shape, 2))
    for frame in range(truth.shape[0]):
        for _ in range(60):
            w[frame] = -truth.within(frame, x + w[frame, ..., 0], y + w[frame, ..., 1])
    return w


def perfect_stage2(truth):
    x, y = pixel_grid(*truth.shape[1:])
    w = np.zeros((*truth.shape[1:], 2))
    for _ in range(60):
        w = -truth.deformation(x + w[..., 0], y + w[..., 1])
    return w


def test_files_are_reproducible_bit_by_bit(tmp_path):
    first = simulate_session(SMALL, tmp_path / "a")
    second = simulate_session(SMALL, tmp_path / "b")
    assert [p.name for p in first] == ["recording_01.tif", "recording_02.tif", "recording_03.tif"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    frames = tifffile.imread(first[0])
    assert frames.shape == (6, 56, 64)
    assert frames.dtype == np.uint16
    assert not np.array_equal(frames, tifffile.imread(first[1]))
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [p.name for p in first] + ["truth"]


def test_two_channels_move_together_and_are_stored_as_time_channel_y_x(tmp_path):
    path = simulate_session(replace(SMALL, n_recordings=1, channels=2), tmp_path)[0]
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].axes == "TCYX"
        assert tif.series[0].shape == (6, 2, 56, 64)


def test_truth_survives_the_file(tmp_path):
    simulate_session(SMALL, tmp_path)
    for number in range(3):
        stored = load_truth(tmp_path / "truth" / f"recording_0{number + 1}_truth.npz")
        drawn = recording_truth(SMALL, number)
        x, y = pixel_grid(56, 64)
        assert np.array_equal(stored.within(4, x, y), drawn.within(4, x, y))
        assert np.array_equal(stored.deformation(x, y), drawn.deformation(x, y))


def test_motion_has_zero_mean_and_the_stated_size():
    truth = recording_truth(SMALL, 0)
    x, y = pixel_grid(56, 64)
    motion = np.stack([truth.within(f, x, y) for f in range(6)])
    assert np.abs(motion.mean(axis=0)).max() < 1e-12
    assert np.linalg.norm(truth.line_motion, axis=-1).max() == pytest.approx(SMALL.rigid)
    assert np.linalg.norm(motion, axis=-1).max() <= SMALL.rigid + SMALL.nonrigid + 1e-9


def test_default_motion_is_pinned():
    # demo and documentation show these frames: settings that are added must leave them alone
    truth = recording_truth(replace(SMALL, nonrigid_wavelength=1.0), 0)
    assert SMALL.nonrigid_wavelength == 1.0
    points = truth.within(3, np.array([10.0, 40.0]), np.array([5.0, 50.0]))
    assert points == pytest.approx(np.array(PINNED), abs=1e-9)


def slope(truth, height, width):
    """Largest stretch of neighbouring pixels by the non-rigid motion, and its longest vector."""
    x, y = pixel_grid(height, width)
    still = replace(truth, line_motion=np.zeros_like(truth.line_motion))
    motion = np.stack([still.within(f, x, y) for f in range(truth.shape[0])])
    gradient = np.stack(np.gradient(motion, axis=(1, 2)), axis=-1)
    return np.linalg.norm(gradient, ord=2, axis=(-2, -1)).max(), np.linalg.norm(motion, axis=-1)


@settings(max_examples=15, deadline=None)
@given(wavelength=st.floats(0.2, 1.5), nonrigid=st.floats(0.1, 1.5), seed=st.integers(0, 10**6))
def test_local_motion_has_the_stated_wavelength_and_size_and_never_folds(
    wavelength, nonrigid, seed
):
    config = replace(
        SMALL, n_frames=3, seed=seed, nonrigid=nonrigid, nonrigid_wavelength=wavelength
    )
    truth = recording_truth(config, 0)
    lengths = 2 * np.pi / np.linalg.norm([f.wave_vectors for f in truth.fields], axis=-1)
    shortest = wavelength * 56
    assert (lengths > shortest * (1 - 1e-9)).all()
    assert (lengths < 2.2 * shortest * (1 + 1e-9)).all()
    steepest, longest = slope(truth, 56, 64)
    assert steepest < 1
    assert longest.max() == pytest.approx(nonrigid)
    # how local the motion is decides nothing else
    other = recording_truth(replace(config, nonrigid_wavelength=1.0), 0)
    assert np.array_equal(truth.line_motion, other.line_motion)
    x, y = pixel_grid(56, 64)
    assert np.array_equal(truth.deformation(x, y), other.deformation(x, y))


def test_shorter_wavelengths_shear_the_tissue_more():
    steepest = [
        slope(recording_truth(replace(SMALL, nonrigid_wavelength=w), 0), 56, 64)[0]
        for w in (1.0, 0.5, 0.25)
    ]
    assert steepest[1] > 1.5 * steepest[0]
    assert steepest[2] > 1.5 * steepest[1]


@pytest.mark.parametrize(
    ("value", "rule"),
    [(0.0, "positive"), (-1.0, "positive"), (float("nan"), "positive"), (float("inf"), "finite")],
)
def test_impossible_wavelengths_are_refused(value, rule):
    with pytest.raises(ConfigError, match=rf"nonrigid_wavelength is {value}.*{rule}"):
        SimulationConfig(nonrigid_wavelength=value)


def test_a_wavelength_that_folds_the_tissue_is_refused():
    with pytest.raises(ConfigError, match=r"above 0\.0982, or motion of 2\.0 px folds"):
        SimulationConfig(nonrigid_wavelength=0.09)
    SimulationConfig(nonrigid_wavelength=0.09, nonrigid=1.0)
    SimulationConfig(nonrigid_wavelength=0.09, height=512, width=512)


def test_the_centre_recording_is_not_deformed():
    x, y = pixel_grid(56, 64)
    assert not recording_truth(SMALL, 1).deformation(x, y).any()
    assert np.linalg.norm(recording_truth(SMALL, 0).deformation(x, y), axis=-1).mean() > 1.0


def test_perfect_fields_score_zero_and_no_correction_scores_the_motion():
    truth = recording_truth(SMALL, 0)
    assert stage1_error(perfect_stage1(truth), truth).max() < 1e-9
    assert stage2_error(perfect_stage2(truth), truth).max() < 1e-9
    x, y = pixel_grid(56, 64)
    motion = np.stack([np.linalg.norm(truth.within(f, x, y), axis=-1) for f in range(6)])
    uncorrected = stage1_error(np.zeros((6, 56, 64, 2)), truth)
    assert uncorrected == pytest.approx(motion[:, 12:-12, 12:-12], abs=1e-9)


def test_errors_can_be_measured_at_some_pixels():
    truth = recording_truth(SMALL, 0)
    w = np.random.default_rng(3).normal(size=(6, 56, 64, 2))
    whole = stage1_error(w, truth, border=5)
    assert np.array_equal(stage1_error(w, truth, border=5, step=3), whole[:, ::3, ::3])
    with pytest.raises(ValueError, match="no interior"):
        stage1_error(w, truth, border=28, step=3)


def test_a_static_offset_of_the_reference_is_not_an_error():
    truth = recording_truth(SMALL, 0)
    still = replace(truth, fields=(), weights=np.zeros((6, 0)))
    lines = np.repeat(still.line_motion[:, :1], 56, axis=1)
    still = replace(still, line_motion=lines)
    w = np.broadcast_to(-lines[:, :, None], (6, 56, 64, 2)) + np.array([0.7, -0.4])
    assert stage1_error(w, still).max() < 1e-9
    offset = stage1_offset(w, still)
    assert offset == pytest.approx(np.broadcast_to([0.7, -0.4], offset.shape), abs=1e-9)


def test_offsets_of_stage_1_enter_the_error_of_stage_2():
    truth = recording_truth(SMALL, 1)
    zero = np.zeros((56, 64, 2))
    offset = zero + np.array([1.0, 0.0])
    assert stage2_error(zero, truth, offset=offset) == pytest.approx(1.0)
    both = stage2_error(zero, truth, offset=offset, centre_offset=offset)
    assert both == pytest.approx(0.0, abs=1e-12)


def test_the_true_field_brings_a_frame_to_rest():
    scene, truth = session_scene(SMALL), recording_truth(SMALL, 0)
    tissue = scene.image(np.zeros(len(scene.cells)))
    rest = replace(truth, line_motion=truth.line_motion * 0, weights=truth.weights * 0)
    moved, still = (scene.sample(tissue, *t.tissue_points(0))[..., 0] for t in (truth, rest))
    x, y = pixel_grid(56, 64)
    w = perfect_stage1(truth)[0]
    corrected = map_coordinates(moved, [y + w[..., 1], x + w[..., 0]], order=3)
    inner = (slice(12, -12), slice(12, -12))
    before = np.abs(moved - still)[inner].mean()
    assert np.abs(corrected - still)[inner].mean() < 0.1 * before


def test_single_frames_are_as_noisy_as_real_ones():
    config = SimulationConfig(n_recordings=1, n_frames=30)
    truth = recording_truth(config, 0)
    frames = np.stack(list(recording_frames(config, 0, session_scene(config), truth)))[..., 0]
    mean = frames.mean(axis=0).ravel()
    correlation = np.mean([np.corrcoef(f.ravel(), mean)[0, 1] for f in frames])
    assert 0.3 < correlation < 0.6


def test_all_wrong_settings_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        SimulationConfig(n_frames=1, channels=3, photons=0.0)
    assert len(caught.value.problems) == 3


def test_command_line(tmp_path, capsys):
    arguments = ["--n-recordings", "1", "--n-frames", "2", "--height", "40", "--width", "40"]
    assert main([str(tmp_path), *arguments]) == 0
    assert (tmp_path / "recording_01.tif").is_file()
    assert main([str(tmp_path), "--channels", "7"]) == 2
    assert "channels is 7" in capsys.readouterr().err
