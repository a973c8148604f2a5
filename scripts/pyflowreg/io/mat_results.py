"""Results for MATLAB: files of version 5, and 7.3 where that is too small, with cell arrays."""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from pyflowreg.io.atomic import atomic_path
from pyflowreg.io.failures import writing
from pyflowreg.io.stack import Stack

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
# MATLAB 5 files count the bytes of a variable with 31 bits; keep room for its header.
_LARGEST = 2**31 - 2**20

# Without the date that SciPy writes there: the same results are the same file.
_TEXT = b"MATLAB 5.0 MAT-file, Platform: pyflowreg"

# Codes of the format: what a piece of a file holds, and the classes of arrays.
_INT8, _UINT8, _INT32, _UINT32, _DOUBLE, _MATRIX, _COMPRESSED = 1, 2, 5, 6, 9, 14, 15
_CELL_CLASS, _DOUBLE_CLASS, _UINT8_CLASS, _LOGICAL = 1, 6, 9, 0x200
_KINDS = {
    np.dtype(np.float64): (_DOUBLE, _DOUBLE_CLASS, "double"),
    np.dtype(np.bool_): (_UINT8, _UINT8_CLASS | _LOGICAL, "logical"),
}


def cell(values: Sequence[Any]) -> NDArray[np.object_]:
    """Make a 1 x n MATLAB cell array of arrays or texts."""
    out = np.empty((1, len(values)), dtype=object)
    for k, value in enumerate(values):
        out[0, k] = value
    return out


def _size(value: Any) -> int:
    if isinstance(value, Stack):
        return _cell_size("", value)
    array = np.asarray(value)
    if array.dtype.hasobject:
        return sum(_size(item) for item in array.flat)
    return array.nbytes


def save_mat(
    path: str | os.PathLike[str], mapping: Mapping[str, Any], *, largest: int = _LARGEST
) -> None:
    """Save variables for MATLAB, complete or not at all.

    Parameters
    ----------
    path : path
        Target, used as given.
    mapping : mapping of str to array, number, str, cell or Stack
        Vectors become rows, booleans logical, object arrays (see `cell`) cell arrays. A stack of
        float64 or bool becomes a 1 x n cell array; its arrays are in memory one at a time.
    largest : int
        Bytes of a variable beyond which the file is written as version 7.3 instead of 5.
    """
    bad = [name for name in mapping if not _NAME.fullmatch(name)]
    if bad:
        raise ValueError(f"{path}: {', '.join(bad)} cannot be MATLAB variable names")
    stacks = {name: value for name, value in mapping.items() if isinstance(value, Stack)}
    others = {name: value for name, value in mapping.items() if name not in stacks}
    save = _save_73 if max(map(_size, mapping.values()), default=0) > largest else _save_5
    with atomic_path(path) as temporary, writing(Path(path)):
        save(temporary, others, stacks)


def _save_5(path: Path, others: dict[str, Any], stacks: dict[str, Stack]) -> None:
    with path.open("wb") as file:
        scipy.io.savemat(file, others, do_compression=True, oned_as="row", long_field_names=True)
        file.seek(0)
        file.write(_TEXT.ljust(116))
        file.seek(0, io.SEEK_END)
        for name, stack in stacks.items():
            _append_cell(file, name, stack)


def _append_cell(file: IO[bytes], name: str, stack: Stack) -> None:
    """Append a compressed variable, whose size is known when it is written."""
    start = file.tell()
    file.write(struct.pack("=II", _COMPRESSED, 0))
    compressor = zlib.compressobj()

    def write(content: bytes) -> None:
        file.write(compressor.compress(content))

    write(struct.pack("=II", _MATRIX, _cell_size(name, stack) - 8))
    write(_head(_CELL_CLASS, (1, stack.count), name))
    for array in stack:
        _write_matrix(write, array)
    file.write(compressor.flush())
    end = file.tell()
    file.seek(start)
    file.write(struct.pack("=II", _COMPRESSED, end - start - 8))
    file.seek(end)


def _write_matrix(write: Callable[[bytes], None], array: NDArray[Any]) -> None:
    """Write an array (..., H, W) without a name."""
    kind, matlab_class, _ = _KINDS[array.dtype]
    head = _head(matlab_class, array.shape)
    content = array.tobytes(order="F")
    padding = bytes(-len(content) % 8)
    write(struct.pack("=II", _MATRIX, len(head) + 8 + len(content) + len(padding)))
    write(head)
    write(struct.pack("=II", kind, len(content)))
    write(content)
    write(padding)


def _head(matlab_class: int, shape: tuple[int, ...], name: str = "") -> bytes:
    """Class, shape and name of an array."""
    pieces = (
        (_UINT32, struct.pack("=II", matlab_class, 0)),
        (_INT32, struct.pack(f"={len(shape)}i", *shape)),
        (_INT8, name.encode("ascii")),
    )
    out = io.BytesIO()
    for kind, content in pieces:
        out.write(struct.pack("=II", kind, len(content)))
        out.write(content.ljust(-(-len(content) // 8) * 8, b"\0"))
    return out.getvalue()


def _cell_size(name: str, stack: Stack) -> int:
    """Bytes of the cell array of a stack in a file of version 5, before compression."""
    content = math.prod(stack.shape) * stack.dtype.itemsize
    each = 8 + len(_head(0, stack.shape)) + 8 + -(-content // 8) * 8
    return 8 + len(_head(0, (1, stack.count), name)) + stack.count * each


def _save_73(path: Path, others: dict[str, Any], stacks: dict[str, Stack]) -> None:
    import h5py
    import hdf5storage

    hdf5storage.savemat(
        str(path), others, appendmat=False, format="7.3", oned_as="row",
        store_python_metadata=False,
    )  # fmt: skip
    with h5py.File(path, "r+") as file:
        for name, stack in stacks.items():
            references = np.empty((stack.count, 1), dtype=h5py.ref_dtype)
            folder = file.require_group("#refs#")
            for number, array in enumerate(stack):
                entry = folder.create_dataset(f"{name}_{number}", data=_stored(array))
                entry.attrs["H5PATH"] = np.bytes_("/#refs#")
                _declare(entry, _KINDS[array.dtype][2])
                references[number, 0] = entry.ref
            _declare(file.create_dataset(name, data=references, dtype=h5py.ref_dtype), "cell")


def _stored(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as HDF5 stores it for MATLAB: axes in the opposite order, no booleans."""
    return (array.astype(np.uint8) if array.dtype == bool else array).T


def _declare(dataset: Any, matlab_class: str) -> None:
    dataset.attrs["MATLAB_class"] = np.bytes_(matlab_class)
    if matlab_class == "logical":
        dataset.attrs["MATLAB_int_decode"] = np.int64(1)
