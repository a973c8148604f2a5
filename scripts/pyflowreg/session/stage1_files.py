"""The files of stage 1 as they are read again: what its last run wrote, or what another one left.

Results of our own stage 1 say what they consist of (`status.json`). A file that is not what was
stated is never used: its recording then no longer counts as finished, so that whatever runs next,
command or workflow, corrects it again. Files of other programs state nothing; those are compared
with each other and with the recording.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.numerics import PROFILES
from pyflowreg.errors import ConfigError, InputError, UnreadableError
from pyflowreg.io import open_reader
from pyflowreg.io.fields import mask_shape
from pyflowreg.io.hdf5_storage import unwritten_chunks
from pyflowreg.motion_correction.frames import bins
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.contents import Contents, contents_in, contents_of, wrong
from pyflowreg.session.discovery import Recording
from pyflowreg.session.outputs import (
    RecordingPaths,
    find_compensated,
    find_idx,
    recording_paths,
)
from pyflowreg.session.preflight import inspect_recording
from pyflowreg.session.records import withdraw_stage1
from pyflowreg.session.status import load_status

logger = logging.getLogger(__name__)


def stage1_contents(paths: RecordingPaths, save_w: bool) -> dict[str, Any]:
    """Describe the files of a recording that is corrected.

    Parameters
    ----------
    paths : RecordingPaths
        Files of the recording, all complete.
    save_w : bool
        Whether the fields of all frames are among them.

    Returns
    -------
    dict
        See `pyflowreg.session.contents`. The large files are not read as a whole for it: frames are
        compared with their average instead, when they are used.
    """
    large = [paths.compensated, *([paths.displacements] if save_w else [])]
    small = [paths.idx, paths.temporal_average, paths.statistics, paths.reference_frame]
    return contents_of(paths.folder, small, large)


class Stage1Error(InputError):
    """A file of stage 1 is damaged, and its recording no longer counts as corrected."""


class Stage1Files:
    """What stage 1 left of a recording.

    Parameters
    ----------
    paths : RecordingPaths
        Files of the recording.
    """

    def __init__(self, paths: RecordingPaths) -> None:
        self.paths = paths

    @cached_property
    def status(self) -> dict[str, Any]:
        """Content of status.json; empty if there is none.

        Raises
        ------
        InputError
            If it is damaged.
        """
        try:
            return load_status(self.paths.status)
        except UnreadableError:
            raise
        except InputError as error:
            raise self.fault(str(error)) from error

    @property
    def contents(self) -> Contents:
        """What our own stage 1 stated; empty for files of other programs."""
        return contents_in(self.status)

    def damage(self) -> str | None:
        """Return what is wrong with the first file that is not what was stated, if one is.

        Returns
        -------
        str or None
            For a message, with the path.
        """
        for name in self.contents:
            path = self.paths.folder / name
            problem = wrong(self.paths.folder, self.contents, path)
            if not path.is_file():
                problem = "is missing"
            if problem is not None:
                return f"{path} {problem}"
        return None

    def checked(self, path: Path) -> Path:
        """Return a file that is what stage 1 stated.

        Parameters
        ----------
        path : Path
            One of the recording's.

        Returns
        -------
        Path
            The same.

        Raises
        ------
        InputError
            If it is not; the recording then no longer counts as corrected.
        """
        problem = wrong(self.paths.folder, self.contents, path)
        if problem is not None:
            raise self.fault(f"{path} {problem}: it is damaged, or of another run")
        return path

    def compensated(self) -> Path | None:
        """Return the corrected frames; None if there are none.

        Raises
        ------
        InputError
            If they are not what stage 1 wrote.
        """
        found = self.paths.compensated if self.contents else find_compensated(self.paths.folder)
        return self.checked(found) if found is not None and found.is_file() else None

    def idx(self) -> Path | None:
        """Return the valid masks; None if there are none.

        Raises
        ------
        InputError
            If they are not what stage 1 wrote.
        """
        found = self.paths.idx if self.contents else find_idx(self.paths.folder)
        return self.checked(found) if found is not None and found.is_file() else None

    def check_frames(self, path: Path, average: NDArray[np.float64], mean: NDArray[Any]) -> None:
        """Compare the mean of the frames that were read with the average stage 1 stated.

        Parameters
        ----------
        path : Path
            The corrected frames.
        average : ndarray
            Temporal average of the recording, float64 (H, W, C).
        mean : ndarray
            Mean of the frames in `path`, float64 (H, W, C).

        Raises
        ------
        InputError
            If they differ, so a frame is not the one that was written. Files of other programs
            may have averages that were rounded in another way, and pass.
        """
        if self.contents and not np.array_equal(average, mean):
            raise self.fault(f"{path} holds other frames than were written: it is damaged")

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Take files of our own that cannot be read in the block for damaged.

        Raises
        ------
        InputError
            Of the block; the recording then no longer counts as corrected.
        """
        try:
            yield
        except (Stage1Error, UnreadableError):
            raise
        except InputError as error:
            if not self.contents:
                raise
            raise self.fault(str(error).rstrip(".")) from error

    def fault(self, problem: str) -> Stage1Error:
        """Make the error for a file that cannot be used; its recording has to be corrected again.

        Parameters
        ----------
        problem : str
            The file and what is wrong with it.

        Returns
        -------
        Stage1Error
            To be raised.
        """
        name = self.paths.name
        try:
            withdraw_stage1(self.paths)
        except OSError as error:
            logger.warning("%s still counts as corrected: %s", name, error)
        return Stage1Error(
            f"{problem}. {name} no longer counts as corrected: run stage 1 again, which corrects "
            "it anew (all stages, or the workflow, do that by themselves). To use a file of "
            f"another program, remove {self.paths.status}."
        )


def check_other_programs(config: SessionConfig, recordings: Sequence[Recording]) -> None:
    """Compare corrected frames of other programs with their masks and recordings.

    Parameters
    ----------
    config : SessionConfig
        The session.
    recordings : sequence of Recording
        Recordings whose corrected frames are going to be used.

    Raises
    ------
    ConfigError
        With every problem found. Only headers are read.
    """
    problems = []
    for recording in recordings:
        try:
            _check_other_program(config, recording)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems)


def _check_other_program(config: SessionConfig, recording: Recording) -> None:
    files = Stage1Files(recording_paths(config, recording.name))
    compensated = None if files.contents else files.compensated()
    if compensated is None:
        return
    with open_reader(compensated) as reader:
        shape = reader.shape
    missing = unwritten_chunks(compensated)
    if missing:
        raise InputError(
            f"{compensated} is incomplete: {missing} of its frames were never written, as after a "
            f"crash. {_REMEDY}"
        )
    try:
        expected = frames_expected(config, recording)
    except InputError as error:
        logger.warning("%s cannot be compared with its recording: %s", compensated, error)
        expected = shape[0]
    if shape[0] != expected:
        raise InputError(
            f"{compensated} has {shape[0]} frames, {recording.path} gives {expected}: it is "
            f"incomplete, or of another recording. {_REMEDY}"
        )
    idx = files.idx()
    if idx is not None and mask_shape(idx) != shape[:3]:
        raise InputError(
            f"{idx} holds masks of shape {mask_shape(idx)}, {compensated} frames of {shape[:3]}: "
            f"they are of different recordings. {_REMEDY}"
        )


_REMEDY = "Run stage 1, which makes it anew, or put the complete file of the other program there."


def frames_expected(config: SessionConfig, recording: Recording) -> int:
    """Return the number of corrected frames of a recording, from its header.

    Parameters
    ----------
    config : SessionConfig
        `flow_options.bin_size` averages frames in groups.
    recording : Recording
        One of the session's.

    Returns
    -------
    int
        At least 2.

    Raises
    ------
    InputError
        If the recording cannot be read.
    """
    frames = inspect_recording(recording.path, config.input_options)["frames"]
    options = config.options_for()
    if options.bin_size == 1:
        return frames
    drop_short = PROFILES[options.numerics].drop_short_bin
    return len(bins(frames, options.bin_size, options.buffer_size, drop_short))
