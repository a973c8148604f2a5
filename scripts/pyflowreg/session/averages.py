"""Temporal averages of recordings, read one at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import ConfigError, InputError
from pyflowreg.io import open_reader
from pyflowreg.io.arrays import read_npy
from pyflowreg.io.atomic import atomic_save_npy
from pyflowreg.io.safety import LARGEST_FRAME
from pyflowreg.motion_correction.statistics import RunningMean
from pyflowreg.session.outputs import RecordingPaths, find_compensated

READ_FRAMES = 64


def temporal_average(paths: RecordingPaths) -> NDArray[np.float64]:
    """Mean of the corrected frames; computed and saved if another program left only the frames.

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
        If stage 1 of the recording is missing or its files cannot be read.
    """
    if paths.temporal_average.is_file():
        try:
            average = read_npy(paths.temporal_average)
        except (OSError, InputError) as error:
            raise InputError(f"{str(error).rstrip('.')}. Delete it and run again.") from error
        numbers = average.dtype.kind in "fiu" and average.ndim in (2, 3)
        if numbers and np.isfinite(average).all():
            average = average[:, :, None] if average.ndim == 2 else average
            return np.asarray(average, dtype=np.float64)
        raise InputError(
            f"{paths.temporal_average} holds no finite image of shape (H, W, C). "
            "Delete it and run again."
        )
    compensated = find_compensated(paths.folder)
    if compensated is None:
        raise InputError(
            f"{paths.name} has no corrected frames in {paths.folder}; run stage 1 first."
        )
    mean = RunningMean()
    with open_reader(compensated) as reader:
        size = math.prod(reader.shape[1:]) * reader.dtype.itemsize
        step = max(1, min(READ_FRAMES, LARGEST_FRAME // 4 // size))
        for start in range(0, reader.shape[0], step):
            for frame in reader.read(start, min(start + step, reader.shape[0])):
                mean.add(frame)
    atomic_save_npy(paths.temporal_average, mean.mean())
    return mean.mean()


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
