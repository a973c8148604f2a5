"""The motion correction of one recording, through its files."""

import importlib
import logging
import sys
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from pyflowreg.errors import BackendError, ConfigError, InputError, OutputError
from pyflowreg.io import open_reader, open_writer
from pyflowreg.motion_correction import OFOptions, compensate_recording, correction
from pyflowreg.motion_correction.compensate import correct_recording
from pyflowreg.motion_correction.preprocessing import Scale

from .scenes import interior, movie, save_tiff, wobble

BOTH = pytest.mark.parametrize("numerics", ["standard", "matlab"])


def remaining(result, shifts):
    """Mean error of the fields after removing what is common to all frames, px."""
    error = interior(result.w) + (shifts - np.mean(shifts, axis=0))[:, None, None]
    return float(np.abs(error - error.mean(axis=0)).mean())


def scatter(video, border=8):
    """How much the frames differ from their mean, inside."""
    inside = video[:, border:-border, border:-border].astype(float)
    return float(inside.std(axis=0).mean())


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


@BOTH
@pytest.mark.parametrize("options", [{}, {"update_reference": True, "cc_initialization": True}])
def test_chunks_and_threads_change_nothing(correct, monkeypatch, numerics, options):
    raw = movie(wobble(11), (24, 28), channels=2)
    how = {"numerics": numerics, "buffer_size": 6, "sigma": [1, 1, 0.8], **options}
    expected = correct(raw, threads=1, **how)
    for threads, chunk in ((2, 3), (3, 4)):
        monkeypatch.setattr(correction, "chunk_length", lambda *size, n=chunk: n)
        result = correct(raw, threads=threads, **how)
        for name in ("frames", "w", "valid", "reference"):
            np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
        for name, values in expected.statistics.items():
            np.testing.assert_array_equal(result.statistics[name], values)


@BOTH
@pytest.mark.parametrize("buffer_size", [1, 3, 5, 7, 400])
def test_batches_of_any_size(correct, numerics, buffer_size):
    shifts = wobble(7)
    raw = movie(shifts)
    result = correct(raw, numerics=numerics, buffer_size=buffer_size)
    assert len(result.frames) == 7
    if buffer_size > 1 or numerics == "standard":
        # A batch of one frame is scaled by that frame alone in the matlab profile.
        assert remaining(result, shifts) < 0.15


def test_without_propagation_batches_are_independent(correct):
    raw = movie(wobble(6))
    options = {"update_initialization_w": False, "reference_frames": 0}
    whole = correct(raw, **options).w
    np.testing.assert_array_equal(correct(raw, buffer_size=2, **options).w, whole)
    assert (correct(raw, buffer_size=2, reference_frames=0).w != whole).any()


class NumberedFields:
    """A backend whose k-th field of a batch is k everywhere; it remembers what it started from."""

    def __init__(self):
        self.starts = []

    def prepare(self, fixed, parameters):
        return self

    def displacements(self, moving, uv=None, threads=1):
        self.starts.append(None if uv is None else float(uv[0, 0, 0]))
        # Frames hold their own number.
        return np.broadcast_to(moving[:, :1, :1, :1], (*moving.shape[:3], 2)).astype(float)


@pytest.mark.parametrize(
    ("count", "buffer_size", "expected"),
    [
        # The first batch starts from the mean field of the first 22 frames, the others from that
        # of the batch before: of all its fields, or of the last 21 if it has more than 100.
        (30, 30, [10.5]),
        (5, 400, [2]),
        (206, 100, [10.5, 49.5, 149.5]),
        (206, 101, [10.5, 90, 191]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 30, 1000])
def test_what_a_batch_starts_from(monkeypatch, count, buffer_size, expected, chunk):
    monkeypatch.setattr(correction, "chunk_length", lambda *size: chunk)
    backend = NumberedFields()
    monkeypatch.setattr(correction, "get_backend", lambda *args: backend)
    monkeypatch.setattr(correction, "reference_scale", lambda *a, **k: Scale(*np.array([[0], [1]])))

    class Numbered:
        path, shape, dtype = Path("rec.tif"), (count, 8, 8, 1), np.dtype("float32")

        def read(self, start, stop):
            numbers = np.arange(start, stop, dtype="float32")
            return np.broadcast_to(numbers[:, None, None, None], (stop - start, 8, 8, 1)).copy()

    options = OFOptions(buffer_size=buffer_size, reference_frames=0)
    chunks = list(correction.RecordingCorrection(Numbered(), options).chunks())
    assert sum(len(chunk.frames) for chunk in chunks) == count
    starts = [start for start in backend.starts if start is not None]
    np.testing.assert_allclose(sorted(set(starts)), expected, atol=1e-3)


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


def test_the_updated_reference_is_used_by_later_batches(correct):
    raw = movie(wobble(8, 1.0), noise=0.02)
    options = {"reference_frames": 0, "buffer_size": 4}
    fixed = correct(raw, **options)
    updated = correct(raw, update_reference=True, **options)
    np.testing.assert_array_equal(fixed.w[:4], updated.w[:4])
    assert (fixed.w[4:] != updated.w[4:]).any()
    assert scatter(updated.frames) < 0.5 * scatter(raw)


@BOTH
@pytest.mark.parametrize(("count", "bins"), [(9, {"standard": 3, "matlab": 3}), (10, None)])
def test_binned_frames(correct, numerics, count, bins):
    raw = movie(np.repeat(wobble(5), 3, axis=0)[:count])
    result = correct(raw, numerics=numerics, bin_size=3, output_typename="input")
    expected = 3 if count == 9 or numerics == "matlab" else 4
    assert len(result.frames) == len(result.w) == len(result.valid) == expected
    assert len(result.statistics["mean_disp"]) == expected
    assert result.frames.dtype == np.uint16
    assert scatter(result.frames) < 0.3 * scatter(raw[: 3 * expected])


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


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda plane: plane[:5], "it must return numbers of shape"),
        (lambda plane: "x", "it must return numbers"),
        (lambda plane: plane * np.nan, "NaN"),
    ],
)
def test_what_a_function_must_return(correct, tmp_path, function, message):
    with pytest.raises(ConfigError, match=f"preproc_funct returned .*{message}"):
        correct(movie(wobble(3)), preproc_funct=function)


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


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_frame_that_is_not_finite_is_named(correct, tmp_path, numerics, value):
    raw = movie(wobble(6), dtype="float32")
    raw[4, 3, 5] = value
    path = save_tiff(tmp_path / "with_nan.tif", raw)
    with pytest.raises(InputError, match=r"with_nan.tif: frame 4 \(counted from 0\)"):
        correct(path, numerics=numerics)
    assert not list(tmp_path.glob("out*/*"))


@BOTH
@pytest.mark.parametrize("options", [{}, {"reference_frames": range(6)}, {"bin_size": 2}])
def test_a_frame_with_a_huge_value_is_named(correct, tmp_path, numerics, options):
    raw = movie(wobble(8), dtype="float32")
    raw[4, 3, 5] = 1e25
    path = save_tiff(tmp_path / "huge.tif", raw)
    message = r"huge.tif: frame 4 \(counted from 0\) contains values beyond \+-1e\+15"
    with pytest.raises(InputError, match=message):
        correct(path, numerics=numerics, **options)
    assert not list(tmp_path.glob("out*/*"))


@pytest.mark.parametrize("options", [{}, {"update_initialization_w": False}, {"bin_size": 2}])
def test_a_frame_without_a_finite_field_is_named(correct, tmp_path, options):
    """Its values are allowed, but huge beside those of the reference."""
    raw = 1e-28 * movie(wobble(8), dtype="float32")
    options["quality_setting"] = "quality"
    raw[4, 3, 5] = 1e14
    path = save_tiff(tmp_path / "huge.tif", raw)
    frame = "the mean of frames 4 to 5" if "bin_size" in options else "frame 4"
    with pytest.raises(InputError, match=f"huge.tif: {frame} .* has no finite displacement"):
        correct(path, reference_frames=0, **options)
    with pytest.raises(InputError, match=r"huge.tif: frame 4 .* has no finite displacement"):
        correct(path, reference_frames=[0, 1], quality_setting="quality")
    assert not list(tmp_path.glob("out*/*"))


class Failing:
    """A recording whose frame 5 cannot be read, once it is asked for a second time."""

    def __init__(self, reader, error):
        self._reader, self._error, self._times = reader, error, 0
        self.path, self.shape, self.dtype = reader.path, reader.shape, reader.dtype

    def read(self, start, stop):
        if start <= 5 < stop:
            self._times += 1
            if self._times > 1:
                raise self._error
        return self._reader.read(start, stop)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._reader.close()


@pytest.mark.parametrize("error", [InputError("rec.tif: frame 5"), KeyboardInterrupt(), OSError(5)])
@pytest.mark.parametrize("format_", ["HDF5", "TIFF", "MAT", "MULTIFILE_TIFF"])
def test_nothing_half_written_is_left(correct, monkeypatch, tmp_path, error, format_):
    from pyflowreg.motion_correction import compensate

    monkeypatch.setattr(correction, "chunk_length", lambda *size: 2)
    monkeypatch.setattr(compensate, "open_reader", lambda *args: Failing(open_reader(*args), error))
    with pytest.raises(type(error)):
        correct(movie(wobble(8)), output_format=format_, reference_frames=0)
    left = [path for folder in tmp_path.glob("out*") for path in folder.rglob("*")]
    assert left == []


@pytest.mark.parametrize("writer", ["hdf5.Hdf5Writer", "fields.MaskWriter", "fields.FieldWriter"])
def test_a_disk_that_fills_up_while_frames_are_computed(correct, monkeypatch, tmp_path, writer):
    """The files are written behind: what fails there stops the work with the message of today."""
    module, name = writer.split(".")
    kind = getattr(importlib.import_module(f"pyflowreg.io.{module}"), name)
    write = kind._write

    def fail(self, frames, start):
        if start >= 2:
            raise OSError(28, "No space left on device")
        write(self, frames, start)

    monkeypatch.setattr(correction, "chunk_length", lambda *size: 2)
    monkeypatch.setattr(kind, "_write", fail)
    with pytest.raises(OutputError, match=r"cannot be written: No space left .*Free space"):
        correct(movie(wobble(8)), reference_frames=0)
    assert [path for folder in tmp_path.glob("out*") for path in folder.rglob("*")] == []


@pytest.mark.parametrize("buffer_size", [2, 400])
def test_few_chunks_are_in_memory(correct, monkeypatch, buffer_size):
    gone, most = [], []
    made = correction.CorrectedChunk

    def remembered(*args):
        chunk = made(*args)
        weakref.finalize(chunk, gone.append, None)
        most.append(len(most) + 1 - len(gone))
        return chunk

    monkeypatch.setattr(correction, "chunk_length", lambda *size: 2)
    monkeypatch.setattr(correction, "CorrectedChunk", remembered)
    correct(movie(wobble(24)), reference_frames=0, buffer_size=buffer_size, quality_setting="fast")
    assert len(most) == 12
    # The one just made, the one it replaces in the loop, and one being written.
    assert max(most) <= 3


def test_older_results_survive_a_failure(correct, monkeypatch, tmp_path):
    path = save_tiff(tmp_path / "rec.tif", movie(wobble(4)))
    options = OFOptions(input_file=path, output_path=tmp_path / "out", output_format="HDF5")
    options.quality_setting = "fast"
    compensate_recording(options)
    before = {file: file.read_bytes() for file in options.output_path.iterdir()}

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(correction, "warp_frames", fail)
    with pytest.raises(OSError, match="No space left"):
        compensate_recording(options)
    assert {file: file.read_bytes() for file in options.output_path.iterdir()} == before


@pytest.mark.parametrize("older", [False, True])
def test_frames_masks_and_fields_appear_together(correct, monkeypatch, tmp_path, older):
    path = save_tiff(tmp_path / "rec.tif", movie(wobble(4)))
    options = OFOptions(input_file=path, output_path=tmp_path / "out", quality_setting="fast")
    options.save_w = options.save_valid_idx = True
    if older:
        compensate_recording(options)
    before = {file: file.read_bytes() for file in (tmp_path / "out").glob("*")}

    def fail(self):
        raise OSError(28, "No space left on device")

    for name in ("MaskWriter", "FieldWriter"):
        with monkeypatch.context() as patch:
            patch.setattr(f"pyflowreg.io.fields.{name}._close", fail)
            with pytest.raises(OSError, match="No space left"):
                compensate_recording(options)
        assert {file: file.read_bytes() for file in (tmp_path / "out").glob("*")} == before


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


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input_file": None}, ConfigError, "input_file is not set"),
        ({"input_file": Path("no/such.tif")}, InputError, r"no/such\.tif"),
        ({"reference_frames": np.zeros((5, 6))}, ConfigError, r"reference .* shape \(5, 6, 1\)"),
        ({"a_data": [0.4, 0.5], "weight": [1, 1]}, None, ""),
        ({"flow_backend": "flowreg_torch"}, BackendError, "flow_backend is 'flowreg_torch'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, error, message):
    path = save_tiff(tmp_path / "rec.tif", movie(wobble(3)))
    options = OFOptions(input_file=path, output_path=tmp_path / "out", quality_setting="fast")
    for name, value in change.items():
        setattr(options, name, value)
    if error is None:
        assert compensate_recording(options).shape == (40, 48, 1)
        return
    with pytest.raises(error, match=message):
        compensate_recording(options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_are_at_least_one(correct, threads):
    with pytest.raises(ConfigError, match=f"threads is {threads}"):
        correct(movie(wobble(3)), threads=threads)


def test_frames_that_are_too_small(correct):
    with pytest.raises(InputError, match="6 x 48 pixels; both sides must have at least 8"):
        correct(movie(wobble(3), (6, 48)))


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


def test_progress_is_logged(correct, caplog):
    with caplog.at_level(logging.INFO):
        correct(movie(wobble(4)))
    assert "rec.tif" in caplog.text


@pytest.fixture
def _quiet_root():
    """The root logger as Python starts with it."""
    level = logging.root.level
    logging.root.setLevel(logging.WARNING)
    yield
    logging.root.setLevel(level)


@pytest.mark.usefixtures("_quiet_root")
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("set_up", [False, True])
def test_verbose_shows_progress(correct, caplog, capsys, monkeypatch, terminal, set_up):
    """With and without logging set up by the program, which is left as it was."""
    raw = movie(wobble(4))
    if not set_up:
        monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr("pyflowreg.motion_correction.progress.BAR_EVERY", 0)
    package = logging.getLogger("pyflowreg")
    before = package.level, list(package.handlers)
    correct(raw)
    assert "rec.tif" not in caplog.text + capsys.readouterr().err
    correct(raw, verbose=True)
    error = capsys.readouterr().err
    assert "rec.tif: 4 frames in" in (caplog.text if set_up else error)
    assert ("rec.tif [####" in error) == terminal
    assert (package.level, package.handlers) == before
