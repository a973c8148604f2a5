"""Quality numbers, the demo's table and its picture, on a small session with fabricated results."""

import h5py
import numpy as np
import pytest

from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io import open_reader
from pyflowreg.quality.demo_table import demo_table, main
from pyflowreg.quality.figures import before_after_figure
from pyflowreg.quality.metrics import (
    crispness,
    frame_correlation,
    interior,
    load_displacements,
    load_field,
    movie_average,
    recording_metrics,
)
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import discover_recordings
from pyflowreg.session.outputs import session_paths
from pyflowreg.simulation import SimulationConfig, load_truth, simulate_session

SIZE = SimulationConfig(n_recordings=3, n_frames=5, height=48, width=56, seed=3)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A simulated session with the results of an algorithm that corrects nothing."""
    root = tmp_path_factory.mktemp("session")
    simulate_session(SIZE, root)
    config = SessionConfig(root=str(root), pattern="recording_*.tif")
    paths = session_paths(config)
    paths.final_results.mkdir()
    for recording in discover_recordings(config):
        files = paths.recording(recording.name)
        files.folder.mkdir(parents=True)
        with open_reader(recording.path) as reader:
            frames = reader.read(0, 5)
        zero = np.zeros((5, 48, 56), np.float32)
        with h5py.File(files.compensated, "w") as file:
            file["ch1"] = frames[..., 0]
        with h5py.File(files.displacements, "w") as file:
            file["u"], file["v"] = zero, zero
        np.save(files.temporal_average, frames.mean(axis=0))
        np.savez(files.statistics, mean_disp=np.arange(5.0), max_disp=np.arange(5.0) * 2)
        np.savez(files.w_to_reference, u=zero[0], v=zero[0])
    mask = np.zeros((48, 56), bool)
    mask[6:-6, 6:-6] = True
    np.savez(paths.final_npz, final_valid=mask)
    return config


def test_metrics_of_an_uncorrected_recording_are_the_same_before_and_after(session):
    metrics = recording_metrics(session, discover_recordings(session)[0])
    assert metrics.mean_displacement == 2.0
    assert metrics.max_displacement == 8.0
    assert metrics.correlation_after == pytest.approx(metrics.correlation_before)
    assert metrics.crispness_after == pytest.approx(metrics.crispness_before)
    assert 0.2 < metrics.correlation_before < 0.8


def test_correlation_is_pearsons_inside_the_border(session):
    recording = discover_recordings(session)[1]
    with open_reader(recording.path) as reader:
        average = movie_average(reader)
        correlation = frame_correlation(reader, average, border=8)
        frame = reader.read(3, 4)[0].astype(float)
    expected = np.corrcoef(frame[8:-8, 8:-8, 0].ravel(), average[8:-8, 8:-8, 0].ravel())[0, 1]
    assert correlation[3] == pytest.approx(expected)


def test_a_constant_image_has_no_correlation_and_no_crispness(session):
    recording = discover_recordings(session)[0]
    flat = np.ones((48, 56, 1))
    with open_reader(recording.path) as reader:
        assert not frame_correlation(reader, flat).any()
    assert crispness(flat) == 0.0


def test_crispness_of_a_ramp_is_its_slope_times_the_root_of_the_pixels():
    ramp = 3.0 * np.arange(40.0)[None, :, None] + np.zeros((40, 1, 1))
    assert crispness(ramp, border=10) == pytest.approx(3.0 * 20)


def test_the_border_shrinks_with_the_image():
    assert interior(np.zeros((16, 100, 1)), 12).shape == (8, 76, 1)


def test_doing_nothing_scores_the_known_motion(session):
    table = demo_table(session, session.root / "truth")
    rows = {row.split()[0].rstrip("*"): row.split()[1:] for row in table.splitlines() if "0" in row}
    for name in ("recording_01", "recording_03"):
        row = rows[name]
        assert row[4] == row[5]  # stage 1 before and after
        assert row[6] == row[7]  # stage 2 before and after
        truth = load_truth(session.root / "truth" / f"{name}_truth.npz")
        y, x = np.mgrid[12:36, 12:44].astype(float)
        size = np.linalg.norm(truth.deformation(x, y), axis=-1).mean()
        assert float(row[6]) == pytest.approx(size, abs=0.006)
    assert rows["recording_02"][6] == "-"


def test_command_line_writes_table_and_picture(session, tmp_path, capsys):
    config = tmp_path / "session.yaml"
    config.write_text(f"root: {session.root}\npattern: 'recording_*.tif'\n", encoding="utf-8")
    picture = tmp_path / "figure.png"
    arguments = ["--configfile", str(config), "--truth", str(session.root / "truth")]
    assert main([*arguments, "--figure", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "recording_02*" in out
    assert str(picture) in out
    assert picture.stat().st_size > 10_000


def test_the_picture_is_the_same_every_time(session, tmp_path):
    first = before_after_figure(session, tmp_path / "a.png", recording="recording_01")
    second = before_after_figure(session, tmp_path / "b.png", recording="recording_01")
    assert first.read_bytes() == second.read_bytes()


def test_a_picture_of_an_unknown_recording_names_the_known(session, tmp_path):
    with pytest.raises(ConfigError, match=r"recording is 'rec'; .* recording_01, recording_02, "):
        before_after_figure(session, tmp_path / "a.png", recording="rec")


def test_fields_are_read_in_blocks_under_the_names_of_the_toolbox_too(tmp_path):
    w = np.random.default_rng(0).normal(size=(70, 5, 6, 2)).astype(np.float32)
    with h5py.File(tmp_path / "w.hdf", "w") as file:
        file["u"], file["v"] = w[..., 0], w[..., 1]
    np.testing.assert_array_equal(load_displacements(tmp_path), w)


def test_fields_that_cannot_be_used_are_named(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["u"] = np.zeros((3, 4, 5))
    with pytest.raises(InputError, match=r"w\.h5 has no dataset v"):
        load_displacements(tmp_path)
    (tmp_path / "w_to_reference.npz").write_bytes(b"PK\3\4 damaged")
    with pytest.raises(InputError, match=r"w_to_reference\.npz cannot be read: .* stage 2"):
        load_field(tmp_path / "w_to_reference.npz")


def test_missing_fields_are_a_message_that_tells_the_way_out(session, tmp_path, capsys):
    config = tmp_path / "session.yaml"
    config.write_text(f"root: {session.root}\npattern: 'recording_*.tif'\n", encoding="utf-8")
    fields = session_paths(session).recording("recording_01").displacements
    hidden = fields.with_name("hidden")
    fields.replace(hidden)
    try:
        assert main(["--configfile", str(config), "--truth", str(session.root / "truth")]) == 2
    finally:
        hidden.replace(fields)
    assert "save_w: true" in capsys.readouterr().err
