"""A folder of TIFF files read as one recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyflowreg.errors import InputError
from pyflowreg.io.base import BaseReader, Frames, InputOptions, Shape4, natural_key, show_shape
from pyflowreg.io.tiff import TiffReader

_SUFFIXES = {".tif", ".tiff"}
# Ch1, ch_2, CH-3 that is not the end of a word such as "March1".
_CHANNEL = re.compile(r"(?<![A-Za-z])(?:ch|channel)[_-]?([0-9]+)(?![0-9])", re.IGNORECASE)


def list_parts(folder: Path) -> list[Path]:
    """TIFF files of a folder in the natural order of their names; hidden files are left out."""
    parts = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]
    if not parts:
        there = sorted(file.name for file in folder.iterdir())
        shown = ", ".join(there[:5]) + (", ..." if len(there) > 5 else "")
        raise InputError(f"{folder} holds no .tif or .tiff file. It holds: {shown or 'nothing'}")
    return sorted(parts, key=lambda file: natural_key(file.name))


def group_channels(folder: Path, parts: Sequence[Path]) -> list[list[Path]]:
    """Split the parts by the channel number in their names.

    Parameters
    ----------
    folder : Path
        Named in messages.
    parts : sequence of Path
        In natural order.

    Returns
    -------
    list of list of Path
        One list per channel, each in natural order. Names that all carry the same number, or
        none, are one channel.
    """
    matches = {part: _CHANNEL.search(part.name) for part in parts}
    if len({int(match[1]) for match in matches.values() if match}) < 2:
        return [list(parts)]
    # Channel number -> name without it -> file.
    groups: dict[int, dict[str, Path]] = {}
    for part, match in matches.items():
        if match is None:
            raise InputError(
                f"{folder}: {part.name} carries no channel number, other names do (Ch1, Ch2, ...)."
                " A folder is one recording: move files that do not belong to it"
            )
        rest = part.name[: match.start()] + part.name[match.end() :]
        groups.setdefault(int(match[1]), {})[rest] = part
    every = sorted(set().union(*groups.values()), key=natural_key)
    for number in sorted(groups):
        missing = [name for name in every if name not in groups[number]]
        if missing:
            other = next(files[missing[0]] for files in groups.values() if missing[0] in files)
            raise InputError(
                f"{folder}: {other.name} has no counterpart for channel {number} "
                f"({len(missing)} of {len(every)} time points lack one). Complete the recording, "
                "or keep one channel in the folder"
            )
    return [[groups[number][name] for name in every] for number in sorted(groups)]


class TiffFolderReader(BaseReader):
    """Recording whose frames are in several TIFF files of one folder.

    The files follow each other in the natural order of their names and hold one page or many.
    Files of the same time points whose names differ in `Ch1`, `Ch2`, ... are channels. Other
    kinds of files are ignored. Headers of all files are read when the folder is opened.

    Parameters
    ----------
    path : Path
        The folder.
    options : InputOptions
        `axes` describes one file; `n_channels` and `channels` the whole recording.
    """

    def __init__(self, path: Path, options: InputOptions) -> None:
        super().__init__(path, options)
        self._groups = group_channels(path, list_parts(path))
        self._part_options = options.model_copy(update={"n_channels": None, "channels": None})
        self._readers: dict[int, tuple[int, TiffReader]] = {}
        headers = [[self._header(part) for part in group] for group in self._groups]
        self._check_alike(headers)
        shape, dtype = headers[0][0]
        if len(headers) > 1 and shape[3] > 1:
            raise InputError(
                f"{path}: the file names carry channel numbers, but {self._groups[0][0].name} has "
                f"{shape[3]} channels itself. Keep one kind of channels"
            )
        # _starts[i] is the first frame of part i; the last entry is the number of frames.
        lengths = [header[0][0] for header in headers[0]]
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        channels = len(headers) if len(headers) > 1 else shape[3]
        total = int(self._starts[-1])
        self._set_layout((total, shape[1], shape[2], channels), dtype, options.n_channels)

    def _header(self, part: Path) -> tuple[Shape4, np.dtype[Any]]:
        with TiffReader(part, self._part_options, part=True) as reader:
            return reader.shape, reader.dtype

    def _check_alike(self, headers: list[list[tuple[Shape4, np.dtype[Any]]]]) -> None:
        shape, dtype = headers[0][0]
        first = self._groups[0][0].name
        odd = [
            f"{part.name} ({show_shape(s[1:])}, {d})"
            for group, header in zip(self._groups, headers, strict=True)
            for part, (s, d) in zip(group, header, strict=True)
            if s[1:] != shape[1:] or d != dtype
        ]
        if odd:
            more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
            raise InputError(
                f"{self.path}: {', '.join(odd[:3])}{more} differ from {first} "
                f"({show_shape(shape[1:])}, {dtype}) in rows x columns x channels or type. A "
                "folder is one recording: move files that do not belong to it"
            )
        for group, header in zip(self._groups[1:], headers[1:], strict=True):
            for k, (s, _) in enumerate(header):
                if s[0] != headers[0][k][0][0]:
                    raise InputError(
                        f"{self.path}: {group[k].name} has {s[0]} frames, "
                        f"{self._groups[0][k].name} has {headers[0][k][0][0]}: the channels of a "
                        "recording need the same frames"
                    )

    def _reader(self, channel: int, part: int) -> TiffReader:
        """Reader of one part; the last one used of each channel stays open."""
        if channel in self._readers:
            number, reader = self._readers[channel]
            if number == part:
                return reader
            reader.close()
            del self._readers[channel]
        reader = TiffReader(self._groups[channel][part], self._part_options, part=True)
        self._readers[channel] = (part, reader)
        return reader

    def _read_stored(self, start: int, stop: int) -> Frames:
        channels = [self._read_channel(k, start, stop) for k in range(len(self._groups))]
        return channels[0] if len(channels) == 1 else np.concatenate(channels, axis=3)

    def _read_channel(self, channel: int, start: int, stop: int) -> Frames:
        blocks = []
        part = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            first, end = int(self._starts[part]), int(self._starts[part + 1])
            upto = min(stop, end)
            blocks.append(self._reader(channel, part).read(start - first, upto - first))
            start, part = upto, part + 1
        return np.concatenate(blocks)

    def close(self) -> None:
        """Release the files."""
        for _, reader in self._readers.values():
            reader.close()
        self._readers.clear()
