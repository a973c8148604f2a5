"""Recordings, settings and disks that stop a motion correction, and what is left then."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from pyflowreg.errors import BackendError, ConfigError, InputError, OutputError
from pyflowreg.io import open_reader
from pyflowreg.motion_correction import OFOptions, compensate_recording, correction

from .scenes import movie, save_tiff, wobble

BOTH = pytest.mark.parametrize("numerics", ["standard", "matlab"])


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


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input_file": None}, ConfigError, "input_file is not set"),
        ({"input_file": Path("no/such.tif")}, InputError, r"no/such\.tif"),
        ({"reference_frames": np.zeros((5, 6))}, ConfigError, r"reference .* shape \(5, 6, 1\)"),
        ({"a_data": [0.4, 0.5], "weight": [1, 1]}, None, ""),
        ({"flow_backend": "flowreg_torch"}, BackendError, "torch is not installed; install it"),
    ],
)
@pytest.mark.usefixtures("without_extras")
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
