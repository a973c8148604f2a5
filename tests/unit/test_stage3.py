"""Stage 3: masks, and recordings in the centre's grid."""

import logging
from pathlib import Path
from unittest.mock import Mock

import h5py
import numpy as np
import pytest
import scipy.io
from skimage.io import imread

from pyflowreg.core.warping import align_sequence, imregister_binary
from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io import open_reader
from pyflowreg.session import aligned_video
from pyflowreg.session import stage3_valid_mask as stage3
from pyflowreg.session.stage2_between_avgs import run_stage2

NAMES = ["rec_1", "rec_2", "rec_10"]
SEED_KEYS = {
    "final_valid",
    "aligned_valid_masks",
    "per_seq_valid_masks",
    "displacement_fields_u",
    "displacement_fields_v",
    "temporal_averages",
    "compensated_h5_paths",
    "reference_average",
    "middle_idx",
}


def folder_of(config, name):
    return config.root / "compensated_outputs" / name


def bundle(config):
    with np.load(config.root / "final_results" / "final_valid_idx.npz") as data:
        return {key: data[key] for key in data}


def compensated(config, name):
    with h5py.File(folder_of(config, name) / "compensated.hdf5") as file:
        return np.stack([file[key][()] for key in sorted(file)], axis=-1)


def aligned(config, name):
    with open_reader(config.root / "final_results" / f"aligned_{name}.tif") as video:
        return video.read(0, video.shape[0])


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_what_is_written(finished):
    results = finished.root / "final_results"
    pictures = [f"{name}_valid_idx{kind}.png" for name in NAMES for kind in ("", "_aligned")]
    names = {path.name for path in results.iterdir()}
    assert not [name for name in names if name.startswith(".")]
    assert names >= {
        "final_valid_idx.png",
        "final_valid_idx.npz",
        "final_valid_idx.mat",
        "status.json",
        *pictures,
        *(f"aligned_{name}.tif" for name in NAMES),
    }


def test_the_bundle_for_python(finished):
    data = bundle(finished)
    assert set(data) - SEED_KEYS == {"recording_names"}
    assert set(data) >= SEED_KEYS
    shapes = {key: (value.shape, value.dtype.name) for key, value in data.items()}
    assert shapes["final_valid"] == ((40, 48), "bool")
    assert shapes["aligned_valid_masks"] == shapes["per_seq_valid_masks"] == ((3, 40, 48), "bool")
    assert shapes["displacement_fields_u"] == ((3, 40, 48), "float64")
    assert shapes["displacement_fields_v"] == ((3, 40, 48), "float64")
    assert shapes["temporal_averages"] == ((3, 40, 48, 2), "float64")
    assert shapes["reference_average"] == ((40, 48, 2), "float64")
    assert data["recording_names"].tolist() == NAMES
    assert data["middle_idx"] == 1
    np.testing.assert_array_equal(data["reference_average"], data["temporal_averages"][1])
    np.testing.assert_array_equal(
        data["temporal_averages"][2],
        np.load(folder_of(finished, "rec_10") / "temporal_average.npy"),
    )
    assert [Path(path).parent.name for path in data["compensated_h5_paths"]] == NAMES
    assert all(path.endswith("compensated.hdf5") for path in data["compensated_h5_paths"])


def test_the_bundle_for_matlab(finished):
    data = bundle(finished)
    mat = scipy.io.loadmat(finished.root / "final_results" / "final_valid_idx.mat")
    assert {key for key in mat if not key.startswith("__")} == set(data)
    assert mat["middle_idx"].item() == 2, "counted from 1"
    assert mat["final_valid"].dtype == bool or mat["final_valid"].dtype == np.uint8
    np.testing.assert_array_equal(mat["final_valid"], data["final_valid"])
    np.testing.assert_array_equal(mat["reference_average"], data["reference_average"])
    for key in SEED_KEYS - {"final_valid", "reference_average", "middle_idx"}:
        cells = mat[key]
        assert cells.dtype == object, key
        assert cells.shape == (1, 3)
        for cell, value in zip(cells[0], data[key], strict=True):
            np.testing.assert_array_equal(cell.item() if cell.size == 1 else cell, value)


def test_masks(finished):
    data = bundle(finished)
    for k, name in enumerate(NAMES):
        with h5py.File(folder_of(finished, name) / "idx.hdf") as file:
            own = (file["idx"][()] > 0).all(axis=0)
        np.testing.assert_array_equal(data["per_seq_valid_masks"][k], own)
        u, v = data["displacement_fields_u"][k], data["displacement_fields_v"][k]
        np.testing.assert_array_equal(data["aligned_valid_masks"][k], imregister_binary(own, u, v))
        assert not (data["final_valid"] & ~data["aligned_valid_masks"][k]).any()
        results = finished.root / "final_results"
        np.testing.assert_array_equal(imread(results / f"{name}_valid_idx.png"), own * 255)
        np.testing.assert_array_equal(
            imread(results / f"{name}_valid_idx_aligned.png"), data["aligned_valid_masks"][k] * 255
        )
    np.testing.assert_array_equal(data["final_valid"], data["aligned_valid_masks"].all(axis=0))
    picture = imread(finished.root / "final_results" / "final_valid_idx.png")
    np.testing.assert_array_equal(picture, data["final_valid"] * 255)
    assert 0.4 < data["final_valid"].mean() < 1


def test_aligned_recordings(finished):
    data = bundle(finished)
    np.testing.assert_array_equal(aligned(finished, "rec_2"), compensated(finished, "rec_2"))
    for k in (0, 2):
        video = aligned(finished, NAMES[k])
        assert video.shape == (5, 40, 48, 2)
        assert video.dtype == np.uint16
        w = np.stack([data["displacement_fields_u"][k], data["displacement_fields_v"][k]], axis=-1)
        frames = compensated(finished, NAMES[k])
        expected = align_sequence(frames, w, data["reference_average"])
        np.testing.assert_array_equal(video, expected)
        outside = ~imregister_binary(np.ones((40, 48)), w[..., 0], w[..., 1])
        assert outside.any()
        fill = np.floor(data["reference_average"] + 0.5)[outside]
        np.testing.assert_array_equal(video[3][outside], fill)
        before, after = (
            np.abs(image.mean(axis=0) - data["reference_average"])[10:-10, 10:-10].mean()
            for image in (frames, video)
        )
        assert after < 0.3 * before


def test_given_and_saved_results_of_stage_2_are_the_same(finished):
    middle, _, fields = run_stage2(finished)
    before = times(finished.root / "final_results")
    mask = stage3.run_stage3(finished, middle, fields)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, bundle(finished)["final_valid"])
    np.testing.assert_array_equal(stage3.run_stage3(finished), mask)
    after = times(finished.root / "final_results")
    for name in NAMES:
        assert after[f"aligned_{name}.tif"] == before[f"aligned_{name}.tif"], "resumed"


def test_other_fields_are_used(finished):
    shift = np.broadcast_to((5.0, 0.0), (40, 48, 2))
    still = np.zeros((40, 48, 2))
    mask = stage3.run_stage3(finished, 0, [still, still, shift])
    data = bundle(finished)
    assert data["middle_idx"] == 0
    np.testing.assert_array_equal(data["reference_average"], data["temporal_averages"][0])
    assert (data["displacement_fields_u"][2] == 5).all()
    assert not mask[:, -5:].any()
    video = aligned(finished, "rec_10")
    np.testing.assert_array_equal(video[:, :, :-5], compensated(finished, "rec_10")[:, :, 5:])
    # Without them, what stage 2 saved counts again.
    stage3.run_stage3(finished)
    data = bundle(finished)
    assert not (data["displacement_fields_u"][2] == 5).any()
    w = np.stack([data["displacement_fields_u"][2], data["displacement_fields_v"][2]], axis=-1)
    frames = compensated(finished, "rec_10")
    expected = align_sequence(frames, w, data["reference_average"])
    np.testing.assert_array_equal(aligned(finished, "rec_10"), expected)


def test_videos_follow_their_sources(finished):
    results = finished.root / "final_results"
    before = times(results)
    np.savez(
        folder_of(finished, "rec_10") / "w_to_reference.npz",
        **dict.fromkeys("uv", 1.0 + np.zeros((40, 48))),
    )
    stage3.run_stage3(finished)
    after = times(results)
    assert after["aligned_rec_1.tif"] == before["aligned_rec_1.tif"]
    assert after["aligned_rec_10.tif"] > before["aligned_rec_10.tif"]
    np.testing.assert_array_equal(
        aligned(finished, "rec_10")[:, :-1, :-1], compensated(finished, "rec_10")[:, 1:, 1:]
    )


def test_a_new_centre_redoes_stages_2_and_3(finished):
    finished.center = "rec_1"
    run_stage2(finished)
    stage3.run_stage3(finished)
    assert bundle(finished)["middle_idx"] == 0
    np.testing.assert_array_equal(aligned(finished, "rec_1"), compensated(finished, "rec_1"))
    assert (aligned(finished, "rec_2") != compensated(finished, "rec_2")).any()


def test_without_resume_everything_is_written(finished):
    finished.resume = False
    before = times(finished.root / "final_results")
    stage3.run_stage3(finished)
    after = times(finished.root / "final_results")
    assert all(after[name] > before[name] for name in before)


def test_a_damaged_video_is_made_again(finished):
    path = finished.root / "final_results" / "aligned_rec_2.tif"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    stage3.run_stage3(finished)
    np.testing.assert_array_equal(aligned(finished, "rec_2"), compensated(finished, "rec_2"))


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_videos_as_hdf5_in_chunks_of_any_size(finished, chunk):
    finished.align_output_format = "HDF5"
    finished.align_chunk_size = chunk
    stage3.run_stage3(finished)
    for name in NAMES:
        with h5py.File(finished.root / "final_results" / f"aligned_{name}.hdf5") as file:
            assert sorted(file) == ["ch1", "ch2"]
            assert file["ch1"].dtype == np.uint16
            video = np.stack([file["ch1"][()], file["ch2"][()]], axis=-1)
        np.testing.assert_array_equal(video, aligned(finished, name))


def test_stage_1_of_another_program(finished):
    """Upper-case names, masks of 0 and 1, neither average nor status."""
    expected = bundle(finished)["final_valid"]
    for name in NAMES:
        folder = folder_of(finished, name)
        frames = compensated(finished, name)
        with h5py.File(folder / "idx.hdf") as file:
            masks = file["idx"][()]
        for file in folder.iterdir():
            if file.name != "w_to_reference.npz":
                file.unlink()
        with h5py.File(folder / "compensated.HDF5", "w") as file:
            file["ch1"], file["ch2"] = frames[..., 0], frames[..., 1]
        with h5py.File(folder / "idx.hdf", "w") as file:
            file["idx"] = (masks > 0).astype(np.uint8)
    run_stage2(finished)
    np.testing.assert_array_equal(stage3.run_stage3(finished), expected)
    assert all(
        path.endswith("compensated.HDF5") for path in bundle(finished)["compensated_h5_paths"]
    )


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("w_to_reference.npz", r"rec_2/w_to_reference.npz does not exist; run stage 2 again"),
        ("idx.hdf", r"rec_2 has no valid masks \(idx.hdf\) .* run stage 1 first"),
        ("compensated.hdf5", "rec_2 has no corrected frames .* run stage 1 first"),
    ],
)
def test_earlier_stages_are_missing(finished, missing, message):
    (folder_of(finished, "rec_2") / missing).unlink()
    with pytest.raises(InputError, match=message):
        stage3.run_stage3(finished)


@pytest.mark.parametrize("middle", [-1, 3])
def test_a_centre_that_does_not_exist(finished, middle):
    rule = "it must be a whole number from 0 to 2"
    with pytest.raises(ConfigError, match=f"middle_idx is {middle}; {rule}"):
        stage3.run_stage3(finished, middle)


@pytest.mark.parametrize(
    "fields",
    [
        [np.zeros((40, 48, 2))] * 2,
        [np.zeros((40, 48))] * 3,
        [np.zeros((2, 40, 48))] * 3,
        [np.zeros((40, 48, 2)), np.full((40, 48, 2), np.nan), np.zeros((40, 48, 2))],
    ],
)
def test_fields_that_do_not_fit(finished, fields):
    before = times(finished.root / "final_results")
    with pytest.raises((ConfigError, InputError), match="displacement"):
        stage3.run_stage3(finished, 1, fields)
    assert times(finished.root / "final_results") == before


def test_masks_of_another_size(finished):
    (folder_of(finished, "rec_2") / "status.json").unlink()  # as left by another program
    with h5py.File(folder_of(finished, "rec_2") / "idx.hdf", "w") as file:
        file["idx"] = np.full((5, 20, 20), 255, np.uint8)
    with pytest.raises(ConfigError, match=r"idx.hdf holds masks of shape \(5, 20, 20\)"):
        stage3.run_stage3(finished)


def test_no_valid_pixel_is_a_warning(finished, caplog):
    (folder_of(finished, "rec_2") / "status.json").unlink()
    with h5py.File(folder_of(finished, "rec_2") / "idx.hdf", "r+") as file:
        file["idx"][2] = 0
    with caplog.at_level(logging.WARNING):
        assert not stage3.run_stage3(finished).any()
    assert "No pixel is valid in all recordings" in caplog.text


def test_a_failure_leaves_no_half_video(finished, monkeypatch):
    finished.align_output_format = "HDF5"
    finished.align_chunk_size = 2
    calls = []

    def fail(*args):
        calls.append(args)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return args[0]

    monkeypatch.setattr(aligned_video, "align_sequence", fail)
    with pytest.raises(OSError, match="No space"):
        stage3.run_stage3(finished)
    left = [path.name for path in (finished.root / "final_results").iterdir()]
    assert not [name for name in left if "hdf5" in name or name.startswith(".")]


def test_an_outdated_video_of_a_failed_run_does_not_stay_beside_another_format(
    finished, monkeypatch
):
    """Its record is gone by then, so nothing would tell what it is."""
    results = finished.root / "final_results"
    other = finished.model_copy()
    other.sigma_smooth = 2.5
    run_stage2(other)
    with monkeypatch.context() as patch:
        patch.setattr(aligned_video, "_write_video", Mock(side_effect=OSError(28, "No space")))
        with pytest.raises(OSError, match="No space"):
            stage3.run_stage3(other)
    other.align_output_format = "HDF5"
    stage3.run_stage3(other)
    assert {path.name for path in results.glob("aligned_*")} == {
        f"aligned_{name}.hdf5" for name in NAMES
    }


def test_a_video_of_nobody_stays(finished, caplog):
    other = finished.root / "final_results" / "aligned_rec_1.hdf5"
    other.write_bytes(b"of another program")
    (finished.root / "final_results" / "aligned_rec_1.tif").unlink()
    stage3.run_stage3(finished)
    assert other.read_bytes() == b"of another program"
    assert f"{other} stays: nothing tells with which settings" in caplog.text


def test_saved_fields_that_lead_to_another_centre(finished):
    with pytest.raises(InputError, match=r"another centre than rec_1.*run stage 2 again"):
        stage3.run_stage3(finished, 0)
    with pytest.raises(ConfigError, match=r"middle_idx is 1\.0"):
        stage3.compute_final_mask(finished, 1.0)


def test_a_saved_field_that_is_not_finite(finished):
    path = folder_of(finished, "rec_1") / "w_to_reference.npz"
    with np.load(path) as data:
        u, v = data["u"].copy(), data["v"]
    u[3, 3] = np.nan
    np.savez(path, u=u, v=v)
    with pytest.raises(InputError, match="not finite everywhere; run stage 2 again"):
        stage3.run_stage3(finished)


def test_results_of_removed_recordings_are_named(finished, caplog):
    (finished.root / "rec_1.tif").unlink()
    run_stage2(finished)
    stage3.run_stage3(finished)
    assert "aligned_rec_1.tif, rec_1_valid_idx.png, rec_1_valid_idx_aligned.png" in caplog.text
