"""Output formats: layout on disk, and nothing left behind when writing fails."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import tifffile

from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io import FORMATS, open_reader, open_writer, output_paths
from pyflowreg.io.fields import (
    FieldWriter,
    MaskWriter,
    existing_variant,
    iter_fields,
    iter_masks,
    mask_shape,
)

SUFFIX = {"HDF5": ".hdf5", "TIFF": ".tif", "MAT": ".mat", "CAIMAN_HDF5": ".h5"}


@pytest.fixture
def movie():
    return np.random.default_rng(2).integers(-9, 9, (5, 6, 7, 2)).astype(np.int16)


def write(path, movie, name):
    with open_writer(path, shape=movie.shape, dtype=movie.dtype, format=name) as writer:
        writer.write(movie[:3])
        writer.write(movie[3:])


def test_hdf5_layout(tmp_path, movie):
    write(tmp_path / "a.hdf5", movie, "HDF5")
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert sorted(file) == ["ch1", "ch2"]
        assert file["ch2"].shape == (5, 6, 7)
        assert file["ch2"].chunks == (1, 6, 7)
        assert file["ch2"].maxshape == (None, 6, 7)
        assert file["ch2"].dtype == np.int16


@pytest.mark.parametrize("channels", [1, 2])
def test_caiman_layout(tmp_path, movie, channels):
    write(tmp_path / "a.h5", movie[..., :channels], "CAIMAN_HDF5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file) == ["mov"]
        assert file["mov"].shape == ((5, 6, 7) if channels == 1 else (5, 6, 7, 2))


@pytest.mark.parametrize("kind", ["HDF5", "TIFF", "MAT"])
@pytest.mark.parametrize("base", ["compensated", "compensated.{}"])
def test_one_file_per_channel(tmp_path, movie, kind, base):
    suffix = SUFFIX[kind]
    path = tmp_path / base.format(suffix[1:])
    write(path, movie, f"MULTIFILE_{kind}")
    expected = [tmp_path / f"compensated_ch{k}{suffix}" for k in (1, 2)]
    assert sorted(tmp_path.iterdir()) == expected
    assert output_paths(path, 2, f"MULTIFILE_{kind}") == expected
    for k, file in enumerate(expected):
        with open_reader(file) as reader:
            np.testing.assert_array_equal(reader.read(0, 5), movie[..., k : k + 1])


def test_same_movie_gives_the_same_bytes(tmp_path, movie):
    for name, suffix in SUFFIX.items():
        for stem in "ab":
            write(tmp_path / (stem + suffix), movie, name)
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def fail_inside(path, movie, name, failure):
    with open_writer(path, shape=movie.shape, dtype=movie.dtype, format=name) as writer:
        writer.write(movie[:3])
        raise failure


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_nothing_is_left_after_a_failure(tmp_path, movie, name, failure):
    with pytest.raises(type(failure)):
        fail_inside(tmp_path / "out", movie, name, failure)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_missing_frames_leave_no_file(tmp_path, movie, name):
    with (
        pytest.raises(RuntimeError, match="3 of 5 frames"),
        open_writer(tmp_path / "o", shape=movie.shape, dtype="int16", format=name) as writer,
    ):
        writer.write(movie[:3])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, 6, 7, 2), np.float32),
        np.zeros((1, 6, 7, 1), np.int16),
        np.zeros((6, 7, 2), np.int16),
        np.zeros((6, 6, 7, 2), np.int16),
    ],
    ids=["dtype", "channels", "axes", "too many"],
)
def test_frames_that_do_not_fit_are_refused(tmp_path, movie, frames):
    with (
        pytest.raises(ValueError, match=r"do not fit|more than the declared"),
        open_writer(tmp_path / "o", shape=movie.shape, dtype=movie.dtype) as writer,
    ):
        writer.write(frames)
    assert list(tmp_path.iterdir()) == []


def test_unsupported_formats_and_types_are_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ConfigError, match=r"'BEGONIA' is not supported.*HDF5, TIFF, MAT"):
        open_writer(tmp_path / "o", shape=(2, 3, 4, 1), dtype="uint8", format="BEGONIA")
    with pytest.raises(InputError, match="int64"):
        open_writer(tmp_path / "o", shape=(2, 3, 4, 1), dtype="int64")
    assert list(tmp_path.iterdir()) == []


def test_existing_output_is_replaced_only_at_the_end(tmp_path, movie):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, movie[..., 0])
    before = path.read_bytes()
    with pytest.raises(OSError, match="full"):
        fail_inside(path, movie, "TIFF", OSError("full"))
    assert path.read_bytes() == before
    write(path, movie, "TIFF")
    with open_reader(path) as reader:
        assert reader.shape == movie.shape


def test_mask_layout_and_shape(tmp_path):
    path = tmp_path / "idx.hdf"
    with MaskWriter(path, (3, 4, 5)) as writer:
        writer.write(np.full((3, 4, 5), 255, np.uint8))
    with h5py.File(path) as file:
        assert file["idx"].dtype == np.uint8
        assert (file["idx"].compression, file["idx"].shuffle) == ("gzip", True)
    assert mask_shape(path) == (3, 4, 5)


def test_names_of_the_toolbox_are_found(tmp_path):
    assert existing_variant(tmp_path / "w.h5") is None
    with FieldWriter(tmp_path / "w.hdf", (2, 3, 4)) as writer:
        writer.write(np.ones((2, 3, 4, 2)))
    (tmp_path / "compensated.HDF5").write_bytes(b"")
    assert existing_variant(tmp_path / "w.h5") == tmp_path / "w.hdf"
    assert existing_variant(tmp_path / "compensated.hdf5") == tmp_path / "compensated.HDF5"
    (block,) = iter_fields(tmp_path / "w.h5")
    assert block.shape == (2, 3, 4, 2)
    assert block.dtype == np.float32


def test_file_without_masks_lists_what_is_there(tmp_path, movie):
    write(tmp_path / "idx.hdf", movie, "HDF5")
    with pytest.raises(InputError, match=r"no dataset idx .*ch1 \(5 x 6 x 7, int16\), ch2"):
        next(iter_masks(tmp_path / "idx.hdf"))


def test_importing_the_package_loads_no_file_library():
    code = "import sys, pyflowreg.io; print({'h5py', 'tifffile', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
