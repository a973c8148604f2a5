"""What a motion correction reads and writes."""

import logging

import h5py
import numpy as np
import pytest
import tifffile

from pyflowreg.errors import ConfigError
from pyflowreg.io import open_writer
from pyflowreg.motion_correction import OFOptions, compensate_recording
from pyflowreg.motion_correction.compensate import correct_recording

from .scenes import movie, save_tiff, scatter, wobble


def test_what_is_written(correct):
    raw = movie(wobble(6), channels=2)
    result = correct(raw, output_typename="input")
    names = {"compensated.hdf5", "idx.hdf", "w.h5", "statistics.npz", "reference_frame.npy"}
    assert {path.name for path in result.folder.iterdir()} == names
    with h5py.File(result.folder / "compensated.hdf5") as file:
        assert sorted(file) == ["ch1", "ch2"]
        for name in file:
            assert file[name].shape == (6, 40, 48)
            assert file[name].dtype == np.uint16
            assert file[name].chunks == (1, 40, 48)
            assert file[name].maxshape == (None, 40, 48)
    with h5py.File(result.folder / "idx.hdf") as file:
        assert file["idx"].shape == (6, 40, 48)
        assert file["idx"].dtype == np.uint8
        assert set(np.unique(file["idx"])) <= {0, 255}
        assert file["idx"].compression
    with h5py.File(result.folder / "w.h5") as file:
        assert sorted(file) == ["u", "v"]
        for name in file:
            assert file[name].shape == (6, 40, 48)
            assert file[name].dtype == np.float32
    reference = np.load(result.folder / "reference_frame.npy")
    assert reference.dtype == np.float64
    np.testing.assert_array_equal(reference, result.reference)
    assert reference.shape == (40, 48, 2)
    assert {key: value.shape for key, value in result.statistics.items()} == dict.fromkeys(
        ("mean_disp", "max_disp", "mean_div", "mean_translation"), (6,)
    )
    length = np.hypot(result.w[..., 0], result.w[..., 1])
    np.testing.assert_allclose(result.statistics["mean_disp"], length.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(result.statistics["max_disp"], length.max(axis=(1, 2)), rtol=1e-5)


def test_less_can_be_written(correct):
    result = correct(movie(wobble(3)), save_w=False, save_valid_idx=False, save_meta_info=False)
    assert [path.name for path in result.folder.iterdir()] == ["compensated.hdf5"]


@pytest.mark.parametrize(
    ("typename", "dtype"),
    [
        ("input", "int16"),
        (None, "int16"),
        ("double", "float64"),
        ("single", "float32"),
        ("uint8", "uint8"),
        ("uint16", "uint16"),
    ],
)
def test_number_type_of_the_result(correct, typename, dtype):
    raw = movie(wobble(3), dtype="int16")
    assert raw.min() < 0
    result = correct(raw, output_typename=typename)
    assert result.frames.dtype == dtype
    if dtype == "uint8":
        assert result.frames.min() == 0
        assert result.frames.max() == 255


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_every_number_type_of_recording(correct, dtype):
    raw = movie(wobble(4), dtype=dtype)
    result = correct(raw, output_typename="input")
    assert result.frames.dtype == raw.dtype
    assert scatter(result.frames) < 0.2 * scatter(raw)


FORMATS = {
    "HDF5": ["compensated.hdf5"],
    "TIFF": ["compensated.tif"],
    "MAT": ["compensated.mat"],
    "MULTIFILE_HDF5": ["compensated_ch1.hdf5", "compensated_ch2.hdf5"],
    "MULTIFILE_TIFF": ["compensated_ch1.tif", "compensated_ch2.tif"],
    "MULTIFILE_MAT": ["compensated_ch1.mat", "compensated_ch2.mat"],
    "CAIMAN_HDF5": ["compensated.hdf5"],
}


def test_every_format_holds_the_same_frames(correct, read_recording):
    raw = movie(wobble(3), (24, 32), channels=2)
    options = {"save_w": False, "save_valid_idx": False, "save_meta_info": False}
    expected = correct(raw, **options).frames
    for name, files in FORMATS.items():
        folder = correct(raw, output_format=name, **options).folder
        assert sorted(path.name for path in folder.iterdir()) == files
        read = np.concatenate([read_recording(folder / file) for file in files], axis=-1)
        np.testing.assert_array_equal(read, expected, err_msg=name)


def test_batch_naming(correct):
    folder = correct(movie(wobble(3)), naming_convention="batch").folder
    names = ("compensated.hdf5", "idx.hdf", "reference_frame.npy", "statistics.npz", "w.h5")
    assert sorted(path.name for path in folder.iterdir()) == [f"rec_{name}" for name in names]


def test_the_same_movie_through_any_format_gives_identical_results(correct, tmp_path):
    raw = movie(wobble(6), channels=1)
    tiff = save_tiff(tmp_path / "a.tif", raw)
    for name, form in (("b.h5", "HDF5"), ("c.mat", "MAT")):
        with open_writer(tmp_path / name, shape=raw.shape, dtype=raw.dtype, format=form) as writer:
            writer.write(raw)
    folder = tmp_path / "folder"
    folder.mkdir()
    for k, frame in enumerate(raw[:4, ..., 0]):
        tifffile.imwrite(folder / f"frame{k + 8}.tif", frame)
    tifffile.imwrite(folder / "frame12.tif", raw[4:, ..., 0])
    expected = correct(tiff, output_typename="input")
    for path in (tmp_path / "b.h5", tmp_path / "c.mat", folder):
        result = correct(path, output_typename="input")
        for name in ("frames", "valid", "w", "reference"):
            np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
        for key, column in result.statistics.items():
            np.testing.assert_array_equal(column, expected.statistics[key])


def test_older_files_do_not_stay_beside_new_frames(tmp_path, caplog):
    path = save_tiff(tmp_path / "rec.tif", movie(wobble(4)))
    options = OFOptions(input_file=path, output_path=tmp_path / "out", output_format="HDF5")
    options.quality_setting = "fast"
    options.save_w = options.save_valid_idx = True
    compensate_recording(options)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    options.save_w = options.save_valid_idx = options.save_meta_info = False
    with caplog.at_level(logging.INFO):
        compensate_recording(options)
    left = sorted(file.name for file in options.output_path.iterdir())
    assert left == ["compensated.hdf5", "notes.txt"]
    for name in ("w.h5", "idx.hdf", "statistics.npz", "reference_frame.npy"):
        assert f"{name} belonged to an earlier run and is removed" in caplog.text


def test_the_recording_is_not_changed(correct, tmp_path):
    path = save_tiff(tmp_path / "rec.tif", movie(wobble(3)))
    before = path.read_bytes()
    correct(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("how", ["recording", "reference", "folder"])
def test_what_is_read_is_never_overwritten(tmp_path, how):
    raw = movie(wobble(3))
    options = OFOptions(output_path=tmp_path / "data", output_format="TIFF")
    if how == "recording":
        options.input_file = save_tiff(tmp_path / "data" / "compensated.tif", raw)
    elif how == "reference":
        options.input_file = save_tiff(tmp_path / "rec.tif", raw)
        options.output_path.mkdir()
        np.save(options.output_path / "reference_frame.npy", raw[0])
        options.reference_frames = options.output_path / "reference_frame.npy"
    else:
        save_tiff(tmp_path / "data" / "part1.tif", raw)
        options.input_file = tmp_path / "data"
    before = {path: path.read_bytes() for path in options.output_path.iterdir()}
    with pytest.raises(ConfigError, match="output_path: "):
        compensate_recording(options)
    assert {path: path.read_bytes() for path in options.output_path.iterdir()} == before


def test_the_average_is_that_of_the_written_frames(tmp_path):
    raw = movie(wobble(5), channels=2)
    options = OFOptions(
        input_file=save_tiff(tmp_path / "rec.tif", raw),
        output_path=tmp_path / "out",
        output_format="HDF5",
        output_typename="input",
        quality_setting="fast",
    )
    result = correct_recording(options, threads=2)
    with h5py.File(tmp_path / "out" / "compensated.hdf5") as file:
        video = np.stack([file["ch1"][()], file["ch2"][()]], axis=-1)
    np.testing.assert_allclose(result.temporal_average, video.mean(axis=0), rtol=1e-12)
    assert result.n_frames == 5
