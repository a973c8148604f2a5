"""What the system says when a file cannot be written, turned into a message with a way out."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pyflowreg.errors import OutputError, PyflowregError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TOO_LARGE = frozenset({errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# File systems (some network and FUSE mounts) that cannot flush a folder say so with these, and so
# does a folder that may be entered and written, but not read.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF})
# HDF5 hides the reason of the system inside its own text.
_HDF5_NUMBER = re.compile(r"errno = ([0-9]+)")
# numpy counts the values and loses the reason.
_NUMPY_SHORT = re.compile(r"[0-9]+ requested and [0-9]+ written")


def _system_number(error: BaseException) -> int | None:
    """Error number of the system behind an exception of Python, numpy, tifffile or HDF5."""
    number = getattr(error, "errno", None)
    found = _HDF5_NUMBER.search(str(error))
    if found:
        return int(found[1])
    return number if isinstance(number, int) else None


def _way_out(path: Path, number: int | None) -> str:
    blocking = next((f for f in path.parents if f.exists() and not f.is_dir()), None)
    if blocking is not None:
        return f"{blocking} is a file, not a folder: rename it, or choose another output folder"
    if path.is_dir():
        return "There is a folder of that name: rename it, or choose another output folder"
    if number in _FULL:
        return "Free space on that disk, or choose another output folder, and run again"
    if number in _TOO_LARGE:
        return (
            "Files must not become that large there: raise the limit (`ulimit -f`), or choose an "
            "output folder on another file system"
        )
    if number in _FORBIDDEN:
        return "Choose an output folder in which you may write"
    return "Check that the disk has space and that you may write there, or choose another folder"


def output_error(path: Path, error: BaseException) -> OutputError:
    """Make the error that names the file, the reason and the way out."""
    number = _system_number(error)
    reason = os.strerror(number) if number else (str(error) or type(error).__name__)
    if _NUMPY_SHORT.search(reason):
        reason = "the disk is full, or files must not become that large there"
    result = OutputError(f"{path} cannot be written: {reason}. {_way_out(path, number)}")
    result.errno = number
    return result


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of a block that does nothing but write a file into `OutputError`.

    Parameters
    ----------
    path : Path
        The file as the user knows it, not its temporary name.
    """
    try:
        yield
    except PyflowregError:
        raise
    except (OSError, RuntimeError) as error:  # HDF5 raises RuntimeError when closing fails
        raise output_error(path, error) from error


@contextlib.contextmanager
def writing_among_others(targets: Mapping[Path, Path]) -> Iterator[None]:
    """Turn errors into `OutputError` in a block that may also read and compute.

    Parameters
    ----------
    targets : mapping of Path to Path
        The file as the user knows it, by its temporary name. Errors of other files pass.
    """
    try:
        yield
    except PyflowregError:
        raise
    except OSError as error:
        if error.filename is not None:
            target = targets.get(Path(os.fsdecode(error.filename)))
        else:
            target = next(iter(targets.values()))
            target = target if error.errno in _FULL | _TOO_LARGE else None
        if target is None:
            raise
        raise output_error(target, error) from error


def remove_file(path: Path) -> None:
    """Remove a file, if there is one.

    Raises
    ------
    OutputError
        If that is impossible.
    """
    with writing(path):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can do that."""
    descriptor = -1
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they exist; new names are flushed to the disk.

    Raises
    ------
    OutputError
        If that is impossible.
    """
    if folder.is_dir():
        return
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in new:
            sync_folder(path.parent)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        # As for a file in it, so that `folder` itself is looked at, too.
        result = OutputError(
            f"the folder {folder} cannot be made: {reason}. "
            f"{_way_out(folder / 'file', error.errno)}"
        )
        result.errno = error.errno
        raise result from error
