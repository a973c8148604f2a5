"""The file below an HDF5 or TIFF file being written: full disks, and frames that are already there.

What the libraries write follows from the calls they get alone: the same calls put the same bytes in
the same places. So a file whose writing was interrupted is continued by repeating all calls; the
values of frames that are on the disk are not written again, and all the rest is small.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from abc import abstractmethod
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyflowreg.io.base import Frames
from pyflowreg.io.failures import writing
from pyflowreg.io.writing import BaseWriter, Position, ResumeError

COMPARED = 32
"""Bytes at either end of random values by which they are recognised."""


def _new(path: Path) -> io.FileIO:
    """Make a file; what has its name is removed, not written to, nor what a link leads to."""
    if os.path.lexists(path):
        path.unlink()
    return path.open("x+b", buffering=0)


def _continued(path: Path) -> io.FileIO:
    """Open a file of which no other name is known; ResumeError if it may be somebody else's."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ResumeError("with a link for a file") from error
        raise
    found = os.fstat(descriptor)
    if found.st_nlink > 1 or not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ResumeError("with a file that has other names")
    return io.FileIO(descriptor, "r+b")


class Storage(io.RawIOBase):
    """Random-access file that remembers its first error instead of raising it.

    The HDF5 library cannot close a file that it cannot write to: what it keeps in memory stays
    half open, and the process crashes later. It is therefore told that every write succeeded;
    after an error its writes are kept in memory, so that it reads back what it wrote.

    Parameters
    ----------
    path : Path
        File to make.
    continued : bool
        The file is there. Until `go_on` it seems to be empty, and `present` marks values that it
        holds already.
    """

    def __init__(self, path: Path, continued: bool = False) -> None:
        super().__init__()
        self._file = _continued(path) if continued else _new(path)
        self._kept: list[tuple[int, bytes]] = []
        self._position = self._size = 0
        self._error: OSError | None = None
        self._repeating = continued
        self._present: memoryview | None = None
        self.end = 0

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error

    def readable(self) -> bool:
        """Reading is possible."""
        return True

    def writable(self) -> bool:
        """Writing is possible."""
        return True

    def seekable(self) -> bool:
        """Any position can be set."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Position."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the position on; what was never written is zero."""
        view, begin = memoryview(buffer).cast("B"), self._position
        self._file.seek(begin)
        found, there = 0, min(len(view), max(self._size - begin, 0))
        while found < there and (step := self._file.readinto(view[found:there])):
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
        done = len(view) if self._is_present(view) else 0
        try:
            if self._error is None and done < len(view):
                self._file.seek(self._position)
            while self._error is None and done < len(view):
                done += self._file.write(view[done:])
        except OSError as error:
            self._error = error
        if done < len(view):
            self._kept.append((self._position + done, bytes(view[done:])))
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def _is_present(self, view: memoryview) -> bool:
        if self._present is None or len(view) != len(self._present):
            return False
        for part in (slice(None, COMPARED), slice(-COMPARED, None)):
            if view[part] != self._present[part]:
                return False
        self._present = None
        self.end = self._position + len(view)
        return True

    def length(self) -> int:
        """Bytes of the file on the disk."""
        return os.fstat(self._file.fileno()).st_size

    def present(self, values: memoryview) -> None:
        """Leave out the next writing of these (random) values: the file has what belongs there."""
        self._present = values

    def check_present(self) -> None:
        """Raise ResumeError if the values that were announced have not been written."""
        if self._present is not None:
            raise ResumeError("the library writes files in another way than the one before")

    def go_on(self) -> None:
        """Everything was repeated: from now on values are written, and what follows is void."""
        self._repeating = False
        try:
            self._file.truncate(self._size)
        except OSError as error:
            self._error = self._error or error

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        self._size = self._position if size is None else size
        try:
            if self._error is None and not self._repeating:
                self._file.truncate(self._size)
        except OSError as error:
            self._error = error
        return self._size

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        self.check()
        os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Close the file and raise the first error, if there was one."""
        self._file.close()
        self._kept.clear()
        self.check()


class StoredWriter(BaseWriter):
    """Writer of one file in which every frame is written by one call of a library or more."""

    streams: int = 1
    """Calls per frame."""
    variable: ClassVar[bool] = False
    """The values are compressed, so their sizes differ."""

    def _make_storage(self, path: Path) -> Storage:
        self._sizes = array("q")
        if self._continued is not None and (path.is_symlink() or not path.is_file()):
            raise ResumeError("without the files it belongs to")
        self._storage = Storage(path, continued=self._continued is not None)
        return self._storage

    @abstractmethod
    def _payloads(self, frame: Frames) -> Sequence[Any]:
        """Return what is stored of a frame (H, W, C), one contiguous buffer per stream."""

    @abstractmethod
    def _blank(self, values: NDArray[np.uint8]) -> Any:
        """Make a payload of a stream from bytes."""

    @abstractmethod
    def _put(self, stream: int, number: int, payload: Any) -> None:
        """Write what is stored of frame `number`, in one piece."""

    @abstractmethod
    def _payload_bytes(self) -> int:
        """Bytes of a payload, unless they vary."""

    def _write(self, frames: Frames, start: int) -> None:
        for number, frame in enumerate(frames, start):
            for stream, payload in enumerate(self._payloads(frame)):
                self._put(stream, number, payload)
                if self.variable:
                    self._sizes.append(memoryview(payload).nbytes)
        self._storage.check()

    def _repeat(self, position: Position) -> None:
        frames = int(position["frames"])
        if self.variable:
            self._sizes.extend(position["sizes"][: frames * self.streams].tolist())
            sizes: Sequence[int] = self._sizes
        else:
            sizes = [self._payload_bytes()] * (frames * self.streams)
        if len(sizes) != frames * self.streams:
            raise ResumeError("its sizes of frames are incomplete")
        values: Any = np.frombuffer(os.urandom(max(sizes, default=0)), np.uint8)
        for index, size in enumerate(sizes):
            part = values[:size]
            self._storage.present(memoryview(part))
            self._put(index % self.streams, index // self.streams, self._blank(part))
            self._storage.check_present()
        if self._storage.end > self._storage.length():
            raise ResumeError("its files are shorter than they were")
        self._storage.go_on()
        self._storage.check()

    def sync(self) -> None:
        """Wait until the frames written so far are on the disk."""
        with writing(self.paths[0]):
            self._storage.sync()

    def position(self, frames: int) -> Position:
        """Return what is needed to continue the file after its first `frames` frames."""
        sizes = np.array(self._sizes[: frames * self.streams], dtype=np.int64)
        return {"frames": np.int64(frames), **({"sizes": sizes} if self.variable else {})}
