"""What the writers of HDF5 files have in common."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pyflowreg.io.base import Frames
from pyflowreg.io.storage import StoredWriter


def unwritten_chunks(path: Path) -> int:
    """Count what a program that was killed has declared but never written.

    Parameters
    ----------
    path : Path
        An HDF5 file of a recording.

    Returns
    -------
    int
        Chunks (usually frames) without values, of the dataset that has most; 0 if the file is
        another one.
    """
    most = 0
    try:
        with h5py.File(path, "r") as file:
            for dataset in file.values():
                if isinstance(dataset, h5py.Dataset) and dataset.ndim >= 3:
                    most = max(most, _unwritten(dataset))
    except (OSError, RuntimeError):
        return 0
    return most


def _unwritten(dataset: Any) -> int:
    if dataset.chunks is None:
        return 0 if dataset.id.get_storage_size() else int(dataset.shape[0])
    pairs = zip(dataset.shape, dataset.chunks, strict=True)
    declared = math.prod(-(-int(extent) // int(chunk)) for extent, chunk in pairs)
    written: int = dataset.id.get_num_chunks()
    return declared - written


class Hdf5BaseWriter(StoredWriter):
    """Writer of one HDF5 file of datasets with one chunk per frame.

    Chunks are handed over as they are stored: HDF5 would copy every frame into its cache, and
    compress while nothing else can be read or written.
    """

    def _create(self, path: Path, userblock_size: int = 0) -> Any:
        """Create the file; `_close` finishes it."""
        # MATLAB keeps its own header in a user block, which HDF5 skips.
        self._file = h5py.File(self._make_storage(path), "w", userblock_size=userblock_size)
        return self._file

    def _set_datasets(self, datasets: Sequence[Any]) -> None:
        """Say which datasets take the planes of a frame, in this order."""
        self._datasets = list(datasets)
        self.streams = len(self._datasets)

    def _planes(self, frame: Frames) -> Sequence[NDArray[Any]]:
        """Return what each dataset stores of a frame (H, W, C)."""
        return list(np.moveaxis(frame, -1, 0))

    def _payloads(self, frame: Frames) -> Sequence[Any]:
        planes: list[Any] = [np.ascontiguousarray(plane) for plane in self._planes(frame)]
        if not self.variable:
            return planes
        # The shuffle filter does nothing to numbers of one byte.
        return [
            zlib.compress(plane, dataset.compression_opts)
            for plane, dataset in zip(planes, self._datasets, strict=True)
        ]

    def _blank(self, values: NDArray[np.uint8]) -> Any:
        return values

    def _put(self, stream: int, number: int, payload: Any) -> None:
        dataset = self._datasets[stream]
        dataset.id.write_direct_chunk((number, *(0,) * (dataset.ndim - 1)), payload)

    def _payload_bytes(self) -> int:
        chunk = self._datasets[0]
        return int(np.prod(chunk.chunks)) * int(chunk.dtype.itemsize)

    def _close(self) -> None:
        self._file.close()
        self._storage.finish()
