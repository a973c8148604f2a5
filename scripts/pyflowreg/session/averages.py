"""Temporal averages of recordings, read one at a time."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import ConfigError, InputError, UnreadableError
from pyflowreg.io import open_reader
from pyflowreg.io.arrays import read_npy
from pyflowreg.io.atomic import atomic_save_npy
from pyflowreg.io.safety import LARGEST_FRAME
from pyflowreg.motion_correction.statistics import RunningMean
from pyflowreg.session.contents import CHECKSUM, wrong
from pyflowreg.session.outputs import RecordingPaths
from pyflowreg.session.stage1_files import Stage1Files

logger = logging.getLogger(__name__)

READ_FRAMES = 64


def temporal_average(paths: RecordingPaths) -> NDArray[np.float64]:
    """Mean of the corrected frames; computed from them and saved if it is missing or damaged.

    Parameters
    ----------
    paths : RecordingPaths
        Files of the recording.

    Returns
    -------
    ndarray
        float64, shape (H, W, C).

    Raises
    ------
    InputError
        If stage 1 of the recording is missing or its files cannot be used.
    """
    files = Stage1Files(paths)
    path = paths.temporal_average
    problem = None
    if path.is_file():
        problem = wrong(paths.folder, files.contents, path)
        if problem is None:
            return _read(path)
        logger.warning("%s %s; it is made again from the corrected frames.", path, problem)
    compensated = files.compensated()
    if compensated is None:
        raise InputError(
            f"{paths.name} has no corrected frames in {paths.folder}; run stage 1 first."
        )
    average = _mean(compensated)
    if not _is_what_was_stated(files, average):
        if problem is None:
            problem = "is missing, and the frames are not those it was the mean of"
        raise files.fault(f"{path} {problem}")
    atomic_save_npy(path, average)
    if files.contents and paths.status.exists():
        # The same file as before, so nothing that came after it is outdated.
        made = paths.status.stat().st_mtime_ns
        os.utime(path, ns=(made, made))
    return average


def _read(path: Path) -> NDArray[np.float64]:
    try:
        average = read_npy(path)
    except UnreadableError:
        raise
    except InputError as error:
        raise InputError(f"{str(error).rstrip('.')}. Delete it and run again.") from error
    if average.dtype.kind not in "fiu" or average.ndim not in (2, 3) or not _is_finite(average):
        raise InputError(
            f"{path} holds no finite image of shape (H, W, C). Delete it and run again."
        )
    average = average[:, :, None] if average.ndim == 2 else average
    return np.asarray(average, dtype=np.float64)


def _is_finite(average: NDArray[Any]) -> bool:
    return bool(np.isfinite(average).all()) and average.size > 0


def _mean(compensated: Path) -> NDArray[np.float64]:
    mean = RunningMean()
    with open_reader(compensated) as reader:
        size = math.prod(reader.shape[1:]) * reader.dtype.itemsize
        step = max(1, min(READ_FRAMES, LARGEST_FRAME // 4 // size))
        for start in range(0, reader.shape[0], step):
            mean.add_all(reader.read(start, min(start + step, reader.shape[0])))
    return mean.mean()


def _is_what_was_stated(files: Stage1Files, average: NDArray[np.float64]) -> bool:
    """Whether an average becomes the file that stage 1 wrote, if it stated which."""
    stated = files.contents.get(files.paths.temporal_average.name, {}).get(CHECKSUM)
    content = io.BytesIO()
    np.save(content, average, allow_pickle=False)
    return stated in (None, hashlib.sha256(content.getvalue()).hexdigest())


def common_shape(files: Sequence[RecordingPaths]) -> tuple[int, int, int]:
    """Check the temporal averages of all recordings; one is in memory at a time.

    Parameters
    ----------
    files : sequence of RecordingPaths
        Files of each recording.

    Returns
    -------
    tuple of int
        Shape (H, W, C) of every average.

    Raises
    ------
    ConfigError
        Naming every average that is missing, cannot be read, or differs in shape.
    """
    shapes, problems = [], []
    for paths in files:
        try:
            height, width, channels = temporal_average(paths).shape
            shapes.append((height, width, channels))
        except InputError as error:
            problems.append(str(error))
    if not problems:
        problems = [
            f"the average of {paths.name} has shape {shape}, that of {files[0].name} {shapes[0]}; "
            "all must be equal."
            for paths, shape in zip(files, shapes, strict=True)
            if shape != shapes[0]
        ]
    if problems:
        raise ConfigError(problems)
    return shapes[0]
