"""Limits for files that come from anywhere: of what kind they are, and what they may ask for."""

from __future__ import annotations

import math
import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

from pyflowreg.errors import InputError

LARGEST_FRAME = 2**30
"""Bytes of a frame, or of what must be decompressed to read one. Correcting a frame takes some
fifty times its size; a header that promises more is damaged, or made to exhaust the memory."""

PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What libraries raise for damaged files, besides errors of their own."""

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def check_regular(path: Path) -> os.stat_result:
    """Refuse what is no file: opening a pipe would wait for ever, and a device has no end.

    Parameters
    ----------
    path : Path
        Links are followed.

    Returns
    -------
    os.stat_result
        Of the file.

    Raises
    ------
    OSError
        If there is nothing of that name.
    InputError
        If it is a pipe, a device, a socket or a folder.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "of an unknown kind")
        raise InputError(f"{path} is {kind}, not a file: copy what it holds into a file")
    return found


def read_small(path: Path, most: int) -> bytes:
    """Read a file that cannot be large.

    Parameters
    ----------
    path : Path
        The file.
    most : int
        Bytes it may have.

    Returns
    -------
    bytes
        All of it.

    Raises
    ------
    OSError
        If it cannot be read.
    InputError
        If it is larger, or no file.
    """
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InputError(f"{path} is larger than {most / 2**20:g} MiB, which no such file is")
    return content


def check_frame(path: Path, what: str, shape: Sequence[int], itemsize: int) -> None:
    """Refuse a size beyond `LARGEST_FRAME`, whatever the memory of this machine.

    Parameters
    ----------
    path : Path
        Named in the message.
    what : str
        What is so large, for the message: "a frame".
    shape : sequence of int
        Of the array.
    itemsize : int
        Bytes per value.

    Raises
    ------
    InputError
        If it is larger, or a number is negative.
    """
    size = math.prod(shape) * itemsize
    if min(shape, default=1) < 0 or size > LARGEST_FRAME:
        numbers = " x ".join(str(extent) for extent in shape)
        raise InputError(
            f"{path}: {what} of {numbers} values would take {size / 2**30:.3g} GiB; at most "
            f"{LARGEST_FRAME // 2**30} GiB can be handled. The file is damaged, or has another "
            "layout than its header says"
        )
