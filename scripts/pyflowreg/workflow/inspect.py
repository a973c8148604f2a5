"""The header of a recording as a file, for the resource estimates of later jobs."""

from __future__ import annotations

from pathlib import Path

from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import Recording


def write_header(config: SessionConfig, recording: Recording, path: str | Path) -> None:
    """Read the header of a recording and write it as JSON.

    Parameters
    ----------
    config : SessionConfig
        Its `input_options` say how to read the file.
    recording : Recording
        The recording; no frame of it is read.
    path : path-like
        Gets `name`, `path`, `shape` (T, H, W, C), `dtype` and `itemsize` in bytes.
    """
    from pyflowreg.io import open_reader
    from pyflowreg.io.atomic import atomic_write_json

    with open_reader(recording.path, config.input_options) as reader:
        header = {
            "name": recording.name,
            "path": str(recording.path),
            "shape": [int(extent) for extent in reader.shape],
            "dtype": str(reader.dtype),
            "itemsize": int(reader.dtype.itemsize),
        }
    atomic_write_json(Path(path), header)
