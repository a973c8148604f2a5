"""Fingerprints: which settings, input and software revision a result was made with."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg import NUMERICS_REVISION
from pyflowreg.errors import InputError, UnreadableError
from pyflowreg.io.atomic import atomic_write_json
from pyflowreg.io.safety import read_small

_MOST_BYTES = 2**20


def digest(*parts: Any) -> str:
    """Hash settings and the numerics revision.

    Parameters
    ----------
    *parts
        Anything JSON can hold; other values count as the text `str` makes of them.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    text = json.dumps([NUMERICS_REVISION, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def array_digest(array: NDArray[Any]) -> str:
    """Hash an array's shape, type and values.

    Parameters
    ----------
    array : ndarray
        Of any shape and number type.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    head = f"{array.shape} {array.dtype.str} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def file_identity(path: Path) -> list[Any]:
    """Return what tells whether a file changed; no content is read.

    Parameters
    ----------
    path : Path
        A file, or a folder, of which all entries but hidden ones are listed.

    Returns
    -------
    list of list
        Size in bytes and time of change in nanoseconds; in a folder after the name of each entry.

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(entry.name, entry.stat()) for entry in files if not entry.name.startswith(".")]
    if not path.is_dir():
        return [[stat.st_size, stat.st_mtime_ns] for _, stat in stats]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def content_digest(path: Path) -> str:
    """Hash the content of a file; it is read again only when its size or time has changed.

    Parameters
    ----------
    path : Path
        A file of moderate size, such as an image.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    found = path.stat()
    return _content_digest(path, (found.st_ino, found.st_size, found.st_mtime_ns))


@functools.lru_cache(maxsize=64)
def _content_digest(path: Path, version: tuple[int, int, int]) -> str:
    del version
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_status(path: Path) -> dict[str, Any]:
    """Read a status file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Its content; empty if it does not exist.

    Raises
    ------
    InputError
        If it exists and is no status file.
    UnreadableError
        If the system does not let it be read.
    """
    try:
        content = json.loads(read_small(path, _MOST_BYTES))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # InputError is a ValueError
        raise InputError(f"{path} is damaged ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (it holds no object)")
    return content


def read_status(path: Path) -> dict[str, Any]:
    """Read a status file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Its content; empty if there is none that can be read.
    """
    try:
        return load_status(path)
    except InputError:
        return {}


def write_status(path: Path, stage: str, **entries: Any) -> None:
    """Record that `stage` is done.

    Parameters
    ----------
    path : Path
        The status file; it is replaced.
    stage : str
        Name of the stage.
    **entries
        More entries, as JSON can hold them.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    atomic_write_json(path, {stage: "done", **entries})
