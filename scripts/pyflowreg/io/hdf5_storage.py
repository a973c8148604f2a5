"""The file below an HDF5 file being written, which keeps a full disk away from the HDF5 library."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyflowreg.io.base import Frames
from pyflowreg.io.writing import BaseWriter


class Storage(io.RawIOBase):
    """Random-access file that remembers its first error instead of raising it.

    The HDF5 library cannot close a file that it cannot write to: what it keeps in memory stays
    half open, and the process crashes later. It is therefore told that every write succeeded;
    after an error its writes are kept in memory, so that it reads back what it wrote.

    Parameters
    ----------
    path : Path
        File to make.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w+b", buffering=0)
        self._kept: list[tuple[int, bytes]] = []
        self._position = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end()}[whence]
        self._position = base + offset
        return self._position

    def _end(self) -> int:
        kept = (start + len(data) for start, data in self._kept)
        return max(self._file.seek(0, io.SEEK_END), *kept, 0)

    def tell(self) -> int:
        """Position."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the position on; what was never written is zero."""
        view, begin = memoryview(buffer).cast("B"), self._position
        self._file.seek(begin)
        found = 0
        while found < len(view) and (step := self._file.readinto(view[found:])):
            found += step
        view[found:] = bytes(len(view) - found)
        for start, data in self._kept:
            first, last = max(start, begin), min(start + len(data), begin + len(view))
            if first < last:
                view[first - begin : last - begin] = data[first - start : last - start]
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        """Write at the position, in memory after an error."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            if self._error is None:
                self._file.seek(self._position)
            while self._error is None and done < len(view):
                done += self._file.write(view[done:])
        except OSError as error:
            self._error = error
        if done < len(view):
            self._kept.append((self._position + done, bytes(view[done:])))
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        size = self._position if size is None else size
        try:
            if self._error is None:
                self._file.truncate(size)
        except OSError as error:
            self._error = error
        return size

    def finish(self) -> None:
        """Close the file and raise the first error, if there was one."""
        self._file.close()
        self._kept.clear()
        self.check()


class Hdf5BaseWriter(BaseWriter):
    """Writer of one HDF5 file of datasets with one chunk per frame."""

    def _create(self, path: Path, userblock_size: int = 0) -> Any:
        """Create the file; `_close` finishes it."""
        self._storage = Storage(path)
        # MATLAB keeps its own header in a user block, which HDF5 skips.
        self._file = h5py.File(self._storage, "w", userblock_size=userblock_size)
        return self._file

    def _append(self, dataset: Any, frames: Frames, start: int) -> None:
        """Write frames (n, ...), each of which is one chunk, from number `start` on.

        Chunks are handed over as they are stored: HDF5 would copy every frame into its cache, and
        compress while nothing else can be read or written.
        """
        compressed = dataset.compression == "gzip"
        rest = (0,) * (frames.ndim - 1)
        for number, frame in enumerate(frames, start):
            values: Any = np.ascontiguousarray(frame)
            if compressed:
                # The shuffle filter does nothing to numbers of one byte.
                values = zlib.compress(values, dataset.compression_opts)
            dataset.id.write_direct_chunk((number, *rest), values)
        self._storage.check()

    def _close(self) -> None:
        self._file.close()
        self._storage.finish()
