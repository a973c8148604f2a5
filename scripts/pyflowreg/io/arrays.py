"""Arrays in .npy and .npz files, read without trusting a word of what they say of themselves.

NumPy's own `load` decompresses whatever an archive holds, and allocates what a header promises.
"""

from __future__ import annotations

import errno
import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import InputError, UnreadableError
from pyflowreg.io.safety import LARGEST_FRAME, PARSER_ERRORS, check_regular

# What damaged archives and headers make zipfile, NumPy and the parser of headers raise.
_DAMAGE = (
    *PARSER_ERRORS,
    lzma.LZMAError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_MOST_MEMBERS = 10_000


def _read(file: IO[bytes], most: int) -> NDArray[Any]:
    """Read an array in NumPy's format of at most `most` bytes; ValueError if it is none."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):  # others are for structured types
        raise ValueError(f"version {version[0]}.{version[1]} of the format is not one for numbers")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"values of type {dtype} are not read: they need pickle, or are none")
    if any(isinstance(n, bool) or n < 0 for n in shape) or len(shape) > 32:
        raise ValueError(f"an array cannot have the shape {str(shape)[:60]}")
    size = math.prod(shape) * dtype.itemsize
    if size > most:
        raise ValueError(f"an array of {size} bytes is announced, more than can be there")
    content = file.read(size)
    if len(content) < size:
        raise ValueError(f"it ends after {len(content)} of {size} bytes")
    flat = np.frombuffer(bytearray(content), dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _refused(path: Path, error: BaseException) -> InputError:
    # Seeking to where a damaged file sends one is an error of the system, too.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return UnreadableError(f"{path} cannot be read: {error.strerror or error}")
    reason = str(error).rstrip(".") or type(error).__name__
    return InputError(f"{path} cannot be read: {reason[:200]}")


def read_npy(path: Path, most: int = LARGEST_FRAME) -> NDArray[Any]:
    """Read an .npy file of numbers or texts; nothing is ever unpickled.

    Parameters
    ----------
    path : Path
        The file.
    most : int
        Bytes the array may have.

    Returns
    -------
    ndarray
        The array.

    Raises
    ------
    FileNotFoundError
        If there is none.
    InputError
        If it is damaged, too large, or something else.
    UnreadableError
        If the system does not let it be read.
    """
    size = check_regular(path).st_size
    try:
        with path.open("rb") as file:
            array = _read(file, min(most, size))
            if file.read(1):
                raise ValueError("it is longer than its header says")
            return array
    except _DAMAGE as error:
        raise _refused(path, error) from error


def read_npz(
    path: Path, names: Collection[str] | None = None, most: int = LARGEST_FRAME
) -> dict[str, NDArray[Any]]:
    """Read arrays of an .npz file; nothing is ever unpickled.

    Parameters
    ----------
    path : Path
        The file.
    names : collection of str, optional
        The arrays wanted, all of which must be there; default: all there are.
    most : int
        Bytes that the arrays may have together.

    Returns
    -------
    dict of str to ndarray
        The arrays by name.

    Raises
    ------
    FileNotFoundError
        If there is none.
    InputError
        If it is damaged, too large, something else, or lacks an array.
    UnreadableError
        If the system does not let it be read.
    """
    check_regular(path)
    found: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if len(members) > _MOST_MEMBERS:
                raise ValueError(f"it has {len(members)} members")
            for name in names or [member.removesuffix(".npy") for member in members]:
                with archive.open(f"{name}.npy") as member:
                    found[name] = _read(member, most)
                    # To the end, where the checksum is compared.
                    if member.read(1):
                        raise ValueError(f"{name} is longer than its header says")
                most -= found[name].nbytes
    except _DAMAGE as error:
        raise _refused(path, error) from error
    return found
