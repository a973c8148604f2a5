"""Recordings in MATLAB files: reading versions 5 and 7.3, writing 7.3."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from pyflowreg.errors import InputError
from pyflowreg.io.axes import canonical_shape, to_canonical, user_axes
from pyflowreg.io.base import BaseReader, Frames, InputOptions, show_shape
from pyflowreg.io.hdf5 import Hdf5Reader
from pyflowreg.io.hdf5_storage import Hdf5BaseWriter

_NUMERIC = {"double": "float64", "single": "float32"} | {
    name: name
    for name in ("uint8", "uint16", "int16", "int8", "uint32", "int32", "int64", "uint64")
}
# 2-D: MATLAB drops trailing axes of length 1, so one frame is a matrix.
_DEFAULT_AXES = {2: "YX", 3: "YXT", 4: "YXCT"}
_DAMAGE = (
    MatReadError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    struct.error,
    zlib.error,
)


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
        check_complete(path)
        try:
            found = scipy.io.whosmat(str(path), appendmat=False)
        except _DAMAGE as error:
            raise InputError(
                f"{path} cannot be read as MATLAB 5 file: {error}. Save it again"
            ) from error
        self._variables = {name: (tuple(shape), kind) for name, shape, kind in found}
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
        self._set_layout(shape, np.dtype(_NUMERIC[kind]), options.n_channels)
        self._movie: Frames | None = None

    def _contents(self) -> str:
        return (
            ", ".join(f"{n} ({show_shape(s)}, {k})" for n, (s, k) in self._variables.items())
            or "no variable"
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
                if len(shape) in (3, 4) and kind in _NUMERIC
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
            if self._variables[name][1] not in _NUMERIC:
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
            loaded = scipy.io.loadmat(
                str(self.path), variable_names=self._names, appendmat=False, mat_dtype=True
            )
            parts = [to_canonical(loaded[name], self._letters) for name in self._names]
        except _DAMAGE as error:
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


def check_complete(path: Path) -> None:
    """Refuse a MATLAB 5 file that ends inside a variable; only the variables' headers are read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(128)
        if not header.startswith(b"MATLAB 5.0"):
            return
        order = "<" if header[126:128] == b"IM" else ">"
        position = 128
        while position < size:
            file.seek(position)
            tag = file.read(8)
            length = struct.unpack(f"{order}II", tag)[1] if len(tag) == 8 else size
            position += 8 + length
    if position > size:
        raise InputError(
            f"{path} is truncated: its last variable ends at byte {position}, the file has "
            f"{size}. Copy or save it again"
        )


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
