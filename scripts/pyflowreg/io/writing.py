"""What the writers of recordings have in common."""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from pyflowreg.core.interruption import uninterrupted
from pyflowreg.io.atomic import atomic_paths
from pyflowreg.io.base import Frames, Shape4, check_dtype
from pyflowreg.io.failures import writing

logger = logging.getLogger(__name__)

Position = Mapping[str, Any]
"""How far a file is written: number of frames, and what else is needed to continue it (arrays)."""

Files = Callable[[Sequence[Path]], AbstractContextManager[list[Path]]]
"""Makes the context in which files are written under other names and published, `atomic_paths`."""


class ResumeError(Exception):
    """A file that was begun cannot be continued; it has to be made from its beginning."""


@contextlib.contextmanager
def restoring() -> Iterator[None]:
    """Turn what a record lacks, or holds in another shape, into `ResumeError`."""
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise ResumeError(f"damaged ({error})") from error


class BaseWriter(ABC):
    """Counts the frames and publishes the file only when all of them were written.

    Parameters
    ----------
    paths : sequence of Path
        Files to make (more than one when each channel has its own).
    shape : tuple of int
        (T, H, W, C), every number at least 1.
    dtype : dtype
        Type of the values; frames of another type are refused.
    """

    def __init__(self, paths: Sequence[Path], shape: Shape4, dtype: DTypeLike) -> None:
        if len(shape) != 4 or min(shape) < 1:
            raise ValueError(f"{paths[0]}: shape {shape} must be (T, H, W, C), all at least 1")
        self.paths = list(paths)
        self.shape: Shape4 = shape
        self.dtype = check_dtype(paths[0], np.dtype(dtype))
        self.frames_written = 0
        self._group: WriterGroup | None = None
        self._continued: Position | None = None

    @abstractmethod
    def _open(self, temporary: list[Path]) -> None:
        """Create the temporary files."""

    @abstractmethod
    def _write(self, frames: Frames, start: int) -> None:
        """Write frames (n, H, W, C) that begin at frame number `start`."""

    @abstractmethod
    def _close(self) -> None:
        """Finish the temporary files."""

    @abstractmethod
    def _repeat(self, position: Position) -> None:
        """Bring the writer to where it was, in a file that holds the frames up to there."""

    @abstractmethod
    def sync(self) -> None:
        """Wait until the frames written so far are on the disk."""

    @abstractmethod
    def position(self, frames: int) -> Position:
        """Return what is needed to continue the file after its first `frames` frames."""

    def continue_from(self, position: Position) -> None:
        """Continue the temporary files, which are there, instead of making them.

        Parameters
        ----------
        position : mapping
            What `position` returned while they were written. The files are the same in the end,
            byte by byte, as if they had been written at one go.
        """
        self._continued = position

    def write(self, frames: Frames) -> None:
        """Append frames.

        Parameters
        ----------
        frames : ndarray, shape (n, H, W, C)
            Of the declared dtype.
        """
        if self._group is None:
            raise RuntimeError(f"{self.paths[0]}: write inside the writer's `with` block")
        if frames.ndim != 4 or frames.shape[1:] != self.shape[1:] or frames.dtype != self.dtype:
            raise ValueError(
                f"{self.paths[0]}: frames {frames.shape} {frames.dtype} do not fit the declared "
                f"{self.shape} {self.dtype}"
            )
        if self.frames_written + len(frames) > self.shape[0]:
            raise ValueError(f"{self.paths[0]}: more than the declared {self.shape[0]} frames")
        if len(frames):
            with writing(self.paths[0]):
                self._write(frames, self.frames_written)
            self.frames_written += len(frames)

    def __enter__(self) -> Self:
        WriterGroup([self]).__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._group is not None:
            self._group.__exit__(exc_type, exc, traceback)

    def begin(self, group: WriterGroup, temporary: list[Path]) -> None:
        """Create the temporary files, one per path, or open those to be continued."""
        with writing(self.paths[0]):
            self._open(temporary)
            self._group = group
            if self._continued is not None:
                with restoring():
                    self._repeat(self._continued)
                    self.frames_written = int(self._continued["frames"])

    def finish(self) -> None:
        """Close the temporary files and check that every frame was written."""
        self._group = None
        with writing(self.paths[0]):
            self._close()
        if self.frames_written != self.shape[0]:
            raise RuntimeError(
                f"{self.paths[0]}: {self.frames_written} of {self.shape[0]} frames were "
                "written, so the file is not made"
            )

    def abandon(self) -> None:
        """Close after a failure; a second error (disk full) must not hide the first."""
        if self._group is None:
            return
        self._group = None
        try:
            self._close()
        except (OSError, RuntimeError, ValueError) as error:
            logger.debug("closing %s after a failure: %s", self.paths[0], error)


class WriterGroup:
    """Writers whose files appear together: all are closed and checked before one is renamed.

    Leaving the `with` block by an exception, or a writer that cannot be finished, leaves none of
    the files and keeps what was there before. Ctrl-C does not reach the libraries that write: HDF5
    would take its exception for a disk that cannot be written.

    Parameters
    ----------
    writers : sequence of BaseWriter
        Not to be entered by themselves.
    files : callable
        Where they are written first, and how they are published.
    """

    def __init__(self, writers: Sequence[BaseWriter], files: Files = atomic_paths) -> None:
        self.writers = list(writers)
        self._make_files = files
        self._files: AbstractContextManager[list[Path]] | None = None

    def __enter__(self) -> Self:
        files = self._make_files([path for writer in self.writers for path in writer.paths])
        with contextlib.ExitStack() as undo:
            temporary = iter(files.__enter__())
            undo.push(files)
            for writer in self.writers:
                own = [next(temporary) for _ in writer.paths]
                undo.callback(uninterrupted, writer.abandon)
                uninterrupted(partial(writer.begin, self, own))
            undo.pop_all()
        self._files = files
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._files is None:
            return
        with contextlib.ExitStack() as publish:
            publish.push(self._files)
            self._files = None
            for writer in self.writers:
                publish.callback(uninterrupted, writer.abandon)
            if exc is not None:
                # Tell the temporary files about the failure; it goes on by itself afterwards.
                publish.pop_all().__exit__(exc_type, exc, traceback)
                return
            for writer in self.writers:
                uninterrupted(writer.finish)


class PerChannelWriter(BaseWriter):
    """One file per channel, published together.

    Parameters
    ----------
    writer : type of BaseWriter
        Kind of the files.
    paths : sequence of Path
        One per channel.
    shape : tuple of int
        (T, H, W, C) of the recording.
    dtype : dtype
        Type of the values.
    """

    def __init__(
        self, writer: type[BaseWriter], paths: Sequence[Path], shape: Shape4, dtype: DTypeLike
    ) -> None:
        super().__init__(paths, shape, dtype)
        single: Shape4 = (shape[0], shape[1], shape[2], 1)
        self._parts = [writer([path], single, dtype) for path in paths]

    def continue_from(self, position: Position) -> None:
        """Continue the temporary files; all are at the same frame."""
        super().continue_from(position)
        for part in self._parts:
            part.continue_from(position)

    def _open(self, temporary: list[Path]) -> None:
        for part, file in zip(self._parts, temporary, strict=True):
            with writing(part.paths[0]):
                part._open([file])

    def _repeat(self, position: Position) -> None:
        for part in self._parts:
            with writing(part.paths[0]):
                part._repeat(position)

    def sync(self) -> None:
        """Wait until the frames written so far are on the disk."""
        for part in self._parts:
            part.sync()

    def position(self, frames: int) -> Position:
        """Return what is needed to continue; frames of these formats have one size."""
        return self._parts[0].position(frames)

    def _write(self, frames: Frames, start: int) -> None:
        for k, part in enumerate(self._parts):
            with writing(part.paths[0]):
                part._write(frames[..., k : k + 1], start)

    def _close(self) -> None:
        for part in self._parts:
            with writing(part.paths[0]):
                part._close()
