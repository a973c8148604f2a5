"""MATLAB files, version 5 and 7.3."""

import h5py
import hdf5storage
import numpy as np
import pytest
import scipy.io

from pyflowreg.errors import InputError
from pyflowreg.io import open_reader, open_writer
from pyflowreg.io.mat_results import cell, save_mat
from pyflowreg.io.stack import Stack


@pytest.fixture
def movie():
    return np.random.default_rng(9).integers(-500, 500, (5, 6, 7, 2)).astype(np.int16)


def as_matlab(channel):
    """(T, H, W) as MATLAB shows it, rows x columns x time."""
    return np.ascontiguousarray(channel.transpose(1, 2, 0))


def save5(path, **variables):
    scipy.io.savemat(path, variables, do_compression=True)


def save73(path, **variables):
    hdf5storage.savemat(str(path), variables, format="7.3", appendmat=False)


@pytest.fixture(params=[save5, save73], ids=["v5", "v7.3"])
def save(request):
    return request.param


def read_all(path, options=None):
    with open_reader(path, options) as reader:
        frames = reader.read(0, reader.shape[0])
        np.testing.assert_array_equal(reader.read(1, 3), frames[1:3])
        return frames


def test_channels_in_variables_of_their_own(tmp_path, movie, save):
    path = tmp_path / "a.mat"
    save(path, ch1=as_matlab(movie[..., 0]), ch2=as_matlab(movie[..., 1]), fs=30.0)
    frames = read_all(path)
    assert frames.dtype == np.int16
    np.testing.assert_array_equal(frames, movie)
    np.testing.assert_array_equal(read_all(path, {"channels": [1]}), movie[..., 1:])


def test_the_only_movie_with_channels(tmp_path, movie, save):
    path = tmp_path / "a.mat"
    save(path, stack=np.ascontiguousarray(movie.transpose(1, 2, 3, 0)), fs=30.0)
    np.testing.assert_array_equal(read_all(path), movie)


def test_axes_are_those_matlab_shows(tmp_path, movie, save):
    path = tmp_path / "a.mat"
    save(path, stack=np.ascontiguousarray(movie[..., 0]))
    np.testing.assert_array_equal(read_all(path, {"axes": "TYX"}), movie[..., :1])


def test_missing_variable_lists_what_is_there(tmp_path, movie, save):
    path = tmp_path / "a.mat"
    save(path, a=as_matlab(movie[..., 0]), b=as_matlab(movie[..., 1]))
    with pytest.raises(InputError, match=r"a \(6 x 7 x 5, int16\), b \(6 x 7 x 5"):
        open_reader(path, {"dataset": "c"})
    with pytest.raises(InputError, match="more than one"):
        open_reader(path)
    np.testing.assert_array_equal(read_all(path, {"dataset": "b"}), movie[..., 1:])


def test_one_frame(tmp_path, movie, save):
    path = tmp_path / "a.mat"
    save(path, ch1=movie[0, ..., 0])
    with pytest.raises(InputError, match="one frame"):
        open_reader(path)


def test_doubles_that_matlab_5_stores_as_integers_stay_doubles(tmp_path):
    movie = np.arange(4 * 3 * 5, dtype=np.float64).reshape(4, 3, 5)
    scipy.io.savemat(tmp_path / "a.mat", {"ch1": as_matlab(movie)})
    assert read_all(tmp_path / "a.mat").dtype == np.float64


def test_cells_and_structures_are_refused(tmp_path, movie):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"c": cell([movie[0], movie[1]]), "s": {"x": 1}})
    for name in "cs":
        with pytest.raises(InputError, match=f"{name} is a MATLAB (cell|struct)"):
            open_reader(path, {"dataset": name})
    with pytest.raises(InputError, match="no variable has three or four axes"):
        open_reader(path)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("keep", [0.01, 0.5, 0.99])
def test_truncated_version_5_is_refused_at_opening(tmp_path, movie, compress, keep):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"ch1": as_matlab(movie[..., 0])}, do_compression=compress)
    with path.open("r+b") as file:
        file.truncate(max(5, int(path.stat().st_size * keep)))
    with pytest.raises(InputError, match=r"a\.mat"):
        open_reader(path)


def test_damaged_version_5_is_an_input_error_when_read(tmp_path, movie):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"ch1": as_matlab(movie[..., 0])}, do_compression=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\0" * (len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mat"), open_reader(path) as reader:
        reader.read(0, 5)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_written_movie_opens_in_matlab(tmp_path, movie, dtype):
    movie = np.abs(movie).astype(dtype)
    path = tmp_path / "out.mat"
    with open_writer(path, shape=movie.shape, dtype=dtype, format="MAT") as writer:
        writer.write(movie)
    found = hdf5storage.loadmat(str(path))
    for k in range(2):
        assert found[f"ch{k + 1}"].dtype == movie.dtype
        np.testing.assert_array_equal(found[f"ch{k + 1}"], as_matlab(movie[..., k]))
    head = path.read_bytes()[:128]
    assert head.startswith(b"MATLAB 7.3 MAT-file")
    assert head[124:] == b"\x00\x02IM"
    names = {"float32": b"single", "float64": b"double"}
    with h5py.File(path) as file:
        assert file["ch1"].attrs["MATLAB_class"] == names.get(dtype, dtype.encode())
        assert file["ch1"].shape == (5, 7, 6)


@pytest.mark.parametrize("largest", [2**31, 10], ids=["v5", "v7.3"])
def test_results_for_matlab(tmp_path, largest):
    path = tmp_path / "final_valid_idx.mat"
    masks = [np.eye(3, dtype=bool), np.ones((2, 5), dtype=bool)]
    save_mat(
        path,
        {
            "final_valid": masks[0],
            "middle_idx": 2.0,
            "per_seq_valid_masks": cell(masks),
            "compensated_h5_paths": cell(["a.hdf5", "recording b.hdf5"]),
            "mean_disp": np.arange(4.0),
        },
        largest=largest,
    )
    assert (path.read_bytes()[:10] == b"MATLAB 7.3") == (largest == 10)
    if largest == 10:
        found = hdf5storage.loadmat(str(path), appendmat=False)
    else:
        found = scipy.io.loadmat(path, appendmat=False)
    np.testing.assert_array_equal(found["final_valid"], masks[0])
    assert np.asarray(found["middle_idx"]).item() == 2
    cells = found["per_seq_valid_masks"]
    assert cells.shape == (1, 2)
    for k, mask in enumerate(masks):
        np.testing.assert_array_equal(cells[0, k], mask)
    assert "recording b" in str(np.asarray(found["compensated_h5_paths"][0, 1]).reshape(-1)[0])
    assert np.asarray(found["mean_disp"]).shape == (1, 4)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("largest", [2**31, 10], ids=["v5", "v7.3"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 2), (5, 7, 1), (1, 1)])
@pytest.mark.parametrize("dtype", [bool, float])
def test_a_stack_is_the_same_as_a_cell_of_its_arrays(tmp_path, largest, shape, dtype):
    values = (np.random.default_rng(0).normal(size=(3, *shape)) > 0).astype(dtype)
    made = []

    def make(number):
        made.append(number)
        return values[number]

    others = {"middle_idx": 2.0, "names": cell(["a", "recording b"])}
    stack = Stack(3, shape, values.dtype, make)
    save_mat(tmp_path / "a.mat", {"masks": stack, **others}, largest=largest)
    assert made == [0, 1, 2]
    save_mat(tmp_path / "b.mat", {"masks": cell(list(values)), **others}, largest=largest)
    load = hdf5storage.loadmat if largest == 10 else scipy.io.loadmat
    found, expected = (load(str(tmp_path / name), appendmat=False) for name in ("a.mat", "b.mat"))
    assert found.keys() == expected.keys()
    for key in ("masks", "names"):
        assert found[key].shape == expected[key].shape
        for one, other in zip(found[key][0], expected[key][0], strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_a_stack_too_large_for_version_5_is_written_as_7_3(tmp_path):
    stack = Stack(4, (8, 8), np.dtype(float), lambda number: np.full((8, 8), float(number)))
    for largest, start in ((stack.nbytes + 500, b"MATLAB 5.0"), (stack.nbytes, b"MATLAB 7.3")):
        save_mat(tmp_path / "a.mat", {"fields": stack}, largest=largest)
        assert (tmp_path / "a.mat").read_bytes().startswith(start)


def test_name_matlab_would_not_take(tmp_path):
    with pytest.raises(ValueError, match="1st"):
        save_mat(tmp_path / "a.mat", {"1st": 1})
    assert not list(tmp_path.iterdir())
