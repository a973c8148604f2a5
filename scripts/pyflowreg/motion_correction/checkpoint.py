"""What a correction needs to go on after it was killed, in a hidden folder beside its results.

The folder holds a lock, the files that are being written, under their own names, and a record: the
arrays the next frame depends on. Frames are on the disk before the record that counts them, and
the record is replaced by renaming; so at every instant there are a record and the frames it counts.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import InputError, OutputError
from pyflowreg.io.arrays import read_npz
from pyflowreg.io.atomic import sync_file, temporary_sibling
from pyflowreg.io.failures import (
    make_folder,
    remove_file,
    sync_folder,
    writing,
    writing_among_others,
)
from pyflowreg.motion_correction.folder_lock import FolderLock
from pyflowreg.motion_correction.software import software_revision

logger = logging.getLogger(__name__)

FORMAT = 2
RECORD = "record.npz"
SOFTWARE = "software"
DIGEST = "digest"
# File systems without hard links, or without any between folders (some FUSE and SMB mounts, FAT,
# AFS), say so with these.
_NO_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES, errno.EXDEV}
)

State = Mapping[str, NDArray[Any]]


def _digest(arrays: Mapping[str, Any]) -> str:
    """Hash named arrays, so that one that somebody exchanged is never taken for its own."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        found.update(f"{name} {array.shape} {array.dtype.str} ".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


class Checkpoint:
    """The checkpoint of one recording, which this process alone may use; see `claimed`.

    Parameters
    ----------
    lock : FolderLock
        Lock of the hidden folder, held.
    made_of : mapping of str to str
        Fingerprints of what the result depends on, by what they are called in messages.
    seconds : float
        Work that may be lost.
    """

    def __init__(self, lock: FolderLock, made_of: Mapping[str, str], seconds: float) -> None:
        self.folder = lock.folder
        self._lock = lock
        self._made_of = {**made_of, SOFTWARE: f"{software_revision()}, record {FORMAT}"}
        self._seconds = seconds
        self._saved = time.monotonic()
        self.state = self._load()

    @property
    def is_complete(self) -> bool:
        """Whether all frames are there and only have to be published."""
        return self.state is not None and "complete" in self.state

    @property
    def is_due(self) -> bool:
        """Whether it is time to save; never if no work is to be kept."""
        return 0 < self._seconds <= time.monotonic() - self._saved

    def _load(self) -> State | None:
        """Read the record; whatever cannot be used is removed."""
        path = self.folder / RECORD
        state: dict[str, NDArray[Any]] = {}
        reason = ""
        try:
            # Its arrays are not compressed, so they cannot have more bytes than the file.
            state = read_npz(path, most=path.stat().st_size)
            changed = str(state.pop(DIGEST)) != _digest(state)
            differ = [k for k, v in self._made_of.items() if str(state.pop(f"of {k}")) != v]
            reason = f"of other {' and '.join(differ)}" if differ else ""
            reason = "damaged (not what was written)" if changed else reason
        except FileNotFoundError:
            self._empty()
            return None
        except (KeyError, InputError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno not in (None, errno.EINVAL):
                raise OutputError(
                    f"{path} cannot be read: {cause}. Try again, or delete {self.folder}, and the "
                    "recording starts from its beginning"
                ) from error
            reason = f"damaged ({error})"
        if reason:
            self.discard(reason)
            return None
        return state

    def discard(self, reason: str) -> None:
        """Remove what is saved and say why; the correction starts from the beginning."""
        logger.info("An interrupted run's checkpoint, %s, is %s: not used.", self.folder, reason)
        self._empty()

    def _empty(self) -> None:
        # The record first: without it the rest means nothing.
        self.state = None
        remove_file(self.folder / RECORD)
        for path in self.folder.iterdir():
            if path != self._lock.path and (path.is_symlink() or not path.is_dir()):
                remove_file(path)

    def save(self, state: State) -> None:
        """Replace the record; what it counts must be on the disk.

        Parameters
        ----------
        state : mapping of str to ndarray
            What the next run finds in `state`.

        Raises
        ------
        OutputError
            If it cannot be written, or another run has taken the folder over.
        """
        self._check_owner()
        arrays: dict[str, Any] = {
            f"of {name}": np.array(value) for name, value in self._made_of.items()
        }
        arrays |= state
        arrays[DIGEST] = np.array(_digest(arrays))
        try:
            self._replace_record(arrays)
        except OutputError:
            self._check_owner()  # another run may have removed the folder in this moment
            raise
        self._saved = time.monotonic()

    def _check_owner(self) -> None:
        if not self._lock.is_held:
            raise OutputError(
                f"{self.folder} was taken over by another run of the same recording: this one "
                "stops. Run only one at a time"
            )

    def _replace_record(self, arrays: Mapping[str, Any]) -> None:
        path = self.folder / RECORD
        new = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
        with writing(path):
            try:
                with new.open("xb") as file:
                    np.savez(file, **arrays)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(path)
            finally:
                with contextlib.suppress(OSError):
                    new.unlink(missing_ok=True)
            sync_folder(self.folder)

    @contextlib.contextmanager
    def files(self, paths: Sequence[Path], finish: Callable[[], State]) -> Iterator[list[Path]]:
        """Write files in the hidden folder, where they stay if the block is left by an exception.

        Parameters
        ----------
        paths : sequence of Path
            Where they shall appear.
        finish : callable
            Returns the state that is saved when they are complete, before they appear.

        Yields
        ------
        list of Path
            The files to write.
        """
        hidden = [self.folder / path.name for path in paths]
        with writing_among_others(dict(zip(hidden, paths, strict=True))):
            yield hidden
        for file, path in zip(hidden, paths, strict=True):
            with writing(path):
                sync_file(file)
        self.save({**finish(), "complete": np.array(True)})
        self.publish(paths)

    def needs(self, path: Path) -> bool:
        """Whether a published file is the only one of its content; see `publish`."""
        return self.is_complete and not (self.folder / path.name).exists()

    def can_publish(self, paths: Sequence[Path]) -> bool:
        """Whether complete files are here, or there already."""
        return all((self.folder / path.name).exists() or path.exists() for path in paths)

    def publish(self, paths: Sequence[Path]) -> None:
        """Let complete files appear; they stay here as well, for the case that they are removed.

        Snakemake removes what an interrupted job has made.
        """
        for path in paths:
            hidden = self.folder / path.name
            with writing(path):
                # Made now: Snakemake would take it for older than the header of the recording.
                os.utime(hidden if hidden.exists() else path, follow_symlinks=False)
                if hidden.exists() and not (path.exists() and hidden.samefile(path)):
                    _link(hidden, path)
        for path in {path.parent: path for path in paths}.values():
            with writing(path):
                sync_folder(path.parent)

    def remove(self) -> None:
        """Remove the folder, if it is still this run's: all is published, or nothing to keep."""
        if self._lock.is_held:
            self._empty()
            self._lock.remove_folder()


def _link(file: Path, target: Path) -> None:
    """Let a file appear under a second name, or where that is impossible, only under it."""
    second = temporary_sibling(target)
    try:
        second.hardlink_to(file)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        file.replace(target)
        return
    try:
        second.replace(target)
    finally:
        second.unlink(missing_ok=True)


@contextlib.contextmanager
def claimed(
    folder: Path, made_of: Mapping[str, str], seconds: float, what: str
) -> Iterator[Checkpoint]:
    """Take possession of a checkpoint, which no other run uses at the same time.

    Parameters
    ----------
    folder : Path
        Its hidden folder; made if it does not exist, and removed again if nothing is saved in it.
    made_of : mapping of str to str
        Fingerprints of input, settings and the like; a checkpoint of others is removed.
    seconds : float
        Work that may be lost.
    what : str
        What is worked on, for messages.

    Yields
    ------
    Checkpoint

    Raises
    ------
    OutputError
        If another run works on it.
    """
    make_folder(folder.parent)
    with FolderLock(folder, what) as lock:
        checkpoint = Checkpoint(lock, made_of, seconds)
        try:
            yield checkpoint
        finally:
            if lock.is_held and not (folder / RECORD).exists():
                checkpoint.remove()
