"""Valid masks (idx.hdf) and displacement fields (w.h5) of a recording, frame by frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import InputError
from pyflowreg.io.base import Frames
from pyflowreg.io.hdf5 import open_hdf5
from pyflowreg.io.hdf5_checks import (
    DAMAGE,
    ChunkGuard,
    check_stored,
    contents,
    frames_at_once,
    list_datasets,
    number_type,
)
from pyflowreg.io.hdf5_storage import Hdf5BaseWriter
from pyflowreg.io.safety import check_frame

_SUFFIXES = (".hdf5", ".h5", ".hdf")


def existing_variant(path: str | os.PathLike[str]) -> Path | None:
    """Find a file also under the names the MATLAB toolbox gives it.

    Parameters
    ----------
    path : path
        For example `compensated.hdf5` or `w.h5`.

    Returns
    -------
    Path or None
        `path` if it exists, else the file of that folder whose name differs in case or in the
        spelling of the HDF5 suffix (`compensated.HDF5`, `w.hdf`); None if there is none.
    """
    wanted = Path(path)
    if wanted.exists() or not wanted.parent.is_dir():
        return wanted if wanted.exists() else None
    suffixes = _SUFFIXES if wanted.suffix.lower() in _SUFFIXES else (wanted.suffix.lower(),)
    names = {wanted.stem.lower() + suffix for suffix in suffixes}
    found = sorted(file for file in wanted.parent.iterdir() if file.name.lower() in names)
    return found[0] if found else None


class MaskWriter(Hdf5BaseWriter):
    """Writer of idx.hdf: dataset idx, uint8, (T, H, W), compressed.

    Parameters
    ----------
    path : path
        File to make.
    shape : tuple of int
        (T, H, W).
    """

    variable = True

    def __init__(self, path: str | os.PathLike[str], shape: tuple[int, int, int]) -> None:
        super().__init__([Path(path)], (*shape, 1), np.uint8)

    def _open(self, temporary: list[Path]) -> None:
        frames, height, width, _ = self.shape
        file = self._create(temporary[0])
        dataset = file.create_dataset(
            "idx",
            shape=(frames, height, width),
            maxshape=(None, height, width),
            chunks=(1, height, width),
            dtype=np.uint8,
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        self._set_datasets([dataset])

    def write(self, frames: Frames) -> None:
        """Append masks.

        Parameters
        ----------
        frames : ndarray, shape (n, H, W), uint8 or bool
            255 (True) where the frame has data, 0 where it has none.
        """
        masks = np.where(frames, np.uint8(255), np.uint8(0)) if frames.dtype == bool else frames
        super().write(masks[..., np.newaxis])


class FieldWriter(Hdf5BaseWriter):
    """Writer of w.h5: datasets u and v, float32, (T, H, W), pixels, backward map.

    Parameters
    ----------
    path : path
        File to make.
    shape : tuple of int
        (T, H, W).
    """

    def __init__(self, path: str | os.PathLike[str], shape: tuple[int, int, int]) -> None:
        super().__init__([Path(path)], (*shape, 2), np.float32)

    def _open(self, temporary: list[Path]) -> None:
        frames, height, width, _ = self.shape
        file = self._create(temporary[0])
        self._set_datasets(
            [
                file.create_dataset(
                    name,
                    shape=(frames, height, width),
                    maxshape=(None, height, width),
                    chunks=(1, height, width),
                    dtype=np.float32,
                )
                for name in ("u", "v")
            ]
        )

    def write(self, frames: Frames) -> None:
        """Append fields.

        Parameters
        ----------
        frames : ndarray, shape (n, H, W, 2), floating
            Displacements u (right) and v (down) in pixels; kept as float32.
        """
        super().write(np.asarray(frames, dtype=np.float32))


def _variant(path: str | os.PathLike[str]) -> Path:
    file = existing_variant(path)
    if file is None:
        raise InputError(f"{path} does not exist")
    return file


def _dataset(path: Path, file: Any, name: str) -> Any:
    datasets = list_datasets(file)
    dataset = datasets.get(name)
    if dataset is None or len(dataset.shape or ()) != 3 or number_type(dataset) is None:
        raise InputError(
            f"{path} has no dataset {name} of shape (T, H, W). It holds {contents(datasets)}"
        )
    check_frame(path, "a frame", dataset.shape[1:], dataset.dtype.itemsize)
    check_stored(path, dataset)
    return dataset


def mask_shape(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Shape (T, H, W) of the masks in a file, from its header."""
    file = _variant(path)
    with open_hdf5(file) as handle:
        frames, height, width = _dataset(file, handle, "idx").shape
    return int(frames), int(height), int(width)


def field_shape(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Shape (T, H, W) of the displacement fields in a file, from its header."""
    file = _variant(path)
    with open_hdf5(file) as handle:
        frames, height, width = _dataset(file, handle, "u").shape
    return int(frames), int(height), int(width)


def _blocks(path: Path, datasets: list[Any], chunk: int) -> Iterator[list[NDArray[Any]]]:
    chunk = frames_at_once(datasets[0].shape[1:], datasets[0].dtype.itemsize, chunk)
    guards = [ChunkGuard(path, dataset, 0) for dataset in datasets]
    frames = datasets[0].shape[0]
    for start in range(0, frames, chunk):
        try:
            for guard in guards:
                guard.check(start, min(start + chunk, frames))
            yield [dataset[start : start + chunk] for dataset in datasets]
        except DAMAGE as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path}: frames from {start} on cannot be read ({error}). Make the file again"
            ) from error


def iter_masks(path: str | os.PathLike[str], chunk: int = 64) -> Iterator[NDArray[np.uint8]]:
    """Read masks in blocks of frames.

    Parameters
    ----------
    path : path
        `idx.hdf`, the toolbox's too.
    chunk : int
        Frames per block.

    Yields
    ------
    ndarray, shape (n, H, W), uint8
        0 where a frame has no data.
    """
    file = _variant(path)
    with open_hdf5(file) as handle:
        for (block,) in _blocks(file, [_dataset(file, handle, "idx")], chunk):
            yield block.astype(np.uint8, copy=False)


def iter_fields(path: str | os.PathLike[str], chunk: int = 64) -> Iterator[NDArray[np.float32]]:
    """Read displacement fields in blocks of frames.

    Parameters
    ----------
    path : path
        `w.h5`, or the toolbox's `w.hdf`.
    chunk : int
        Frames per block.

    Yields
    ------
    ndarray, shape (n, H, W, 2), float32
        u (right) and v (down), pixels, backward map: out(y, x) = in(y + v, x + u).
    """
    file = _variant(path)
    with open_hdf5(file) as handle:
        datasets = [_dataset(file, handle, name) for name in ("u", "v")]
        if datasets[0].shape != datasets[1].shape:
            raise InputError(f"{file}: u {datasets[0].shape} and v {datasets[1].shape} differ")
        for block in _blocks(file, datasets, chunk):
            yield np.stack(block, axis=-1).astype(np.float32, copy=False)
