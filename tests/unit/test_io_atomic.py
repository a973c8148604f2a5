"""Files appear complete or not at all."""

import json

import numpy as np
import pytest

from pyflowreg.errors import OutputError
from pyflowreg.io.atomic import (
    atomic_path,
    atomic_paths,
    atomic_save_npy,
    atomic_save_npz,
    atomic_write_json,
    atomic_write_text,
)
from pyflowreg.io.stack import Stack


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "new folder" / "a.b.txt"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".txt"
        temporary.write_text("x")
        assert not target.exists()
    assert target.read_text() == "x"
    assert names(target.parent) == ["a.b.txt"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_keeps_the_old_file_and_leaves_nothing(tmp_path, failure):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_several_files_appear_together_or_not_at_all(tmp_path):
    targets = [tmp_path / "a.txt", tmp_path / "b.txt"]
    with (
        pytest.raises(OutputError, match=r"b\.txt cannot be written"),
        atomic_paths(targets) as (first, _second),
    ):
        first.write_text("only one of them")
    assert names(tmp_path) == []
    with atomic_paths(targets) as temporary:
        for file in temporary:
            file.write_text("x")
    assert names(tmp_path) == ["a.txt", "b.txt"]


def test_longest_possible_name(tmp_path):
    target = tmp_path / ("n" * 251 + ".npy")
    atomic_save_npy(target, np.arange(3))
    np.testing.assert_array_equal(np.load(target), np.arange(3))


def test_arrays_text_and_json(tmp_path):
    atomic_save_npy(tmp_path / "a.npy", np.float64([[1, 2]]))
    atomic_save_npz(tmp_path / "a.npz", u=np.zeros(2), v=np.ones(3))
    atomic_write_text(tmp_path / "a.txt", "µm\n")
    atomic_write_json(tmp_path / "a.json", {"k": [1, "ü"]})
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), [[1, 2]])
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["u"].shape == (2,)
    assert (tmp_path / "a.txt").read_bytes() == "µm\n".encode()
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"k": [1, "ü"]}
    assert len(names(tmp_path)) == 4


def test_objects_are_not_pickled(tmp_path):
    with pytest.raises(ValueError):
        atomic_save_npy(tmp_path / "a.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="a would need pickling"):
        atomic_save_npz(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    assert names(tmp_path) == []


def test_a_stack_is_the_same_file_as_its_arrays_at_once(tmp_path):
    parts = np.random.default_rng(0).normal(size=(3, 4, 5))
    made = []

    def make(number):
        made.append(number)
        return parts[number]

    stack = Stack(3, (4, 5), parts.dtype, make)
    atomic_save_npz(tmp_path / "a.npz", first=stack, second=np.arange(3))
    assert made == [0, 1, 2]
    np.savez_compressed(tmp_path / "b.npz", first=parts, second=np.arange(3))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_stack_of_unequal_arrays_leaves_no_file(tmp_path):
    stack = Stack(2, (4,), np.dtype(float), lambda number: np.zeros(4 - number))
    with pytest.raises(ValueError, match=r"array 1 is \(3,\) float64, not \(4,\) float64"):
        atomic_save_npz(tmp_path / "a.npz", first=stack)
    assert not list(tmp_path.iterdir())
