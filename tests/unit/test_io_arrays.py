"""Small files of arrays: the arrays that were saved, or an error that names the file."""

import numpy as np
import pytest

from pyflowreg.errors import InputError
from pyflowreg.io.arrays import read_npy, read_npz
from pyflowreg.io.atomic import atomic_save_npy, atomic_save_npz

VALUES = np.random.default_rng(0).normal(size=(3, 4))
ARRAYS = {"u": VALUES, "v": VALUES.T, "name": np.array("abc"), "count": np.array(3)}


@pytest.fixture
def npz(tmp_path):
    atomic_save_npz(tmp_path / "a.npz", **ARRAYS)
    return tmp_path / "a.npz"


@pytest.fixture
def npy(tmp_path):
    atomic_save_npy(tmp_path / "a.npy", VALUES)
    return tmp_path / "a.npy"


def test_arrays_come_back(npz, npy):
    found = read_npz(npz)
    assert sorted(found) == sorted(ARRAYS)
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    np.testing.assert_array_equal(read_npy(npy), VALUES)


@pytest.mark.parametrize("array", [np.zeros((0, 3)), np.asfortranarray(VALUES), np.array(2.5)])
def test_any_array(tmp_path, array):
    atomic_save_npy(tmp_path / "a.npy", array)
    found = read_npy(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable


def outcome(read, path, content):
    """What a file of such content is read as; None after an error that names it."""
    path.write_bytes(content)
    try:
        return read(path)
    except InputError as error:
        return None if str(path) in str(error) else error


@pytest.mark.filterwarnings("ignore")
def test_flipped_bits_of_an_archive(npz):
    """The values are those that were saved, or there is an error; an array may be missing."""
    content = npz.read_bytes()
    errors = 0
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position // 3 % 8)
        found = outcome(read_npz, npz, damaged)
        errors += found is None
        for name in set(found or ()) & set(ARRAYS):
            np.testing.assert_array_equal(found[name], ARRAYS[name])
    assert errors > len(content) / 6


@pytest.mark.filterwarnings("ignore")
def test_flipped_bits_of_a_header(npy):
    content = npy.read_bytes()
    for position in range(len(content) - VALUES.nbytes):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        found = outcome(read_npy, npy, damaged)
        assert found is None or found.nbytes == VALUES.nbytes


def test_any_length(npz, npy):
    for path, read in ((npz, read_npz), (npy, read_npy)):
        content = path.read_bytes()
        for length in range(0, len(content), 7):
            path.write_bytes(content[:length])
            with pytest.raises(InputError, match=f"{path.name} is truncated or damaged"):
                read(path)
    npy.write_bytes(content + b"x")
    with pytest.raises(InputError, match=r"a\.npy is truncated or damaged \(97 bytes of values"):
        read_npy(npy)


def test_missing_and_unreadable(tmp_path):
    with pytest.raises(InputError, match=r"a\.npy does not exist"):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"cannot be read: Is a directory"):
        read_npz(tmp_path)


def test_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    for read, name in ((read_npy, "a.npy"), (read_npz, "a.npz")):
        with pytest.raises(InputError, match="Python objects"):
            read(tmp_path / name)
