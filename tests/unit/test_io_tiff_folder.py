"""A folder of TIFF files as one recording."""

import numpy as np
import pytest
import tifffile

from pyflowreg.errors import InputError
from pyflowreg.io import open_reader


@pytest.fixture
def movie():
    return np.random.default_rng(5).integers(0, 4000, (12, 8, 9)).astype(np.uint16)


def test_single_pages_in_the_order_of_their_numbers(tmp_path, movie):
    for k, frame in enumerate(movie):
        tifffile.imwrite(tmp_path / f"rec_{k + 1}.tif", frame)
    (tmp_path / "rec.xml").write_text("<PVScan/>")
    (tmp_path / "._rec_1.tif").write_bytes(b"left by another system")
    with open_reader(tmp_path) as reader:
        assert reader.shape == (12, 8, 9, 1)
        np.testing.assert_array_equal(reader.read(0, 12)[..., 0], movie)
        np.testing.assert_array_equal(reader.read(9, 11)[..., 0], movie[9:11])
        np.testing.assert_array_equal(reader.read(11, 12)[..., 0], movie[11:])


def test_parts_of_several_pages(tmp_path, movie):
    for name, start, stop in (("b10.tif", 7, 12), ("b2.TIFF", 1, 7), ("b1.tif", 0, 1)):
        tifffile.imwrite(tmp_path / name, movie[start:stop])
    with open_reader(tmp_path) as reader:
        np.testing.assert_array_equal(reader.read(0, 12)[..., 0], movie)
        np.testing.assert_array_equal(reader.read(5, 9)[..., 0], movie[5:9])


@pytest.mark.parametrize("pattern", ["T_Ch{c}_{t:06d}.tif", "t{t}-ch{c}.tif", "ch{c}_{t}.ome.tif"])
def test_channel_numbers_in_names(tmp_path, movie, pattern):
    expected = np.stack([movie[:6], movie[6:]], axis=-1)
    for t in range(6):
        for k, c in enumerate((2, 10)):
            tifffile.imwrite(tmp_path / pattern.format(c=c, t=t + 8), expected[t, ..., k])
    with open_reader(tmp_path) as reader:
        assert reader.shape == (6, 8, 9, 2)
        np.testing.assert_array_equal(reader.read(0, 6), expected)
    with open_reader(tmp_path, {"channels": [1]}) as reader:
        np.testing.assert_array_equal(reader.read(0, 6), expected[..., 1:])


def test_one_channel_number_in_all_names_is_one_channel(tmp_path, movie):
    for t in range(3):
        tifffile.imwrite(tmp_path / f"x_Ch2_{t}.tif", movie[t])
    with open_reader(tmp_path) as reader:
        assert reader.shape == (3, 8, 9, 1)


def test_word_ending_in_ch_is_no_channel(tmp_path, movie):
    for t in range(4):
        tifffile.imwrite(tmp_path / f"March{t}.tif", movie[t])
    with open_reader(tmp_path) as reader:
        assert reader.shape == (4, 8, 9, 1)


def test_channel_with_a_missing_time_point(tmp_path, movie):
    for name in ("a_Ch1_1", "a_Ch1_2", "a_Ch2_1"):
        tifffile.imwrite(tmp_path / f"{name}.tif", movie[0])
    with pytest.raises(InputError, match=r"a_Ch1_2\.tif has no counterpart for channel 2"):
        open_reader(tmp_path)


def test_files_that_alternate_between_channels(tmp_path, movie):
    for k, frame in enumerate(movie):
        tifffile.imwrite(tmp_path / f"{k}.tif", frame)
    with open_reader(tmp_path, {"n_channels": 2}) as reader:
        assert reader.shape == (6, 8, 9, 2)
        np.testing.assert_array_equal(reader.read(2, 4)[..., 1], movie[[5, 7]])


def test_axes_describe_each_part(tmp_path, movie):
    for k in range(3):
        tifffile.imwrite(tmp_path / f"{k}.tif", movie[k].T)
    with open_reader(tmp_path, {"axes": "TXY"}) as reader:
        np.testing.assert_array_equal(reader.read(0, 3)[..., 0], movie[:3])


def test_part_that_differs_is_named(tmp_path, movie):
    for k in range(4):
        tifffile.imwrite(tmp_path / f"{k}.tif", movie[k] if k != 2 else movie[k, :5])
    with pytest.raises(InputError, match=r"2\.tif \(5 x 9 x 1, uint16\) differ from 0\.tif"):
        open_reader(tmp_path)


def test_unreadable_part_is_named(tmp_path, movie):
    for k in range(3):
        tifffile.imwrite(tmp_path / f"{k}.tif", movie[k])
    (tmp_path / "1.tif").write_bytes(b"II*\0")
    with pytest.raises(InputError, match=r"1\.tif cannot be read as TIFF"):
        open_reader(tmp_path)


def test_folder_without_tiff_says_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"no \.tif or \.tiff.*notes\.txt"):
        open_reader(tmp_path)
