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
        Gets the entries of `pyflowreg.session.preflight.RecordingInfo`.

    Raises
    ------
    InputError
        If the recording cannot be read, or has fewer than two frames.
    OutputError
        If the file cannot be written.
    """
    from pyflowreg.io.atomic import atomic_write_json, remove_leftovers
    from pyflowreg.session.path_safety import check_paths
    from pyflowreg.session.preflight import inspect_recording

    check_paths(config, [recording])
    remove_leftovers([Path(path)])
    atomic_write_json(Path(path), inspect_recording(recording.path, config.input_options))
