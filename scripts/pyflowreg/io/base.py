"""What readers and writers of recordings have in common.

Every recording is seen as an array (T, H, W, C): frames, rows, columns, channels.
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io.safety import check_frame

Frames = NDArray[Any]
"""Block of frames, shape (n, H, W, C), the recording's dtype in native byte order."""

Shape4 = tuple[int, int, int, int]

ALLOWED_DTYPES = ("uint8", "uint16", "int16", "float32", "float64")


class InputOptions(BaseModel):
    """How to read a file whose layout is not evident.

    Parameters
    ----------
    dataset : str or list of str, optional
        HDF5 dataset or MATLAB variable; a list names one per channel.
    axes : str, optional
        Order of the axes as stored, letters of T (time), Y (rows), X (columns), C (channels),
        S (samples of a pixel, read as channels) and Z (must have length 1), for example "YXT".
        A stack whose planes are time points is described with T in that place. For MAT files
        the order is the one MATLAB shows.
    n_channels : int, optional
        Channels that alternate along the frames (c1, c2, c1, c2, ...).
    channels : list of int, optional
        Channels to keep, 0-based, in this order. Default: all.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    dataset: str | list[str] | None = Field(default=None, min_length=1)
    axes: str | None = None
    n_channels: int | None = Field(default=None, ge=1)
    channels: list[int] | None = Field(default=None, min_length=1)

    @field_validator("axes")
    @classmethod
    def _known_axes(cls, value: str | None) -> str | None:
        if value is None:
            return None
        axes = value.upper()
        unknown = sorted(set(axes) - set("TYXCZS"))
        if unknown or len(set(axes)) != len(axes) or not set("TYX") <= set(axes):
            raise ValueError(
                f"{value!r} must name T, Y and X, and may name C, S or Z, each once (e.g. 'TYX')"
            )
        if {"C", "S"} <= set(axes):
            raise ValueError(f"{value!r} names channels twice: use C or S")
        return axes

    @field_validator("channels")
    @classmethod
    def _distinct_channels(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and (min(value) < 0 or len(set(value)) != len(value)):
            raise ValueError(f"{value} must be different channel numbers, counted from 0")
        return value


def as_input_options(options: InputOptions | Mapping[str, Any] | None) -> InputOptions:
    """Validate options given as a mapping; all problems are reported in one ConfigError."""
    if isinstance(options, InputOptions):
        return options
    try:
        return InputOptions.model_validate(dict(options or {}))
    except ValidationError as error:
        raise ConfigError([_describe(problem) for problem in error.errors()]) from None


def _describe(problem: ErrorDetails) -> str:
    key = str(problem["loc"][0]) if problem["loc"] else ""
    text = f"input_options.{key} = {problem['input']!r}: "
    if problem["type"] != "extra_forbidden":
        return text + problem["msg"].removeprefix("Value error, ")
    known = list(InputOptions.model_fields)
    near = difflib.get_close_matches(key, known, n=1)
    return text + (f"did you mean {near[0]}? " if near else "") + f"Known are {', '.join(known)}"


class Reader(Protocol):
    """A recording on disk, read in blocks of frames."""

    @property
    def path(self) -> Path:
        """File or folder the recording comes from."""

    @property
    def shape(self) -> Shape4:
        """Shape (T, H, W, C)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, native byte order."""

    def read(self, start: int, stop: int) -> Frames:
        """Read frames start (inclusive) to stop (exclusive), 0-based, as (n, H, W, C)."""

    def close(self) -> None:
        """Release the file."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Writer(Protocol):
    """A recording being written; it appears when the context is left without an exception."""

    def write(self, frames: Frames) -> None:
        """Append frames (n, H, W, C) of the declared dtype."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class BaseReader(ABC):
    """Channels that alternate, selection of channels, checks of frame numbers.

    Parameters
    ----------
    path : Path
        File or folder.
    options : InputOptions
        What the user said about the layout.

    Notes
    -----
    A subclass calls `_set_layout` once it knows the stored shape and implements `_read_stored`.
    """

    dtypes: ClassVar[tuple[str, ...]] = ALLOWED_DTYPES
    """Types that are read."""

    def __init__(self, path: Path, options: InputOptions) -> None:
        self.path = path
        self.options = options
        self.shape: Shape4 = (0, 0, 0, 0)
        self.dtype: np.dtype[Any] = np.dtype("uint8")
        self._interleaved = 1

    def _set_layout(self, stored: Shape4, dtype: np.dtype[Any], n_channels: int | None) -> None:
        """Derive shape and dtype from the stored (T, H, W, C) and the options."""
        self.dtype = check_dtype(self.path, dtype, self.dtypes)
        frames, height, width, channels = stored
        check_frame(self.path, "a frame", (height, width, channels), self.dtype.itemsize)
        if n_channels is not None and n_channels != channels:
            if channels != 1:
                raise InputError(
                    f"{self.path} has {channels} channels, input_options.n_channels is "
                    f"{n_channels}: it describes frames of one channel each. Leave it out"
                )
            if frames % n_channels:
                raise InputError(
                    f"{self.path} has {frames} pages, which is not a multiple of {n_channels} "
                    "channels: the recording is incomplete or input_options.n_channels is wrong"
                )
            self._interleaved = n_channels
            frames, channels = frames // n_channels, n_channels
            check_frame(self.path, "a frame", (height, width, channels), self.dtype.itemsize)
        keep = self.options.channels
        if keep is not None:
            if max(keep) >= channels:
                raise InputError(
                    f"{self.path} has {channels} channel(s), numbered from 0; "
                    f"input_options.channels = {keep} asks for more"
                )
            channels = len(keep)
        self.shape = (frames, height, width, channels)

    @abstractmethod
    def _read_stored(self, start: int, stop: int) -> Frames:
        """Read stored frames as (n, H, W, C) before channels are sorted out."""

    @abstractmethod
    def close(self) -> None:
        """Release the file."""

    def read(self, start: int, stop: int) -> Frames:
        """Read a range of frames.

        Parameters
        ----------
        start, stop : int
            First frame and the one after the last, 0-based.

        Returns
        -------
        ndarray, shape (stop - start, H, W, C)
            An array of its own, native byte order.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"{self.path}: frames {start} to {stop} of {self.shape[0]} asked for")
        count = stop - start
        if count == 0:
            return np.empty((0, *self.shape[1:]), self.dtype)
        n = self._interleaved
        frames = self._read_stored(start * n, stop * n)
        if n > 1:
            _, height, width, _ = frames.shape
            frames = frames.reshape(count, n, height, width).transpose(0, 2, 3, 1)
        if self.options.channels is not None:
            frames = frames[..., self.options.channels]
        return np.ascontiguousarray(frames, dtype=self.dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def check_dtype(
    path: Path, dtype: np.dtype[Any], allowed: Sequence[str] = ALLOWED_DTYPES
) -> np.dtype[Any]:
    """Return `dtype` in native byte order; InputError if recordings cannot have it."""
    native = dtype.newbyteorder("=")
    if native.name not in allowed:
        raise InputError(
            f"{path} holds {native.name} values; a recording may hold {', '.join(allowed)}. "
            "Convert it first"
        )
    return native


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key that orders the numbers in names by value: frame_2 before frame_10.

    Letters are compared without case; names that then tie are ordered as plain text.
    """
    # The pieces alternate text, number, text, ..., so equal positions have equal types.
    pieces = re.split(r"([0-9]+)", name)
    key = tuple(int(p) if i % 2 else p.casefold() for i, p in enumerate(pieces))
    return key, name


def show_shape(shape: Sequence[int]) -> str:
    """Format a shape for a message: 200 x 128 x 128."""
    return " x ".join(str(n) for n in shape)


def listing(entries: Iterable[str], nothing: str, most: int = 20) -> str:
    """Join entries for a message; of many, the first and how many there are more."""
    texts = list(entries)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(text[:200] for text in texts[:most]) + more or nothing
