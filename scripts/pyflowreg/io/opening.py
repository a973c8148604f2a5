"""Which reader fits a file, which writer a format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike

from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io import FORMATS
from pyflowreg.io.base import BaseReader, InputOptions, Shape4, as_input_options, show_shape
from pyflowreg.io.safety import check_regular
from pyflowreg.io.writing import BaseWriter, PerChannelWriter

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_SUFFIX = {"HDF5": ".hdf5", "TIFF": ".tif", "MAT": ".mat"}
_DATA_SUFFIXES = {".hdf5", ".h5", ".hdf", ".tif", ".tiff", ".mat"}


def file_kind(path: Path) -> str:
    """Tell what a file is from its first bytes.

    Returns
    -------
    str
        "tiff", "hdf5", "mat73" (MATLAB's HDF5) or "mat5".
    """
    with path.open("rb") as file:
        head = file.read(520)
    if not head:
        raise InputError(f"{path} is empty (0 bytes): copy or export it again")
    is_mat = path.suffix.lower() == ".mat"
    if head[:4] in _TIFF:
        return "tiff"
    if head.startswith(_HDF5):
        return "mat73" if is_mat else "hdf5"
    if head[512:520] == _HDF5:
        return "mat73" if is_mat or head.startswith(b"MATLAB 7.3") else "hdf5"
    if head.startswith(b"MATLAB 5.0"):
        return "mat5"
    if is_mat:
        raise InputError(
            f"{path} is not a MATLAB file of version 5 to 7.3 (its first bytes are {head[:8]!r}): "
            "save it again, with -v7.3 if it is long"
        )
    raise InputError(
        f"{path} is not a TIFF, HDF5 or MAT file (its first bytes are {head[:8]!r}). Convert it, "
        "or exclude it through `pattern`"
    )


def open_stored(path: Path, options: InputOptions) -> BaseReader:
    """Open a file or folder with the reader that fits it, whatever its number of frames."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir():
        from pyflowreg.io.tiff_folder import TiffFolderReader

        return TiffFolderReader(path, options)
    check_regular(path)
    kind = file_kind(path)
    if kind == "tiff":
        from pyflowreg.io.tiff import TiffReader

        return TiffReader(path, options)
    if kind == "hdf5":
        from pyflowreg.io.hdf5 import Hdf5Reader

        return Hdf5Reader(path, options)
    from pyflowreg.io.mat import MatReader5, MatReader73

    return MatReader73(path, options) if kind == "mat73" else MatReader5(path, options)


def open_recording(
    path: str | os.PathLike[str], options: InputOptions | Mapping[str, Any] | None = None
) -> BaseReader:
    """Open a recording; see `pyflowreg.io.open_reader`."""
    try:
        reader = open_stored(Path(path), as_input_options(options))
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror or error}") from error
    frames, height, width, channels = reader.shape
    if frames < 2 or min(height, width, channels) < 1:
        reader.close()
        if frames == 1:
            raise InputError(
                f"{path} has one frame ({show_shape((height, width))}, {channels} channel(s)); a "
                "recording needs at least 2. If frames lie along another axis set "
                "input_options.axes; if every frame has a file of its own give their folder"
            )
        raise InputError(f"{path} is empty: {show_shape(reader.shape)} (frames, rows, columns, C)")
    return reader


def _check_format(name: str) -> str:
    known = name.upper()
    if known not in FORMATS:
        raise ConfigError(
            [f"output format {name!r} is not supported; choose one of {', '.join(FORMATS)}"]
        )
    return known


def output_files(path: str | os.PathLike[str], channels: int, name: str) -> list[Path]:
    """Files a format makes: `path`, or for MULTIFILE one per channel, stem_ch<k>.ext."""
    target, known = Path(path), _check_format(name)
    if not known.startswith("MULTIFILE_"):
        return [target]
    has_suffix = target.suffix.lower() in _DATA_SUFFIXES
    stem = target.stem if has_suffix else target.name
    suffix = target.suffix if has_suffix else _SUFFIX[known.removeprefix("MULTIFILE_")]
    return [target.with_name(f"{stem}_ch{k + 1}{suffix}") for k in range(channels)]


def _writer_class(known: str) -> type[BaseWriter]:
    if known == "HDF5":
        from pyflowreg.io.hdf5 import Hdf5Writer

        return Hdf5Writer
    if known == "CAIMAN_HDF5":
        from pyflowreg.io.hdf5 import CaimanWriter

        return CaimanWriter
    if known == "MAT":
        from pyflowreg.io.mat import MatWriter

        return MatWriter
    from pyflowreg.io.tiff import TiffWriter

    return TiffWriter


def make_writer(
    path: str | os.PathLike[str], shape: Shape4, dtype: DTypeLike, name: str
) -> BaseWriter:
    """Prepare a writer; see `pyflowreg.io.open_writer`."""
    known = _check_format(name)
    four = tuple(int(n) for n in shape)
    if len(four) != 4:
        raise ValueError(f"{path}: shape {shape} must be (T, H, W, C)")
    files = output_files(path, four[3], known)
    if known.startswith("MULTIFILE_"):
        return PerChannelWriter(_writer_class(known.removeprefix("MULTIFILE_")), files, four, dtype)
    return _writer_class(known)(files, four, dtype)
