"""Records: which settings the results that are there were made with, told by a file's name.

A stage withdraws its records before it replaces results and writes its own when they are complete.
Snakemake counts records among the outputs, so results made with other settings, by whichever
door, lack one and are made again, and those made with the current settings are taken as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyflowreg import NUMERICS_REVISION
from pyflowreg.io.atomic import atomic_write_json
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.contents import Contents, contents_in
from pyflowreg.session.outputs import RecordingPaths, recording_paths, session_paths
from pyflowreg.session.status import digest, read_status

DIGITS = 12


@dataclass(frozen=True)
class Record:
    """The record of one result.

    Parameters
    ----------
    path : Path
        Its name ends in a digest of the settings.
    settings : dict
        What the digest stands for; its content.
    """

    path: Path
    settings: dict[str, Any]

    def withdraw(self) -> None:
        """Remove this record, and those of the same result with other settings."""
        _withdraw(self.path.parent, self.path.stem[:-DIGITS])

    def write(self, files: Mapping[str, Any] | None = None) -> None:
        """State that the result is complete.

        Parameters
        ----------
        files : mapping, optional
            What it consists of; see `pyflowreg.session.contents`.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        settings = json.loads(json.dumps(self.settings, default=str))
        atomic_write_json(self.path, settings if files is None else {**settings, "files": files})


def _withdraw(folder: Path, start: str) -> None:
    for path in folder.glob(f"{start}{'?' * DIGITS}.json"):
        path.unlink(missing_ok=True)


def stated_fields(output_root: Path) -> Contents:
    """Return what stage 2 stated about the fields of a session.

    Parameters
    ----------
    output_root : Path
        Folder with one folder per recording.

    Returns
    -------
    Contents
        Empty without a record; there is one at most, of whatever settings.
    """
    found: Contents = {}
    for path in output_root.glob(f"stage2_{'?' * DIGITS}.json"):
        status = path.stat()
        found = _stated_files(path, (status.st_mtime_ns, status.st_size, status.st_ino))
    return found


@lru_cache(maxsize=4)
def _stated_files(path: Path, version: tuple[int, int, int]) -> Contents:
    del version
    return contents_in(read_status(path))


def withdraw_stage1(paths: RecordingPaths) -> None:
    """State that a recording is not corrected, whatever files there are.

    Parameters
    ----------
    paths : RecordingPaths
        Files of the recording.

    Raises
    ------
    OSError
        If its folder cannot be changed.
    """
    _withdraw(paths.folder, "stage1_")
    paths.status.unlink(missing_ok=True)


def _settings(config: SessionConfig, stage: int, **entries: Any) -> tuple[dict[str, Any], str]:
    settings = {
        "numerics_revision": NUMERICS_REVISION,
        **config.settings_of_stage(stage),
        **entries,
    }
    return settings, digest(settings)[:DIGITS]


def stage1_record(config: SessionConfig, name: str) -> Record:
    """Record of stage 1 of the recording `name`.

    Parameters
    ----------
    config : SessionConfig
        The session.
    name : str
        Name of the recording.

    Returns
    -------
    Record
        Of the current settings; nothing is written.
    """
    settings, key = _settings(config, 1)
    return Record(recording_paths(config, name).stage1_record(key), settings)


def stage2_record(config: SessionConfig, centre: str) -> Record:
    """Record of the fields of all recordings to the one called `centre`.

    Parameters
    ----------
    config : SessionConfig
        The session.
    centre : str
        Name of the centre recording.

    Returns
    -------
    Record
        Of the current settings; nothing is written.
    """
    settings, key = _settings(config, 2, center=centre)
    return Record(session_paths(config).stage2_record(key), settings)


def mask_record(config: SessionConfig, centre: str, names: Sequence[str]) -> Record:
    """Record of the mask of the recordings `names`; the format of videos is no part of it.

    Parameters
    ----------
    config : SessionConfig
        The session.
    centre : str
        Name of the centre recording.
    names : sequence of str
        Names of all recordings, in natural order.

    Returns
    -------
    Record
        Of the current settings; nothing is written.
    """
    settings, key = _settings(config, 2, center=centre, recordings=list(names))
    return Record(session_paths(config).mask_record(key), settings)


def video_record(config: SessionConfig, name: str, centre: str) -> Record:
    """Record of the aligned video of the recording `name`.

    Parameters
    ----------
    config : SessionConfig
        The session.
    name : str
        Name of the recording.
    centre : str
        Name of the centre recording.

    Returns
    -------
    Record
        Of the current settings and format; nothing is written.
    """
    settings, key = _settings(config, 2, center=centre)
    return Record(recording_paths(config, name).video_record(key), settings)


def is_younger(path: Path, sources: Iterable[Path]) -> bool:
    """Return whether `path` and all sources are there, and none of them is newer than it.

    Parameters
    ----------
    path : Path
        A result.
    sources : iterable of Path
        What it was made from.

    Returns
    -------
    bool
        False if one of them is missing; equal times count as younger.
    """
    try:
        made = path.stat().st_mtime_ns
        return all(source.stat().st_mtime_ns <= made for source in sources)
    except FileNotFoundError:
        return False
