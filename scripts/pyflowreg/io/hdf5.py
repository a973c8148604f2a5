"""Recordings in HDF5 files: reading and writing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pyflowreg.errors import InputError
from pyflowreg.io.axes import canonical_shape, to_canonical, user_axes
from pyflowreg.io.base import BaseReader, Frames, InputOptions, Shape4, show_shape
from pyflowreg.io.hdf5_checks import (
    DAMAGE,
    ChunkGuard,
    check_stored,
    contents,
    list_datasets,
    number_type,
)
from pyflowreg.io.hdf5_storage import Hdf5BaseWriter
from pyflowreg.io.safety import check_regular

_CHANNEL = re.compile(r"ch([1-9][0-9]*)$")
# 2-D: a channel of one frame, which is refused where the number of frames is checked.
_DEFAULT_AXES = {2: "YX", 3: "TYX", 4: "TYXC"}


def open_hdf5(path: Path) -> Any:
    """Open an HDF5 file for reading; InputError if it is damaged."""
    check_regular(path)
    try:
        return h5py.File(path, "r")
    except DAMAGE as error:
        raise InputError(f"{path} cannot be read as HDF5: {error}. It may be truncated") from error


class Hdf5Reader(BaseReader):
    """Recording in one dataset of an HDF5 file, or in one dataset per channel.

    Datasets are looked for in this order: `input_options.dataset`; ch1, ch2, ...; mov; the only
    dataset with three or four axes in any group. Time comes first unless `input_options.axes`
    says otherwise: (T, H, W) or (T, H, W, C).

    Parameters
    ----------
    path : Path
        The file.
    options : InputOptions
        Dataset, axes, channels.
    """

    # MATLAB names the axes in the opposite order; see MatReader73.
    _reversed = False
    _default_axes = _DEFAULT_AXES

    def __init__(self, path: Path, options: InputOptions) -> None:
        super().__init__(path, options)
        self._file = open_hdf5(path)
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._file.close)
            self._datasets = self._find()
            self._check_alike()
            self._letters = self._find_axes()
            shape = self._movie_shape()
            self._set_layout(shape, self._datasets[0].dtype, options.n_channels)
            time = max(self._letters.find("T"), 0)
            axis = len(self._letters) - 1 - time if self._reversed else time
            self._guards = [ChunkGuard(path, entry, axis) for entry in self._datasets]
            cleanup.pop_all()  # a reader that could be made keeps its file open

    def _movie_shape(self) -> Shape4:
        shape = canonical_shape(self._letters, self._stored_shape())
        if len(self._datasets) == 1:
            return shape
        if shape[3] > 1:
            raise InputError(
                f"{self.path}: {len(self._datasets)} datasets are one channel each, but they "
                f"have a channel axis of their own, {show_shape(self._stored_shape())}. "
                "Name one of them with input_options.dataset"
            )
        return (*shape[:3], len(self._datasets))

    def _stored_shape(self) -> tuple[int, ...]:
        shape = tuple(int(n) for n in self._datasets[0].shape)
        return shape[::-1] if self._reversed else shape

    def _find(self) -> list[Any]:
        datasets = list_datasets(self._file)
        wanted = self.options.dataset
        if wanted is not None:
            names = [wanted] if isinstance(wanted, str) else wanted
            names = [name.strip("/") for name in names]
            missing = [name for name in names if name not in datasets]
            if missing:
                raise InputError(
                    f"{self.path} has no dataset {', '.join(missing)} (input_options.dataset). "
                    f"It holds {contents(datasets, self._reversed)}"
                )
            return [datasets[name] for name in names]
        channels = [name for name in datasets if _CHANNEL.match(name)]
        if "ch1" in channels:
            numbers = sorted(int(name[2:]) for name in channels)
            if numbers != list(range(1, len(numbers) + 1)):
                raise InputError(
                    f"{self.path} holds {contents(datasets, self._reversed)}: the channels are "
                    "not numbered without gaps. Name them with input_options.dataset"
                )
            return [datasets[f"ch{k}"] for k in numbers]
        if "mov" in datasets:
            return [datasets["mov"]]
        return [self._only_movie(datasets)]

    def _only_movie(self, datasets: dict[str, Any]) -> Any:
        axes = self.options.axes
        ranks = (3, 4) if axes is None else (len(axes),)
        movies = [
            d
            for d in datasets.values()
            if d.shape is not None and d.ndim in ranks and number_type(d) is not None
        ]
        if len(movies) != 1:
            what = "no" if not movies else "more than one"
            raise InputError(
                f"{self.path} holds {contents(datasets, self._reversed)}: {what} dataset has "
                f"{' or '.join(map(str, ranks))} axes of numbers. Name one with "
                "input_options.dataset"
            )
        return movies[0]

    def _find_axes(self) -> str:
        shape = self._stored_shape()
        if self.options.axes is not None:
            return user_axes(self.path, self.options.axes, shape)
        if len(shape) not in self._default_axes:
            raise InputError(
                f"{self.path}: {self._datasets[0].name} has {len(shape)} axes, "
                f"{show_shape(shape)}; a recording has three or four. Name them with "
                "input_options.axes or another dataset with input_options.dataset"
            )
        return self._default_axes[len(shape)]

    def _check_alike(self) -> None:
        first = self._datasets[0]
        for dataset in self._datasets:
            if number_type(dataset) is None or dataset.shape is None:
                raise InputError(
                    f"{self.path}: {dataset.name} holds objects or ragged rows, not an array of "
                    "numbers. Save the frames as one numeric array"
                )
            check_stored(self.path, dataset)
            if dataset.shape != first.shape or dataset.dtype != first.dtype:
                raise InputError(
                    f"{self.path}: {dataset.name} is {show_shape(dataset.shape)} {dataset.dtype}, "
                    f"{first.name} is {show_shape(first.shape)} {first.dtype}: the channels of a "
                    "recording need the same shape and type"
                )

    def _read_stored(self, start: int, stop: int) -> Frames:
        parts = [self._read_dataset(number, start, stop) for number in range(len(self._datasets))]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=3)

    def _read_dataset(self, number: int, start: int, stop: int) -> Frames:
        dataset = self._datasets[number]
        time = self._letters.find("T")
        selection = [slice(None)] * len(self._letters)
        if time >= 0:
            selection[time] = slice(start, stop)
        try:
            self._guards[number].check(start, stop)
            block = dataset[tuple(selection[::-1] if self._reversed else selection)]
        except DAMAGE as error:
            if isinstance(error, InputError):
                raise
            if stop - start > 1:  # find the frame that cannot be read
                for frame in range(start, stop):
                    self._read_dataset(number, frame, frame + 1)
            raise InputError(
                f"{self.path}: frame {start} of {dataset.name} cannot be read ({error}). The file "
                "is damaged: copy it again"
            ) from error
        return to_canonical(block.T if self._reversed else block, self._letters)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


class Hdf5Writer(Hdf5BaseWriter):
    """Datasets ch1, ch2, ..., each (T, H, W), one chunk per frame, extensible in time."""

    def _open(self, temporary: list[Path]) -> None:
        frames, height, width, channels = self.shape
        file = self._create(temporary[0])
        self._set_datasets(
            [
                file.create_dataset(
                    f"ch{k + 1}",
                    shape=(frames, height, width),
                    maxshape=(None, height, width),
                    chunks=(1, height, width),
                    dtype=self.dtype,
                )
                for k in range(channels)
            ]
        )


class CaimanWriter(Hdf5BaseWriter):
    """One dataset `mov`, (T, H, W) or (T, H, W, C), as CaImAn loads it."""

    def _open(self, temporary: list[Path]) -> None:
        frames, height, width, channels = self.shape
        rest = (height, width) if channels == 1 else (height, width, channels)
        file = self._create(temporary[0])
        dataset = file.create_dataset(
            "mov",
            shape=(frames, *rest),
            maxshape=(None, *rest),
            chunks=(1, *rest),
            dtype=self.dtype,
        )
        self._set_datasets([dataset])

    def _planes(self, frame: Frames) -> Sequence[Frames]:
        return [frame[..., 0] if self.shape[3] == 1 else frame]
