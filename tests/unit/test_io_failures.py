"""What the user reads when a file cannot be written, and what then lies on the disk."""

import errno
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from pyflowreg.errors import OutputError, PyflowregError
from pyflowreg.io import FORMATS, open_writer
from pyflowreg.io.atomic import (
    atomic_path,
    atomic_save_npy,
    atomic_save_npz,
    atomic_write_json,
    atomic_write_text,
)
from pyflowreg.io.fields import FieldWriter, MaskWriter
from pyflowreg.io.mat_results import save_mat
from pyflowreg.simulation.__main__ import main as simulate

NOISE = np.random.default_rng(0).integers(0, 65535, (40, 64, 64, 2)).astype(np.uint16)


def write_recording(path, kind="HDF5"):
    with open_writer(path, shape=NOISE.shape, dtype=NOISE.dtype, format=kind) as writer:
        for start in range(0, 40, 10):
            writer.write(NOISE[start : start + 10])


def write_field(path):
    with FieldWriter(path, NOISE.shape[:3]) as writer:
        writer.write(NOISE.astype(np.float32))


def write_mask(path):
    with MaskWriter(path, NOISE.shape[:3]) as writer:
        writer.write((NOISE[..., 0] % 256).astype(np.uint8))


WAYS = {
    **{kind: lambda path, kind=kind: write_recording(path, kind) for kind in FORMATS},
    "field": write_field,
    "mask": write_mask,
    "npy": lambda path: atomic_save_npy(path, NOISE),
    "npz": lambda path: atomic_save_npz(path, noise=NOISE),
    "text": lambda path: atomic_write_text(path, "x" * 200_000),
    "json": lambda path: atomic_write_json(path, ["x" * 200_000]),
    "mat": lambda path: save_mat(path, {"noise": NOISE}),
}


@pytest.fixture
def small_files():
    """The system lets no file grow beyond 100 kB, as `ulimit -f` does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("way", WAYS)
def test_limit_of_the_file_size(tmp_path, small_files, way):
    target = tmp_path / "a.out"
    target.write_text("old")
    with pytest.raises(OutputError, match=r"a\.out(_ch1\.\w+)? cannot be written: ") as caught:
        WAYS[way](target)
    assert "choose" in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["a.out"]
    assert target.read_text() == "old"


@pytest.mark.parametrize("kind", ["HDF5", "MAT", "TIFF"])
def test_limit_that_hits_when_the_file_is_closed(tmp_path, small_files, kind):
    frames = np.zeros((2, 32, 32, 1), np.uint8)
    message = r"cannot be written: (File too large\. .*ulimit -f|the disk is full, or)"
    writer = open_writer(tmp_path / "a.out", shape=(2, 32, 32, 1), dtype=np.uint8, format=kind)

    def write():
        with writer:
            writer.write(frames)
            # HDF5 keeps its headers to the end.
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OutputError, match=message):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", WAYS)
def test_folder_below_a_file(tmp_path, way):
    (tmp_path / "file").write_text("x")
    for folder in ("file", "file/deeper/still"):
        with pytest.raises(OutputError, match=r"file is a file, not a folder: rename it, or"):
            WAYS[way](tmp_path / folder / "a.out")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_name_of_a_folder(tmp_path):
    (tmp_path / "a.npy" / "b").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"a\.npy cannot be written: Is a directory\. .*rename"):
        atomic_save_npy(tmp_path / "a.npy", [1])
    assert [file.name for file in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.skipif(sys.platform != "linux", reason="a folder in which nobody may write")
@pytest.mark.parametrize("way", WAYS)
def test_folder_in_which_nothing_can_be_made(way):
    for folder in ("/proc", "/proc/new"):
        with pytest.raises(OutputError, match=r"^(the folder )?/proc/.*cannot be (written|made)"):
            WAYS[way](Path(folder, "a.out"))


@pytest.mark.parametrize(
    ("number", "way_out"),
    [(errno.ENOSPC, "Free space"), (errno.EACCES, "you may write"), (errno.EIO, "Check that")],
)
def test_reason_and_way_out(tmp_path, monkeypatch, number, way_out):
    def fail(*_, **__):
        raise OSError(number, "text of the system")

    monkeypatch.setattr("numpy.save", fail)
    with pytest.raises(OutputError, match=f"a.npy cannot be written: .*{way_out}") as caught:
        atomic_save_npy(tmp_path / "a.npy", [1])
    assert isinstance(caught.value, PyflowregError)
    assert caught.value.errno == number
    assert list(tmp_path.iterdir()) == []


def test_errors_of_other_files_pass(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "other").read_text()
    with pytest.raises(IsADirectoryError), atomic_path(tmp_path / "a.txt"):
        tmp_path.read_text()


def test_simulation_below_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert simulate([str(tmp_path / "file" / "demo"), "--n-recordings", "1"]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err
