"""TIFF files that are damaged or cannot be used: what the message says, and when."""

import numpy as np
import pytest
import tifffile

from pyflowreg.errors import InputError
from pyflowreg.io import open_reader


@pytest.fixture
def movie():
    rng = np.random.default_rng(3)
    return rng.integers(0, 4000, (6, 10, 12)).astype(np.uint16)


@pytest.mark.parametrize("save", [{"metadata": None}, {}, {"compression": "zlib"}], ids=str)
@pytest.mark.parametrize("keep", [0.3, 0.75, 0.99])
def test_truncated_file_is_refused_at_opening(tmp_path, movie, save, keep):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, movie, **save)
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * keep))
    with pytest.raises(InputError, match=r"movie\.tif.*(frame [0-5]|cannot be read as TIFF)"):
        open_reader(path)


def test_last_page_cut_short_is_refused_at_opening(tmp_path, movie):
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as tif:
        for frame in movie:
            tif.write(frame, metadata=None)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 10)
    with pytest.raises(InputError, match="frame 5"):
        open_reader(path)


def test_damaged_frame_is_named_when_it_is_read(tmp_path, movie):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, movie, compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[3].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 20)
    with open_reader(path) as reader:
        reader.read(0, 3)
        with pytest.raises(InputError, match=r"movie\.tif: frame 3 .*decoded"):
            reader.read(0, 6)


def test_file_that_shrinks_while_open_names_the_frame(tmp_path, movie):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, movie, metadata={"axes": "TYX"})
    with open_reader(path) as reader:
        with tifffile.TiffFile(path) as tif:
            offset = tif.series[0].dataoffset
        with path.open("r+b") as file:
            file.truncate(offset + 4 * 240 + 7)
        with pytest.raises(InputError, match="frame 4"):
            reader.read(0, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"II*\0", "cannot be read as TIFF"),
        (b"II*\0\x08\0\0\0\xff\xff", "cannot be read as TIFF|no readable page|truncated"),
        (b"not a tiff at all", "not a TIFF, HDF5 or MAT file"),
    ],
)
def test_garbage_is_an_input_error(tmp_path, content, message):
    path = tmp_path / "bad.tif"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_reader(path)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.tif does not exist"):
        open_reader(tmp_path / "nothing.tif")


def test_movie_of_one_frame_says_what_to_do(tmp_path, movie):
    path = tmp_path / "one.tif"
    tifffile.imwrite(path, movie[:1])
    with pytest.raises(InputError, match=r"one frame.*at least 2"):
        open_reader(path)


def test_pages_of_differing_size_are_named(tmp_path, movie):
    path = tmp_path / "mixed.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(movie[0], metadata=None)
        tif.write(movie[1], metadata=None)
        tif.write(movie[2, :5], metadata=None)
    with pytest.raises(InputError, match="page 2 is 5 x 12"):
        open_reader(path)


@pytest.mark.parametrize("dtype", ["uint32", "int8", "complex64"])
def test_other_types_are_refused_naming_the_allowed(tmp_path, dtype):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, np.zeros((3, 4, 5), dtype), photometric="minisblack")
    with pytest.raises(InputError, match=f"{dtype}.*uint8, uint16, int16, float32"):
        open_reader(path)
