"""HDF5 recordings: where the frames are, in which order, and what is refused."""

import h5py
import numpy as np
import pytest

from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io import open_reader


@pytest.fixture
def movie():
    return np.random.default_rng(7).integers(-500, 500, (5, 6, 7, 2)).astype(np.int16)


def save(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def read_all(path, options=None):
    with open_reader(path, options) as reader:
        frames = reader.read(0, reader.shape[0])
        assert frames.shape == reader.shape
        assert frames.dtype == reader.dtype
        assert frames.dtype.isnative
        assert frames.flags.c_contiguous
        np.testing.assert_array_equal(reader.read(1, 3), frames[1:3])
        return frames


def test_channels_in_datasets_of_their_own(tmp_path, movie):
    path = save(tmp_path / "a.h5", ch1=movie[..., 0], ch2=movie[..., 1], other=movie[..., 0])
    np.testing.assert_array_equal(read_all(path), movie)


def test_ten_channels_are_in_numeric_order(tmp_path):
    path = save(tmp_path / "a.h5", **{f"ch{k}": np.full((3, 3, 4), k, "u1") for k in range(1, 11)})
    np.testing.assert_array_equal(read_all(path)[0, 0, 0], np.arange(1, 11))


def test_mov_comes_before_other_datasets(tmp_path, movie):
    path = save(tmp_path / "a.h5", mov=movie, raw=movie[::-1])
    np.testing.assert_array_equal(read_all(path), movie)


def test_the_only_movie_of_a_group(tmp_path, movie):
    path = save(tmp_path / "a.h5", data__image=movie[..., 0], data__behaviour=np.zeros((5, 8)))
    np.testing.assert_array_equal(read_all(path), movie[..., :1])


def test_other_axis_order(tmp_path, movie):
    path = save(tmp_path / "a.h5", imaging=movie[..., 0].transpose(1, 2, 0))
    np.testing.assert_array_equal(read_all(path, {"axes": "YXT"}), movie[..., :1])
    path = save(tmp_path / "b.h5", imaging=movie.transpose(0, 3, 2, 1)[:, None])
    np.testing.assert_array_equal(read_all(path, {"axes": "tzcxy"}), movie)


def test_named_datasets(tmp_path, movie):
    path = save(tmp_path / "a.h5", g__a=movie[..., 0], g__b=movie[..., 1])
    np.testing.assert_array_equal(read_all(path, {"dataset": "/g/b"}), movie[..., 1:])
    np.testing.assert_array_equal(read_all(path, {"dataset": ["g/b", "g/a"]}), movie[..., ::-1])
    with pytest.raises(InputError, match=r"no dataset c .*g/a \(5 x 6 x 7, int16\), g/b"):
        open_reader(path, {"dataset": "c"})
    with pytest.raises(InputError, match="more than one dataset"):
        open_reader(path)


def test_big_endian_values(tmp_path, movie):
    path = save(tmp_path / "a.h5", mov=movie.astype(">i2"))
    np.testing.assert_array_equal(read_all(path), movie)


def test_channels_that_differ(tmp_path, movie):
    path = save(tmp_path / "a.h5", ch1=movie[..., 0], ch2=movie[:3, ..., 0])
    with pytest.raises(InputError, match=r"/ch2 is 3 x 6 x 7 int16, /ch1 is 5 x 6 x 7"):
        open_reader(path)


def test_channel_numbers_with_a_gap(tmp_path, movie):
    path = save(tmp_path / "a.h5", ch1=movie[..., 0], ch3=movie[..., 0])
    with pytest.raises(InputError, match="without gaps"):
        open_reader(path)


def test_objects_and_ragged_rows_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("mov", (3, 4, 5), dtype=h5py.vlen_dtype(np.uint8))
    with pytest.raises(InputError, match="objects or ragged rows"):
        open_reader(path)


def test_movie_of_one_frame(tmp_path, movie):
    for values in (movie[:1, ..., 0], movie[0, ..., 0]):
        path = save(tmp_path / "a.h5", ch1=values)
        with pytest.raises(InputError, match="one frame"):
            open_reader(path)


def test_truncated_file(tmp_path, movie):
    path = save(tmp_path / "a.h5", mov=np.repeat(movie, 50, axis=0))
    with path.open("r+b") as file:
        file.truncate(9000)
    with pytest.raises(InputError, match=r"a\.h5 cannot be read as HDF5"):
        open_reader(path)


def test_damaged_frame_is_named(tmp_path, movie):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("mov", data=movie[..., 0], chunks=(1, 6, 7), fletcher32=True)
        offset = stored.id.get_chunk_info(3).byte_offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\x55" * 16)
    with open_reader(path) as reader:
        reader.read(0, 3)
        with pytest.raises(InputError, match=r"a\.h5: frame 3"):
            reader.read(0, 5)


def test_channel_that_is_not_there(tmp_path, movie):
    path = save(tmp_path / "a.h5", mov=movie)
    with pytest.raises(InputError, match="2 channel"):
        open_reader(path, {"channels": [2]})


def test_frames_outside_the_recording(tmp_path, movie):
    with open_reader(save(tmp_path / "a.h5", mov=movie)) as reader:
        for start, stop in ((-1, 2), (0, 6), (3, 2)):
            with pytest.raises(ValueError, match="of 5"):
                reader.read(start, stop)


@pytest.mark.parametrize(
    "options",
    [{"axis": "TYX"}, {"axes": "TYQ"}, {"axes": "YX"}, {"channels": [-1]}, {"n_channels": 0}],
    ids=str,
)
def test_wrong_options_are_named(tmp_path, movie, options):
    path = save(tmp_path / "a.h5", mov=movie)
    with pytest.raises(ConfigError, match=f"input_options.{next(iter(options))}"):
        open_reader(path, options)


def test_misspelt_option_names_the_nearest(tmp_path, movie):
    with pytest.raises(ConfigError, match="did you mean channels"):
        open_reader(save(tmp_path / "a.h5", mov=movie), {"chanels": [0]})
