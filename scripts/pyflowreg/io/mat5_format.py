"""The format of MATLAB 5 files, as far as arrays of numbers go.

Only what a header announces, and no more than fits it, is ever decompressed or allocated, and no
object is made but arrays: cells, structures, functions and objects are named, not read.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import InputError

LARGEST_VARIABLE = 2**31
"""Bytes of a variable in such a file, as MATLAB limits it."""
_MOST_VARIABLES = 100_000
_PIECE = 2**20
_COMPRESSED, _MATRIX = 15, 14
_COMPLEX, _LOGICAL = 0x800, 0x200
_STORED = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"
}  # fmt: skip
_CLASSES = {
    1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "double", 7: "single",
    8: "int8", 9: "uint8", 10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64",
    15: "uint64", 16: "function", 17: "opaque",
}  # fmt: skip
NUMBERS = {"double": "float64", "single": "float32"} | {
    name: name
    for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
}
"""NumPy's names of MATLAB's classes of numbers."""


class DamagedError(ValueError):
    """A piece of a file contradicts another."""


@dataclass(frozen=True)
class Variable:
    """A variable as its header describes it.

    Parameters
    ----------
    name : str
        Its name.
    shape : tuple of int
        Rows, columns, ...; empty for what is no array.
    kind : str
        MATLAB's class, "logical", "complex" or "unknown".
    start : int
        Where it begins in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    start: int


class _Inflated:
    """Reads a compressed variable piece by piece."""

    def __init__(self, file: IO[bytes], length: int) -> None:
        self._file = file
        self._left = length
        self._inflate = zlib.decompressobj()
        self._rest = b""

    def read(self, size: int) -> bytes:
        out = io.BytesIO()
        while out.tell() < size and not self._inflate.eof:
            data = self._rest or self._file.read(min(self._left, _PIECE))
            if not self._rest:
                self._left -= len(data)
            if not data and not self._inflate.unconsumed_tail:
                break
            out.write(self._inflate.decompress(data, size - out.tell()))
            self._rest = self._inflate.unconsumed_tail
        return out.getvalue()

    def check_end(self) -> None:
        """Refuse a damaged variable: its checksum follows what was read, and some padding."""
        self.read(8)
        if not self._inflate.eof:
            raise DamagedError("it is longer than its header says, or cut short")


class _Elements:
    """Reads tagged elements from a file or a compressed variable."""

    def __init__(self, source: Any, order: str) -> None:
        self._source = source
        self._order = order

    def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        found: bytes = self._source.read(size)
        if len(found) < size:
            raise DamagedError(f"it ends {size - len(found)} bytes too early")
        return found

    def check_end(self) -> None:
        """Compare the checksum of a compressed variable, of which everything was read."""
        if isinstance(self._source, _Inflated):
            self._source.check_end()

    def tag(self) -> tuple[int, int, bytes | None]:
        """Read a tag: type, bytes, and the content if it is in the tag itself."""
        head = self.exactly(8)
        first, second = struct.unpack(f"{self._order}II", head)
        if first >> 16:  # a small element: its size stands beside its type
            size = first >> 16
            if size > 4:
                raise DamagedError(f"a small element of {size} bytes")
            return first & 0xFFFF, size, head[4 : 4 + size]
        return first, second, None

    def small(self, most: int) -> tuple[int, bytes]:
        """Read an element of a header: its type and content."""
        kind, size, content = self.tag()
        if content is not None:
            return kind, content
        if size > most:
            raise DamagedError(f"{size} bytes where at most {most} belong")
        return kind, self.exactly(-(-size // 8) * 8)[:size]

    def header(self) -> tuple[str, tuple[int, ...], str]:
        """Read name, shape and class of a matrix."""
        kind, size, _ = self.tag()
        if kind != _MATRIX:
            raise DamagedError(f"an element of type {kind} where a variable belongs")
        if size == 0:
            return "", (), "unknown"
        _, flags = self.small(8)
        (bits,) = struct.unpack(f"{self._order}I", flags[:4].ljust(4, b"\0"))
        name = _CLASSES.get(bits & 0xFF, "unknown")
        if name in ("opaque", "unknown"):
            return "", (), name
        kind, dims = self.small(4 * 64)
        shape = tuple(int(n) for n in np.frombuffer(dims[: len(dims) // 4 * 4], f"{self._order}i4"))
        if kind != 5 or len(shape) < 2 or min(shape) < 0:
            raise DamagedError(f"a shape that cannot be, {shape}")
        _, text = self.small(4096)
        if bits & _COMPLEX:
            name = "complex"
        elif bits & _LOGICAL:
            name = "logical"
        return text.decode("latin-1"), shape, name


class Mat5File:
    """The variables of a MATLAB 5 file; their headers are read at once.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        If it is truncated or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = path.stat().st_size
        try:
            with path.open("rb") as file:
                head = file.read(128)
                self._order = "<" if head[126:128] == b"IM" else ">"
                self.variables = list(self._scan(file))
        except (ValueError, struct.error, zlib.error) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path} cannot be read as MATLAB 5 file: {error}. Save it again"
            ) from error

    def _scan(self, file: IO[bytes]) -> Iterator[Variable]:
        position, count = 128, 0
        while position < self._size:
            file.seek(position)
            tag = file.read(8)
            kind, length = struct.unpack(f"{self._order}II", tag) if len(tag) == 8 else (0, None)
            end = self._size + 1 if length is None else position + 8 + length
            if end > self._size:
                raise InputError(
                    f"{self.path} is truncated: its last variable ends at byte "
                    f"{max(end, position + 8)}, the file has {self._size}. Copy or save it again"
                )
            count += 1
            if kind not in (_COMPRESSED, _MATRIX) or count > _MOST_VARIABLES:
                raise DamagedError(f"no variable begins at byte {position}")
            name, shape, matlab_class = self._elements(file, position).header()
            if name:
                yield Variable(name, shape, matlab_class, position)
            position = end

    def _elements(self, file: IO[bytes], position: int) -> _Elements:
        file.seek(position)
        kind, length = struct.unpack(f"{self._order}II", file.read(8))
        if kind == _COMPRESSED:
            return _Elements(_Inflated(file, length), self._order)
        file.seek(position)
        return _Elements(file, self._order)

    def load(self, variable: Variable) -> NDArray[Any]:
        """Read an array of numbers.

        Parameters
        ----------
        variable : Variable
            One of `variables`, of a class in `NUMBERS`.

        Returns
        -------
        ndarray
            As MATLAB shows it, of the class's type; Fortran order.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        dtype, count = np.dtype(NUMBERS[variable.kind]), math.prod(variable.shape)
        if count * dtype.itemsize > LARGEST_VARIABLE:
            raise DamagedError(f"{variable.name} is larger than such a file can hold")
        with self.path.open("rb") as file:
            elements = self._elements(file, variable.start)
            elements.header()
            kind, size, content = elements.tag()
            if kind not in _STORED:
                raise DamagedError(f"{variable.name} holds values of an unknown type, {kind}")
            stored = np.dtype(f"{self._order}{_STORED[kind]}")
            if stored.itemsize > dtype.itemsize or (stored.kind == "f" and dtype.kind != "f"):
                raise DamagedError(f"{variable.name} holds {stored.name} as {variable.kind}")
            if size != count * stored.itemsize:
                raise DamagedError(f"{variable.name} holds {size} bytes for {count} values")
            out = np.empty(count, dtype)
            step = _PIECE // stored.itemsize
            for start in range(0, count, step):
                part = out[start : start + step]
                data = content or elements.exactly(len(part) * stored.itemsize)
                part[:] = np.frombuffer(data, stored)
            elements.check_end()
        return out.reshape(variable.shape, order="F")
