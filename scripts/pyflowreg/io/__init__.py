"""Recordings on disk: one way in, one way out, frames as (T, H, W, C).

The libraries behind the formats are imported when a file is opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from numpy.typing import DTypeLike

from pyflowreg.io.base import (
    InputOptions,
    Reader,
    Shape4,
    Writer,
    natural_key,
)

__all__ = [
    "FORMATS",
    "InputOptions",
    "Reader",
    "Writer",
    "natural_key",
    "open_reader",
    "open_writer",
    "output_paths",
]

FORMATS = (
    "HDF5",
    "TIFF",
    "MAT",
    "MULTIFILE_HDF5",
    "MULTIFILE_TIFF",
    "MULTIFILE_MAT",
    "CAIMAN_HDF5",
)
"""Formats `open_writer` knows, named as in the toolbox."""


def open_reader(
    path: str | os.PathLike[str], options: InputOptions | Mapping[str, Any] | None = None
) -> Reader:
    """Open a recording: a TIFF, HDF5 or MAT file, or a folder of TIFF files.

    The content decides, not the suffix. Only headers are read; errors in them are reported here.

    Parameters
    ----------
    path : path
        File or folder.
    options : InputOptions or mapping, optional
        Dataset, axis order, interleaved channels, channels to keep.

    Returns
    -------
    Reader
        With shape (T, H, W, C), dtype, and `read(start, stop)`; use it in a `with` block.

    Raises
    ------
    InputError
        The file is missing, damaged, ambiguous, or has fewer than two frames.
    """
    from pyflowreg.io.opening import open_recording

    return open_recording(path, options)


def open_writer(
    path: str | os.PathLike[str],
    *,
    shape: Shape4,
    dtype: DTypeLike,
    format: str = "HDF5",  # noqa: A002 - the toolbox calls it so
) -> Writer:
    """Prepare a file that appears when all its frames have been written.

    Parameters
    ----------
    path : path
        File to make; for the MULTIFILE formats the name that `_ch1`, `_ch2`, ... is added to.
    shape : tuple of int
        (T, H, W, C).
    dtype : dtype
        uint8, uint16, int16, float32 or float64; kept as it is.
    format : str
        One of `FORMATS`, any case.

    Returns
    -------
    Writer
        Use it in a `with` block; an exception inside, or a missing frame, leaves no file.
    """
    from pyflowreg.io.opening import make_writer

    return make_writer(path, shape, dtype, format)


def output_paths(path: str | os.PathLike[str], channels: int, format: str) -> list[Any]:  # noqa: A002
    """Files that `open_writer` makes for a recording with so many channels."""
    from pyflowreg.io.opening import output_files

    return output_files(path, channels, format)
