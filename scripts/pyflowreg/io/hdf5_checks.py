"""What an HDF5 file holds, found out without following it to other files or out of memory.

The library follows links, and reads from wherever a file says.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyflowreg.errors import InputError
from pyflowreg.io.base import listing, show_shape
from pyflowreg.io.safety import LARGEST_FRAME, check_frame

# What damaged files make h5py raise.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_MOST_OBJECTS = 20_000
_DEEPEST = 50
_DEFLATE, _SHUFFLE, _CHECKSUM, _LZF = 1, 2, 3, 32000
_FIRST_FOREIGN = 256
"""Filters from this number on are not HDF5's own; the library has them if somebody put them in."""
_SLACK = 2**16
_PIECE = 2**20


def damaged(path: object, error: BaseException) -> InputError:
    """Make the error for a file whose structure cannot be read."""
    return InputError(
        f"{path} is damaged: its list of datasets cannot be read ({str(error)[:200]}). Copy or "
        "export it again"
    )


def list_datasets(file: Any) -> dict[str, Any]:
    """Every dataset of the file by its full name, in all groups; links are not followed.

    Names that begin with '#' are left out: they are MATLAB's internal groups.
    """
    found: dict[str, Any] = {}
    try:
        for name, item in _objects(file):
            if isinstance(item, h5py.Dataset):
                found[name] = item
    except DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise damaged(file.filename, error) from error
    return dict(sorted(found.items()))


def _objects(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is in the groups of a file, each once, without recursion."""
    count, seen = 0, set()
    groups: list[tuple[str, Any]] = [("", file)]
    while groups:
        prefix, group = groups.pop()
        for name in group:
            full = f"{prefix}{name}"
            if full.startswith("#") or not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            count += 1
            if count > _MOST_OBJECTS or full.count("/") > _DEEPEST:
                raise InputError(
                    f"{file.filename} holds more than {_MOST_OBJECTS} objects, or groups nested "
                    f"deeper than {_DEEPEST}. Copy the recording to a file of its own"
                )
            item = group[name]
            identity = hash(item.id)
            if identity in seen:
                continue
            seen.add(identity)
            yield full, item
            if isinstance(item, h5py.Group):
                groups.append((f"{full}/", item))


def number_type(dataset: Any) -> np.dtype[Any] | None:
    """Type of a dataset's values; None if NumPy has nothing like it, or it is no plain number."""
    try:
        dtype = np.dtype(dataset.dtype)
        # Not so for enumerations, and for numbers of, say, 12 of 16 bits.
        same = dataset.id.get_type() == h5py.h5t.py_create(dtype)
    except DAMAGE:
        return None
    plain = dtype.kind in "uif" and dtype.subdtype is None and dtype.names is None
    return dtype if plain and same else None


def contents(datasets: dict[str, Any], reverse: bool = False) -> str:
    """Describe the datasets of a file for a message."""

    def describe(name: str, dataset: Any) -> str:
        try:
            shape = tuple(dataset.shape or ())
            kind = "object" if dataset.dtype.hasobject else dataset.dtype.name
        except DAMAGE:
            return f"{name} (of an unknown type)"
        return f"{name} ({show_shape(shape[::-1] if reverse else shape)}, {kind})"

    return listing((describe(n, d) for n, d in datasets.items()), "no dataset")


def check_stored(path: Path, dataset: Any) -> None:
    """Refuse a dataset of numbers that is not wholly in this file, or cannot be read in pieces.

    Parameters
    ----------
    path : Path
        The file.
    dataset : h5py.Dataset
        With numbers.

    Raises
    ------
    InputError
        If values are in other files or were never written, or if chunks are too large or
        compressed more than once.
    """
    try:
        if dataset.external or dataset.is_virtual:
            raise InputError(
                f"{path}: the values of {dataset.name} are kept in other files, which may change "
                "or be missing. Copy them into one file (`h5repack`, or h5py)"
            )
        if dataset.chunks is None:
            missing = dataset.size > 0 and not _is_allocated(dataset)
            there, expected = ("none", "all") if missing else ("", "")
        else:
            check_frame(path, f"a chunk of {dataset.name}", dataset.chunks, dataset.dtype.itemsize)
            _check_filters(path, dataset)
            number = dataset.id.get_num_chunks()
            grid = zip(dataset.shape, dataset.chunks, strict=True)
            all_chunks = math.prod(-(-extent // chunk) for extent, chunk in grid)
            there, expected = str(number), str(all_chunks)
            missing = number < all_chunks
    except DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, error) from error
    if missing:
        raise InputError(
            f"{path} is incomplete: {there} of {expected} pieces of {dataset.name}, "
            f"{show_shape(dataset.shape)}, were ever written. Copy or export it again"
        )


def _is_allocated(dataset: Any) -> bool:
    compact = dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
    return compact or dataset.id.get_offset() is not None


def _filters(dataset: Any) -> list[int]:
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(k)[0] for k in range(plist.get_nfilters())]


def _check_filters(path: Path, dataset: Any) -> None:
    """Refuse values that are compressed twice: a kilobyte can then stand for gigabytes."""
    codes = _filters(dataset)
    compressed = [code for code in codes if code not in (_SHUFFLE, _CHECKSUM)]
    if len(compressed) > 1 or len(set(codes)) < len(codes) or _CHECKSUM in codes[:-1]:
        raise InputError(
            f"{path}: {dataset.name} is compressed more than once (filters {codes}). Save it with "
            "one compression (`h5repack -f GZIP=1`)"
        )
    if any(code < _FIRST_FOREIGN and code != _DEFLATE for code in compressed):
        raise InputError(
            f"{path}: {dataset.name} is compressed in a way that is not supported (filter "
            f"{compressed[0]}). Save it with another (`h5repack -f GZIP=1`)"
        )


class ChunkGuard:
    """Looks at the filtered chunks of a dataset before the library decodes them.

    It inflates a chunk until that ends, however long it becomes, and crashes on some that are
    shorter than they should be.

    Parameters
    ----------
    path : Path
        The file.
    dataset : h5py.Dataset
        Of numbers.
    axis : int
        Axis along which frames follow each other.
    """

    def __init__(self, path: Path, dataset: Any, axis: int) -> None:
        self._path, self._dataset, self._axis = path, dataset, axis
        self._looked_at = range(0)
        self._codes = _filters(dataset) if dataset.chunks else []
        self._end = path.stat().st_size

    def check(self, start: int, stop: int) -> None:
        """Refuse frames whose chunks are not what the header says once they are decoded.

        Raises
        ------
        InputError
            If one is not.
        OSError, RuntimeError, ValueError
            If a chunk cannot be found.
        """
        if not self._codes:
            return
        shape, chunks = self._dataset.shape, self._dataset.chunks
        first, last = start // chunks[self._axis], -(-stop // chunks[self._axis])
        rows = [row for row in range(first, last) if row not in self._looked_at]
        self._looked_at = range(first, last)
        size = math.prod(chunks) * self._dataset.dtype.itemsize
        axes = [range(0, extent, chunk) for extent, chunk in zip(shape, chunks, strict=True)]
        axes[self._axis] = [row * chunks[self._axis] for row in rows]  # type: ignore[call-overload]
        for offset in itertools.product(*axes):
            self._check_chunk(offset, size)

    def _check_chunk(self, offset: tuple[int, ...], size: int) -> None:
        found = self._dataset.id.get_chunk_info_by_coord(offset)
        skipped, place = found.filter_mask, found.byte_offset
        used = [code for k, code in enumerate(self._codes) if not skipped >> k & 1]
        tail = 4 if _CHECKSUM in used else 0
        fits = tail < found.size <= 2 * size + _SLACK and place + found.size <= self._end
        if fits and not {_DEFLATE, _LZF} & set(used):
            # Nobody knows what other filters make of it.
            fits = found.size == size + tail or bool(set(used) - {_SHUFFLE, _CHECKSUM})
        elif fits:
            _, data = self._dataset.id.read_direct_chunk(offset)
            decode = _inflated_size if _DEFLATE in used else _lzf_size
            fits = decode(data[: len(data) - tail], size) == size
        if not fits:
            raise InputError(
                f"{self._path}: a chunk of {self._dataset.name} at {offset} does not hold the "
                f"{size} bytes that it should. The file is damaged: copy it again"
            )


def _lzf_size(data: bytes, most: int) -> int:
    """Bytes that `data` stands for, counted as far as just beyond `most`; -1 if it is damaged."""
    import imagecodecs

    try:
        return len(imagecodecs.lzf_decode(data, header=False, out=most + 1))
    except (RuntimeError, ValueError):
        return -1


def _inflated_size(data: bytes, most: int) -> int:
    """Bytes that `data` inflates to, counted as far as just beyond `most`; -1 if it is damaged."""
    inflate, total, rest = zlib.decompressobj(), 0, data
    try:
        while rest and total <= most and not inflate.eof:
            total += len(inflate.decompress(rest, min(_PIECE, most - total + 1)))
            rest = inflate.unconsumed_tail
    except zlib.error:
        return -1
    return total


def frames_at_once(shape: tuple[int, ...], itemsize: int, most: int) -> int:
    """Frames of shape (H, W, ...) to read together: `most`, fewer if they are large."""
    return max(1, min(most, LARGEST_FRAME // 4 // max(math.prod(shape) * itemsize, 1)))
