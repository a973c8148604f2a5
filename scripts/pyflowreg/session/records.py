"""Records: what the results that are there were made with.

The settings are told by the name of a record, the results of earlier stages by its content. A
stage withdraws its records before it replaces results and writes its own when they are complete.
Snakemake counts records among the outputs, so results made with other settings, by whichever
door, lack one and are made again, and those made with the current settings are taken as they are.
"""

from __future__ import annotations

import glob
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyflowreg import NUMERICS_REVISION
from pyflowreg.io.atomic import atomic_write_json
from pyflowreg.io.failures import remove_file, writing
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.contents import FILES, Contents, contents_in
from pyflowreg.session.outputs import RecordingPaths, recording_paths, session_paths
from pyflowreg.session.status import digest, read_status

DIGITS = 12
SOURCES = "made_of"


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
        """Remove this record, and those of the same result with other settings.

        Raises
        ------
        OutputError
            If that is impossible.
        """
        for path in self.family():
            remove_file(path)

    def family(self) -> list[Path]:
        """Records of the same result that are there, of whatever settings."""
        return _family(self.path.parent, self.path.stem[:-DIGITS])

    def write(
        self, sources: Mapping[str, Any] | None = None, files: Contents | None = None
    ) -> None:
        """State that the result is complete.

        Parameters
        ----------
        sources : mapping, optional
            What tells whether the results of earlier stages it is made of have changed.
        files : mapping, optional
            What it consists of; see `pyflowreg.session.contents`.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        content = {**self.settings, SOURCES: sources or {}}
        if files is not None:
            content[FILES] = files
        atomic_write_json(self.path, json.loads(json.dumps(content, default=str)))

    def restore(self) -> None:
        """Write a record without sources again if it cannot be read; its age stays.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        if read_status(self.path):
            return
        before = self.path.stat() if self.path.exists() else None
        self.write()
        if before is not None:
            with writing(self.path):
                os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    @property
    def sources(self) -> dict[str, Any] | None:
        """What `write` was given; None if there is no record of the current settings."""
        return read_sources(self.path)

    @property
    def files(self) -> Contents:
        """What `write` was told that the result consists of."""
        return contents_in(read_status(self.path))


def _family(folder: Path, start: str) -> list[Path]:
    return sorted(folder.glob(f"{glob.escape(start)}{'[0-9a-f]' * DIGITS}.json"))


def read_sources(path: Path) -> dict[str, Any] | None:
    """Read what the result of a record was made from.

    Parameters
    ----------
    path : Path
        The record.

    Returns
    -------
    dict or None
        What `Record.write` was given; None if there is no record that can be read.
    """
    found = read_status(path).get(SOURCES)
    return found if isinstance(found, dict) else None


def stated_field(paths: RecordingPaths) -> Contents:
    """Return what stage 2 stated about the field of a recording.

    Parameters
    ----------
    paths : RecordingPaths
        Files of the recording.

    Returns
    -------
    Contents
        Relative to the recording's folder. Empty without a record; there is one at most, of
        whatever settings.
    """
    found: Contents = {}
    for path in _family(paths.folder, "stage2_"):
        found = contents_in(read_status(path))
    return found


def withdraw_stage1(paths: RecordingPaths) -> None:
    """State that a recording is not corrected, whatever files there are.

    Parameters
    ----------
    paths : RecordingPaths
        Files of the recording.

    Raises
    ------
    OutputError
        If its folder cannot be changed.
    """
    for path in (*_family(paths.folder, "stage1_"), paths.status):
        remove_file(path)


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


def stage2_record(config: SessionConfig, name: str, centre: str) -> Record:
    """Record of the field of the recording `name` to the one called `centre`.

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
        Of the current settings; nothing is written.
    """
    settings, key = _settings(config, 2, center=centre)
    return Record(recording_paths(config, name).stage2_record(key), settings)


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


def keep_younger(results: Iterable[Path], sources: Iterable[Path]) -> None:
    """Give results that were found to be current a time that says so, which Snakemake compares.

    Parameters
    ----------
    results : iterable of Path
        Files that are not made again.
    sources : iterable of Path
        What they are made from; those that are newer came out the same.
    """
    newest = max((path.stat().st_mtime_ns for path in sources if path.exists()), default=0)
    for path in results:
        if path.exists() and path.stat().st_mtime_ns < newest:
            # Sources may be of tomorrow, where clocks differ.
            now = max(time.time_ns(), newest)
            with writing(path):
                os.utime(path, ns=(now, now), follow_symlinks=False)
