"""Stage 1: what it writes, what it does again, array jobs."""

import json
import os

import h5py
import numpy as np
import pytest

from pyflowreg.errors import ConfigError, InputError
from pyflowreg.session import stage1_compensate as stage1
from pyflowreg.session.config import TASK_VARIABLES
from pyflowreg.session.outputs import recording_paths
from pyflowreg.session.stage2_between_avgs import run_stage2
from pyflowreg.session.status import read_status

from .scenes import movie, save_tiff, wobble

NAMES = ["rec_1", "rec_2", "rec_10"]


@pytest.fixture
def corrected(monkeypatch):
    """Names of the recordings that are really corrected."""
    names = []
    real = stage1.correct_recording

    def spy(options, *args, **kwargs):
        names.append(options.input_file.stem)
        return real(options, *args, **kwargs)

    monkeypatch.setattr(stage1, "correct_recording", spy)
    return names


@pytest.fixture(autouse=True)
def _no_array_job(monkeypatch):
    for name in TASK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_what_is_written(finished):
    folders = [finished.root / "compensated_outputs" / name for name in NAMES]
    assert stage1.run_stage1(finished) == folders
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert not [name for name in names if name.startswith(".")]
        assert names >= {
            "compensated.hdf5",
            "idx.hdf",
            "temporal_average.npy",
            "statistics.npz",
            "reference_frame.npy",
            "status.json",
            "w_to_reference.npz",
        }
        with h5py.File(folder / "compensated.hdf5") as file:
            assert sorted(file) == ["ch1", "ch2"]
            assert file["ch1"].shape == file["ch2"].shape == (5, 40, 48)
            assert file["ch1"].dtype == np.uint16
            video = np.stack([file["ch1"][()], file["ch2"][()]], axis=-1)
        with h5py.File(folder / "idx.hdf") as file:
            assert file["idx"].shape == (5, 40, 48)
            assert file["idx"].dtype == np.uint8
        average = np.load(folder / "temporal_average.npy")
        assert average.dtype == np.float64
        np.testing.assert_allclose(average, video.mean(axis=0), rtol=1e-12)
        status = json.loads((folder / "status.json").read_text())
        assert status["stage1"] == "done"
        assert status["frames"] == 5
        assert len(status["fingerprint"]) == 64


def test_a_second_run_computes_nothing(finished, corrected):
    before = times(finished.root)
    stage1.run_stage1(finished)
    assert corrected == []
    assert times(finished.root) == before


@pytest.mark.parametrize(
    "change",
    [
        {"flow_options": {"quality_setting": "fast", "alpha": 3}},
        {"flow_options": {"quality_setting": "fast", "save_w": True}},
        {"numerics": "matlab", "flow_options": {"quality_setting": "fast", "reference_frames": 0}},
        {"precision": "double"},
        {"input_options": {"channels": [1]}},
        {"resume": False},
    ],
)
def test_a_changed_setting_redoes_every_recording(finished, corrected, change):
    for key, value in change.items():
        setattr(finished, key, value)
    stage1.run_stage1(finished)
    assert corrected == NAMES
    corrected.clear()
    finished.resume = True
    stage1.run_stage1(finished)
    assert corrected == []


@pytest.mark.parametrize(
    "change",
    [
        {"n_workers": 1},
        {"sigma_smooth": 3.0},
        {"center": "rec_1"},
        {"align_output_format": "HDF5"},
        {"flow_options": {"quality_setting": "fast", "bin_size": 1}},
        {"flow_options": {"quality_setting": "fast", "alpha": 1.5}},
        {"backend_params": {"device": "cpu"}},
    ],
)
def test_other_settings_redo_nothing(finished, corrected, change):
    for key, value in change.items():
        setattr(finished, key, value)
    stage1.run_stage1(finished)
    assert corrected == []


def test_what_is_missing_or_damaged_is_made_again(finished, corrected):
    folders = [finished.root / "compensated_outputs" / name for name in NAMES]
    (folders[0] / "idx.hdf").unlink()
    content = (folders[2] / "compensated.hdf5").read_bytes()
    (folders[2] / "compensated.hdf5").write_bytes(content[: len(content) // 2])
    stage1.run_stage1(finished)
    assert corrected == ["rec_1", "rec_10"]
    assert (folders[2] / "compensated.hdf5").read_bytes() == content


@pytest.mark.parametrize(
    "name", ["temporal_average.npy", "statistics.npz", "reference_frame.npy", "status.json"]
)
def test_every_file_counts(finished, corrected, name):
    (finished.root / "compensated_outputs" / "rec_2" / name).unlink()
    stage1.run_stage1(finished)
    assert corrected == ["rec_2"]


def test_a_changed_recording_is_done_again_and_a_new_one_is_added(finished, corrected):
    save_tiff(finished.root / "rec_2.tif", movie(wobble(4), channels=2))
    save_tiff(finished.root / "rec_3.tif", movie(wobble(5), channels=2))
    folders = stage1.run_stage1(finished)
    assert corrected == ["rec_2", "rec_3"]
    assert [folder.name for folder in folders] == ["rec_1", "rec_2", "rec_3", "rec_10"]
    with h5py.File(folders[1] / "compensated.hdf5") as file:
        assert len(file["ch1"]) == 4


def test_a_changed_reference_image_redoes_everything(recordings, corrected, tmp_path):
    image = tmp_path / "reference.npy"
    np.save(image, movie([(0, 0)], (24, 32))[0])
    recordings.flow_options = {"quality_setting": "fast", "reference_frames": str(image)}
    stage1.run_stage1(recordings)
    stage1.run_stage1(recordings)
    assert corrected == NAMES
    np.save(image, movie([(1, 0)], (24, 32))[0])
    os.utime(image, ns=(1, 1))
    stage1.run_stage1(recordings)
    assert corrected == 2 * NAMES


def test_entries_for_one_run_do_not_change_the_settings(recordings, corrected):
    before = recordings.model_dump()
    (first, *_) = stage1.run_stage1(recordings, {"save_w": True})
    assert (first / "w.h5").is_file()
    assert recordings.model_dump() == before
    with pytest.raises(ConfigError, match=r"flow_options.alhpa: .*did you mean alpha"):
        stage1.run_stage1(recordings, {"alhpa": 2})


@pytest.mark.parametrize("variable", TASK_VARIABLES)
def test_array_jobs(recordings, corrected, monkeypatch, variable):
    monkeypatch.setenv("SGE_TASK_ID", "undefined")
    monkeypatch.setenv(variable, "3")
    folder = stage1.run_stage1_array(recordings)
    assert folder == recordings.root / "compensated_outputs" / "rec_10"
    assert corrected == ["rec_10"]
    assert [path.name for path in folder.parent.iterdir()] == ["rec_10"]


def test_an_array_does_what_a_local_run_does(recordings, corrected):
    for number in (3, 1, 2):
        stage1.run_stage1_array(recordings, task_id=number)
    before = times(recordings.root)
    assert corrected == ["rec_10", "rec_1", "rec_2"]
    stage1.run_stage1(recordings)
    assert times(recordings.root) == before


@pytest.mark.parametrize("number", [0, 4, -1])
def test_array_jobs_without_a_recording(recordings, number):
    with pytest.raises(ConfigError, match=f"Array job {number} has no recording: .* has 3"):
        stage1.run_stage1_array(recordings, task_id=number)


def test_not_an_array_job(recordings):
    with pytest.raises(ConfigError, match="This is not an array job"):
        stage1.run_stage1_array(recordings)
    assert not (recordings.root / "compensated_outputs").exists()


def test_a_frame_that_is_not_finite(recordings, corrected):
    frames = movie(wobble(4), (24, 32), dtype="float32")
    for name in NAMES:
        save_tiff(recordings.root / f"{name}.tif", frames)
    frames[2, 3, 4] = np.nan
    save_tiff(recordings.root / "rec_2.tif", frames)
    with pytest.raises(InputError, match=r"rec_2\.tif: frame 2 \(counted from 0\) contains NaN"):
        stage1.run_stage1(recordings)
    output = recordings.root / "compensated_outputs"
    assert read_status(output / "rec_1" / "status.json")["stage1"] == "done"
    assert [path.name for path in times(output / "rec_2")] == ["inspect.json"]


def test_a_failure_leaves_no_finished_recording(finished, monkeypatch):
    paths = recording_paths(finished, "rec_1")
    finished.precision = "double"

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage1, "correct_recording", fail)
    with pytest.raises(KeyboardInterrupt):
        stage1.run_stage1(finished)
    assert not paths.status.exists()
    monkeypatch.undo()
    finished.precision = "single"
    assert not stage1.is_complete(finished, stage1.Recording("rec_1", finished.root / "rec_1.tif"))


def test_recordings_are_not_changed(recordings):
    before = {path: path.read_bytes() for path in recordings.root.glob("*.tif")}
    stage1.run_stage1(recordings)
    assert {path: path.read_bytes() for path in recordings.root.glob("*.tif")} == before


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_number_types_are_kept(recordings, dtype):
    for name in NAMES:
        save_tiff(recordings.root / f"{name}.tif", movie(wobble(3), (24, 32), dtype=dtype))
    for folder in stage1.run_stage1(recordings):
        with h5py.File(folder / "compensated.hdf5") as file:
            assert file["ch1"].dtype == dtype


def test_an_interrupted_recording_is_not_taken_for_finished(finished, monkeypatch):
    """Neither by stage 1 nor by the stages that follow, though old files were there."""
    folder = recording_paths(finished, "rec_2").folder
    finished.flow_options = {**finished.flow_options, "alpha": 3}

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage1, "atomic_save_npy", killed)
        with pytest.raises(KeyboardInterrupt):
            stage1.run_stage1(finished)
    assert not (recording_paths(finished, "rec_1").folder / "temporal_average.npy").exists()
    assert (folder / "temporal_average.npy").exists()
    with monkeypatch.context() as patch:
        patch.setattr(stage1, "correct_recording", killed)
        with pytest.raises(KeyboardInterrupt):
            stage1.run_stage1(finished)
    with pytest.raises(ConfigError, match=r"rec_1 has no corrected frames .* run stage 1 first"):
        run_stage2(finished)
