"""Recordings in MATLAB files: reading versions 5 and 7.3, writing 7.3."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from pyflowreg.errors import InputError
from pyflowreg.io.axes import canonical_shape, to_canonical, user_axes
from pyflowreg.io.base import BaseReader, Frames, InputOptions, listing, show_shape
from pyflowreg.io.hdf5 import Hdf5Reader
from pyflowreg.io.hdf5_storage import Hdf5BaseWriter
from pyflowreg.io.mat5_format import LARGEST_VARIABLE, NUMBERS, Mat5File

# 2-D: MATLAB drops trailing axes of length 1, so one frame is a matrix.
_DEFAULT_AXES = {2: "YX", 3: "YXT", 4: "YXCT"}


class MatReader73(Hdf5Reader):
    """Recording in a MATLAB 7.3 file: variables ch1, ch2, ..., or the only one with 3 or 4 axes.

    Axes are those MATLAB shows, rows x columns x time (or rows x columns x channels x time);
    HDF5 stores them in the opposite order. Frames are streamed.
    """

    _reversed = True
    _default_axes = _DEFAULT_AXES


class MatReader5(BaseReader):
    """Recording in a MATLAB 5 file; variables and axes as in `MatReader73`.

    Notes
    -----
    This format compresses each variable as a whole, so it cannot be streamed: the first read
    loads the recording and keeps it in memory. Save long recordings with `-v7.3`.
    MATLAB objects, cells and structures are refused and nothing is ever unpickled.

    Parameters
    ----------
    path : Path
        The file.
    options : InputOptions
        Variable, axes, channels.
    """

    def __init__(self, path: Path, options: InputOptions) -> None:
        super().__init__(path, options)
        self._content = Mat5File(path)
        found = {variable.name: variable for variable in self._content.variables}
        self._variables = {name: (entry.shape, entry.kind) for name, entry in found.items()}
        self._found = found
        self._names = self._find()
        shapes = {self._variables[name] for name in self._names}
        if len(shapes) > 1:
            raise InputError(
                f"{path} holds {self._contents()}: the channels {', '.join(self._names)} need the "
                "same size and class"
            )
        self._stored, kind = shapes.pop()
        self._letters = self._find_axes()
        shape = canonical_shape(self._letters, self._stored)
        if len(self._names) > 1:
            if shape[3] > 1:
                raise InputError(
                    f"{path}: {', '.join(self._names)} are one channel each, but have a channel "
                    "axis of their own. Name one of them with input_options.dataset"
                )
            shape = (*shape[:3], len(self._names))
        dtype = np.dtype(NUMBERS[kind])
        if math.prod(self._stored) * dtype.itemsize > LARGEST_VARIABLE:
            raise InputError(
                f"{path}: {self._names[0]} is {show_shape(self._stored)} {dtype.name}, more than "
                "2 GiB, which a file of version 5 cannot hold. Save it with -v7.3"
            )
        self._set_layout(shape, dtype, options.n_channels)
        self._movie: Frames | None = None

    def _contents(self) -> str:
        return listing(
            (f"{n} ({show_shape(s)}, {k})" for n, (s, k) in self._variables.items()), "no variable"
        )

    def _find(self) -> list[str]:
        wanted = self.options.dataset
        if wanted is not None:
            names = [wanted] if isinstance(wanted, str) else list(wanted)
        else:
            names = []
            while f"ch{len(names) + 1}" in self._variables:
                names.append(f"ch{len(names) + 1}")
            names = names or [
                name
                for name, (shape, kind) in self._variables.items()
                if len(shape) in (3, 4) and kind in NUMBERS
            ]
            if not (names and (names[0] == "ch1" or len(names) == 1)):
                what = "no" if not names else "more than one"
                raise InputError(
                    f"{self.path} holds {self._contents()}: {what} variable has three or four "
                    "axes of numbers. Name one with input_options.dataset"
                )
        for name in names:
            if name not in self._variables:
                raise InputError(
                    f"{self.path} has no variable {name} (input_options.dataset). It holds "
                    f"{self._contents()}"
                )
            if self._variables[name][1] not in NUMBERS:
                raise InputError(
                    f"{self.path}: {name} is a MATLAB {self._variables[name][1]}, not an array of "
                    "numbers. Save the frames as a numeric array"
                )
        return names

    def _find_axes(self) -> str:
        if self.options.axes is not None:
            return user_axes(self.path, self.options.axes, self._stored)
        if len(self._stored) not in _DEFAULT_AXES:
            raise InputError(
                f"{self.path}: {self._names[0]} has {len(self._stored)} axes, "
                f"{show_shape(self._stored)}; a recording has three or four. Name them with "
                "input_options.axes"
            )
        return _DEFAULT_AXES[len(self._stored)]

    def _load(self) -> Frames:
        try:
            parts = [
                to_canonical(self._content.load(self._found[name]), self._letters)
                for name in self._names
            ]
        except (OSError, ValueError, ArithmeticError, MemoryError, zlib.error) as error:
            raise InputError(
                f"{self.path}: {', '.join(self._names)} cannot be read ({error}). The file is "
                "damaged: save it again"
            ) from error
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=3)

    def _read_stored(self, start: int, stop: int) -> Frames:
        if self._movie is None:
            self._movie = self._load()
        return self._movie[start:stop].copy()

    def close(self) -> None:
        """Release the movie."""
        self._movie = None


class MatWriter(Hdf5BaseWriter):
    """MATLAB 7.3 file, streamed: variables ch1, ch2, ..., rows x columns x time in MATLAB."""

    _CLASSES: ClassVar[dict[str, str]] = {"float64": "double", "float32": "single"}

    def _open(self, temporary: list[Path]) -> None:
        frames, height, width, channels = self.shape
        self._temporary = temporary[0]
        file = self._create(self._temporary, userblock_size=512)
        datasets = []
        for k in range(channels):
            dataset = file.create_dataset(
                f"ch{k + 1}",
                shape=(frames, width, height),
                maxshape=(None, width, height),
                chunks=(1, width, height),
                dtype=self.dtype,
            )
            dataset.attrs["MATLAB_class"] = np.bytes_(
                self._CLASSES.get(self.dtype.name, self.dtype.name)
            )
            datasets.append(dataset)
        self._set_datasets(datasets)

    def _planes(self, frame: Frames) -> Sequence[Frames]:
        return list(frame.T)

    def _close(self) -> None:
        super()._close()
        text = b"MATLAB 7.3 MAT-file, Platform: pyflowreg, HDF5 schema 1.00 ."
        with self._temporary.open("r+b") as file:
            # 116 bytes of text, 8 of offset (none), version, mark of little-endian order.
            file.write(text.ljust(116) + bytes(8) + struct.pack("<H", 0x0200) + b"IM")
