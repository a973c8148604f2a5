"""Disk space: how large files will become, and whether there is room for them.

Imported while the workflow is parsed: no libraries.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import resource
from collections.abc import Iterable
from pathlib import Path

from pyflowreg.errors import OutputError

GB = 1e9
# Measured with 2 to 5,000 frames; each bound is at most a few kB above what is needed.
HDF5_DATASET, HDF5_FRAME = 8192, 72
TIFF_FILE, TIFF_FRAME, TIFF_CHANNEL = 1024, 176, 26
MASK_SHARE = 0.1
"""Bytes of a compressed mask per pixel. 0.005 where all is valid, 0.01 to 0.03 with the borders of
frames that move; 0.16 if every pixel were valid or not by chance."""
MASK_FRAME = 64


def video_bytes(shape: tuple[int, int, int, int], itemsize: int, name: str) -> int:
    """Return the size of a recording in a format, all its files together.

    Parameters
    ----------
    shape : tuple of int
        (T, H, W, C).
    itemsize : int
        Bytes per value.
    name : str
        Format, see `pyflowreg.io.FORMATS`.

    Returns
    -------
    int
        Bytes, at most a few per frame too many.
    """
    frames, height, width, channels = shape
    values = frames * height * width * channels * itemsize
    kind = name.upper().removeprefix("MULTIFILE_")
    files = channels if name.upper().startswith("MULTIFILE_") else 1
    if kind == "TIFF":
        per_frame = files * TIFF_FRAME + TIFF_CHANNEL * channels
        return values + frames * per_frame + files * TIFF_FILE
    datasets = 1 if kind == "CAIMAN_HDF5" else channels
    return values + datasets * (HDF5_DATASET + frames * HDF5_FRAME)


def field_bytes(shape: tuple[int, int, int]) -> int:
    """Return the size of the fields (T, H, W) of all frames, two values each.

    Parameters
    ----------
    shape : tuple of int
        (T, H, W).

    Returns
    -------
    int
        Bytes.
    """
    return video_bytes((*shape, 2), 4, "HDF5")


def mask_bytes(shape: tuple[int, int, int]) -> int:
    """Return a bound of the size of the compressed masks (T, H, W) of all frames.

    Parameters
    ----------
    shape : tuple of int
        (T, H, W).

    Returns
    -------
    int
        Bytes.
    """
    frames, height, width = shape
    each = math.ceil(height * width * MASK_SHARE) + MASK_FRAME + HDF5_FRAME
    return frames * each + HDF5_DATASET


def held_bytes(paths: Iterable[Path]) -> int:
    """Return the disk space of files, each counted once whatever names it has.

    Parameters
    ----------
    paths : iterable of Path
        Files, or folders of files, of which some may not exist.

    Returns
    -------
    int
        Bytes.
    """
    found: dict[tuple[int, int], int] = {}
    for path in paths:
        files = [path]
        with contextlib.suppress(OSError):  # no folder, or out of reach
            files = list(path.iterdir())
        for file in files:
            with contextlib.suppress(OSError):
                status = file.stat()
                found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def free_bytes(folder: Path) -> int:
    """Return the free space on the disk of a folder, which need not exist yet.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    int
        Bytes that an ordinary user may fill. Quotas are not known here.
    """
    found = os.statvfs(nearest_folder(folder))
    return found.f_bavail * found.f_frsize


def nearest_folder(folder: Path) -> Path:
    """Return a folder, or if it does not exist the nearest one above that does.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    Path
        A folder that exists.
    """
    # os.path answers False where a Path raises, as for names that are too long.
    above = (folder, *folder.absolute().parents)
    return next(one for one in above if os.path.isdir(one))  # noqa: PTH112


def show_gb(count: float) -> str:
    """Format a number of bytes for a message, in GB.

    Parameters
    ----------
    count : float
        Bytes.

    Returns
    -------
    str
        With three digits that count.
    """
    gigabytes = count / GB
    return f"{gigabytes:.0f} GB" if gigabytes >= 100 else f"{gigabytes:.3g} GB"


def check_space(folder: Path, need: int, what: str, *, held: int = 0, largest: int = 0) -> None:
    """Make sure that there is room before a long computation starts.

    Parameters
    ----------
    folder : Path
        Where files will be written.
    need : int
        Bytes they will take.
    what : str
        What is going to be made, for the message.
    held : int
        Bytes of files that are there, and will be continued or replaced.
    largest : int
        Bytes of the largest file.

    Raises
    ------
    OutputError
        With both numbers and the way out.
    """
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY and largest > limit:
        raise _no_room(
            errno.EFBIG,
            f"{what} makes a file of {show_gb(largest)} in {folder}, but files must not become "
            f"larger than {show_gb(limit)} here: raise the limit (`ulimit -f`) and run again.",
        )
    free = free_bytes(folder)
    if need - held > free:
        raise _no_room(
            errno.ENOSPC,
            f"{what} needs {show_gb(need - held)} of disk space in {folder}, "
            f"{show_gb(free)} are free. Free space on that disk, or choose another output folder, "
            "and run again: what is complete stays.",
        )


def _no_room(number: int, message: str) -> OutputError:
    error = OutputError(message)
    error.errno = number
    return error
