"""Any movie comes back from every format as it was written, however it is cut into blocks."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyflowreg.errors import InputError
from pyflowreg.io import natural_key, open_reader, open_writer
from pyflowreg.io.fields import FieldWriter, MaskWriter, iter_fields, iter_masks

from .strategies import movies, splits

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("HDF5", ".hdf5"), ("TIFF", ".tif"), ("MAT", ".mat"), ("CAIMAN_HDF5", ".h5")],
)
@QUICK
@given(data=st.data(), movie=movies())
def test_written_movie_reads_back_identically(name, suffix, data, movie):
    frames = len(movie)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"movie{suffix}"
        cuts = data.draw(splits(frames))
        with open_writer(path, shape=movie.shape, dtype=movie.dtype, format=name) as writer:
            for start, stop in itertools.pairwise(cuts):
                writer.write(movie[start:stop])
        with open_reader(path) as reader:
            assert reader.shape == movie.shape
            assert reader.dtype == movie.dtype
            cuts = data.draw(splits(frames))
            blocks = [reader.read(a, b) for a, b in itertools.pairwise(cuts)]
            np.testing.assert_array_equal(np.concatenate(blocks), movie)
            start = data.draw(st.integers(0, frames - 1))
            np.testing.assert_array_equal(reader.read(start, start + 1)[0], movie[start])


@QUICK
@given(movie=movies(("float32",), max_channels=2))
def test_masks_and_fields_read_back_identically(movie):
    fields = np.repeat(movie[..., :1], 2, axis=-1) * np.float32([1, -1])
    masks = movie[..., 0] > 0
    with tempfile.TemporaryDirectory() as folder:
        idx, w = Path(folder) / "idx.hdf", Path(folder) / "w.h5"
        with MaskWriter(idx, masks.shape) as writer:
            writer.write(masks[:1])
            writer.write(masks[1:])
        with FieldWriter(w, masks.shape) as writer:
            writer.write(fields)
        np.testing.assert_array_equal(np.concatenate(list(iter_masks(idx, 2))), masks * 255)
        np.testing.assert_array_equal(np.concatenate(list(iter_fields(w, 3))), fields)


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_is_the_order_of_the_numbers(numbers):
    names = sorted((f"frame_{n}.tif" for n in numbers), key=natural_key)
    assert names == [f"frame_{n}.tif" for n in sorted(numbers)]


@pytest.mark.parametrize(("name", "suffix"), [("HDF5", ".hdf5"), ("TIFF", ".tif"), ("MAT", ".mat")])
@QUICK
@given(kept=st.floats(0, 1, exclude_max=True))
def test_truncated_file_is_refused_or_still_complete(name, suffix, kept):
    movie = np.arange(5 * 16 * 16, dtype=np.uint16).reshape(5, 16, 16, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"movie{suffix}"
        with open_writer(path, shape=movie.shape, dtype=movie.dtype, format=name) as writer:
            writer.write(movie)
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
        try:
            with open_reader(path) as reader:
                frames = reader.read(0, reader.shape[0])
        except InputError as error:
            message = str(error)
        else:  # only descriptive bytes at the end were lost
            message = path.name
            np.testing.assert_array_equal(frames, movie)
        assert path.name in message
