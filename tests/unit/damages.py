"""Ways to damage the results of a session of two recordings, rec_1 and the centre rec_2."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Damage = Callable[[Path], None]
"""Gets the folder with the folders of the recordings."""


def _of(name: str, change: Callable[[Path], None]) -> Damage:
    return lambda folder: change(folder / "rec_1" / name)


def truncated(path: Path) -> None:
    """The second half is missing."""
    os.truncate(path, path.stat().st_size // 2)


def flipped(path: Path) -> None:
    """One bit of the values is another one; length and header are right."""
    content = bytearray(path.read_bytes())
    content[-1 - len(content) // 5] ^= 4
    path.write_bytes(content)


def of_the_other(path: Path) -> None:
    """It is the other recording's."""
    shutil.copy(path.parent.with_name("rec_2") / path.name, path)


def garbage(path: Path) -> None:
    """It is no such file at all."""
    path.write_bytes(b"\0\1\2 no such file")


def fewer_frames(path: Path) -> None:
    """A whole file, with fewer frames."""
    with h5py.File(path) as file:
        content = {name: file[name][:-2] for name in file}
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name] = values


def never_written(path: Path) -> None:
    """As after a crash: all frames are declared, and the last ones were never written."""
    with h5py.File(path) as file:
        content = {name: file[name][:] for name in file}
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            dataset = file.create_dataset(
                name, values.shape, values.dtype, chunks=(1, *values.shape[1:])
            )
            dataset[:3] = values[:3]


def killed_while_writing(path: Path) -> None:
    """What another program has on the disk when it is killed before it closes the file."""
    path.unlink()
    frames = np.zeros((4, 24, 32), np.uint16)
    reading, writing = os.pipe()
    if (process := os.fork()) == 0:
        file = h5py.File(path, "w")
        dataset = file.create_dataset(
            "ch1", (0, 24, 32), np.uint16, maxshape=(None, 24, 32), chunks=(1, 24, 32)
        )
        dataset.resize(4, axis=0)
        dataset[:] = frames
        file.flush()
        dataset.resize(7, axis=0)
        dataset[4:6] = frames[:2]
        os.write(writing, b"x")
        os.kill(os.getpid(), 9)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    os.waitpid(process, 0)


def another_size(path: Path) -> None:
    """Arrays of another height and width."""
    if path.suffix == ".npz":
        with np.load(path) as data:
            content = {name: np.array(data[name]) for name in data}
        for name in ("u", "v"):
            content[name] = np.zeros((20, 30))
        np.savez_compressed(path, **content)
    elif path.suffix == ".npy":
        np.save(path, np.load(path)[:-4])
    else:
        with h5py.File(path) as file:
            content = {name: file[name][:, :-4] for name in file}
        with h5py.File(path, "w") as file:
            for name, values in content.items():
                file[name] = values


def without_v(path: Path) -> None:
    """One of two arrays is missing."""
    with np.load(path) as data:
        content = {name: np.array(data[name]) for name in data if name != "v"}
    np.savez_compressed(path, **content)


def not_finite(path: Path) -> None:
    """A field with a hole."""
    with np.load(path) as data:
        content: dict[str, Any] = {name: np.array(data[name]) for name in data}
    content["u"][3, 4] = np.nan
    np.savez_compressed(path, **content)


def a_list(path: Path) -> None:
    """Valid JSON, and no status."""
    path.write_text(json.dumps(["stage1", "done"]))


def empty(path: Path) -> None:
    """No bytes, as after a crash on a disk that was not flushed."""
    path.write_bytes(b"")


def vanished(path: Path) -> None:
    """It is not there."""
    path.unlink()


DAMAGES: dict[str, tuple[Callable[[Path], None], ...]] = {
    "compensated.hdf5": (
        fewer_frames,
        killed_while_writing,
        flipped,
        truncated,
        never_written,
        of_the_other,
        another_size,
        garbage,
        empty,
    ),
    "idx.hdf": (of_the_other, fewer_frames, flipped, truncated, another_size, garbage, empty),
    "temporal_average.npy": (truncated, flipped, another_size, of_the_other, garbage, empty),
    "statistics.npz": (truncated, flipped, garbage, empty),
    "reference_frame.npy": (truncated, flipped, of_the_other, empty),
    "w.h5": (truncated, of_the_other, fewer_frames, empty),
    "status.json": (truncated, garbage, a_list, empty),
    "w_to_reference.npz": (
        another_size,
        of_the_other,
        truncated,
        flipped,
        garbage,
        without_v,
        not_finite,
        empty,
    ),
}
"""What can be done to which file of a recording."""
