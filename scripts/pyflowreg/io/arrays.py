"""Small files of arrays (.npy, .npz), read as a whole: the arrays that were saved, or an error."""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import InputError, UnreadableError

# What a damaged header makes of Python's and numpy's parsers, and a damaged archive of zipfile.
_DAMAGED = (
    ValueError,
    KeyError,
    TypeError,
    SyntaxError,
    OSError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npy(path: Path) -> NDArray[Any]:
    """Read a .npy file.

    Parameters
    ----------
    path : Path
        The file; objects are refused.

    Returns
    -------
    ndarray
        Of any shape and number type.

    Raises
    ------
    InputError
        If it is missing or is not exactly what numpy wrote.
    UnreadableError
        If the system does not let it be read.
    """
    return parse_npy(path, _content(path))


def parse_npy(path: Path, content: bytes) -> NDArray[Any]:
    """Read the content of a .npy file, see `read_npy`.

    Parameters
    ----------
    path : Path
        The file, for messages.
    content : bytes
        What it holds.

    Returns
    -------
    ndarray
        Of any shape and number type.

    Raises
    ------
    InputError
        If it is not exactly what numpy wrote.
    """
    try:
        return _array(content)
    except _DAMAGED as error:
        raise _unusable(path, error) from error


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of a .npz file; their checksums are compared.

    Parameters
    ----------
    path : Path
        The file; objects are refused.

    Returns
    -------
    dict of str to ndarray
        The arrays by name.

    Raises
    ------
    InputError
        If it is missing, truncated or damaged.
    UnreadableError
        If the system does not let it be read.
    """
    content = _content(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {
                entry.filename.removesuffix(".npy"): _array(_member(archive, entry))
                for entry in archive.infolist()
            }
    except _DAMAGED as error:
        raise _unusable(path, error) from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror or error}") from error


def _unusable(path: Path, error: BaseException) -> InputError:
    return InputError(f"{path} is truncated or damaged ({error or type(error).__name__})")


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} is compressed in another way than numpy does")
    return archive.read(entry)


def _array(content: bytes) -> NDArray[Any]:
    """Parse a .npy file whose length must be that of its array, which bounds the memory."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    expected = math.prod(shape) * dtype.itemsize
    found = len(content) - file.tell()
    if found != expected or min(shape, default=0) < 0:
        raise ValueError(f"{found} bytes of values instead of {expected}")
    values: NDArray[Any] = np.frombuffer(content, dtype, math.prod(shape), file.tell())
    return values.reshape(shape, order="F" if fortran else "C").copy()
