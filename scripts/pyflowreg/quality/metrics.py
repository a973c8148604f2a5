"""How well one recording was corrected, measured from the files of the session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.errors import InputError
from pyflowreg.io import open_reader
from pyflowreg.io.arrays import read_npz
from pyflowreg.io.fields import field_shape, iter_fields
from pyflowreg.motion_correction.statistics import RunningMean
from pyflowreg.session.averages import temporal_average
from pyflowreg.session.outputs import find_compensated, find_displacements, recording_paths
from pyflowreg.session.saved_fields import read_field

if TYPE_CHECKING:
    from pyflowreg.io import Reader
    from pyflowreg.session.config import SessionConfig
    from pyflowreg.session.discovery import Recording

BORDER = 12
"""Pixels at each side that the image metrics leave out: frames differ there in what they show."""

_CHUNK = 32  # frames in memory

Image = NDArray[np.float64]


@dataclass(frozen=True)
class RecordingMetrics:
    """Quality of one recording.

    Parameters
    ----------
    name : str
        Name of the recording.
    mean_displacement, max_displacement : float
        Length of the estimated displacement over all frames and pixels, pixels.
    correlation_before, correlation_after : float
        Mean over the frames of Pearson's correlation of a frame with the average of its own
        movie; raw frames and raw average, corrected frames and corrected average.
    crispness_before, crispness_after : float
        Frobenius norm of the gradient of the average, grey values per pixel.
    """

    name: str
    mean_displacement: float
    max_displacement: float
    correlation_before: float
    correlation_after: float
    crispness_before: float
    crispness_after: float


def recording_metrics(config: SessionConfig, recording: Recording) -> RecordingMetrics:
    """Measure one recording after stage 1.

    Parameters
    ----------
    config : SessionConfig
        The session.
    recording : Recording
        One of its recordings.

    Returns
    -------
    RecordingMetrics
        Image metrics are means over the channels that were registered.

    Raises
    ------
    InputError
        If stage 1 has not made its files.
    """
    paths = recording_paths(config, recording.name)
    mean, largest = displacement_summary(paths.statistics)
    corrected = _needed(find_compensated(paths.folder), paths.compensated)
    average = temporal_average(paths)
    with open_reader(recording.path, config.input_options) as raw:
        raw_average = movie_average(raw)
        before = frame_correlation(raw, raw_average)
    with open_reader(corrected) as movie:
        after = frame_correlation(movie, average)
    return RecordingMetrics(
        name=recording.name,
        mean_displacement=mean,
        max_displacement=largest,
        correlation_before=float(before.mean()),
        correlation_after=float(after.mean()),
        crispness_before=crispness(raw_average),
        crispness_after=crispness(average),
    )


def displacement_summary(statistics: Path) -> tuple[float, float]:
    """Return the mean and the largest displacement of a recording.

    Parameters
    ----------
    statistics : Path
        Its `statistics.npz`.

    Returns
    -------
    mean, largest : float
        Over all frames and pixels, pixels.

    Raises
    ------
    InputError
        If the file does not exist, or is damaged.
    """
    data = read_npz(_needed(statistics))
    return float(np.mean(data["mean_disp"])), float(np.max(data["max_disp"]))


def load_displacements(folder: Path) -> NDArray[np.float32]:
    """Read the fields of all frames of a recording.

    Parameters
    ----------
    folder : Path
        Output folder of the recording.

    Returns
    -------
    ndarray, float32, shape (T, H, W, 2)
        Stage-1 fields, pixels, backward map corrected(y, x) = frame(y + v, x + u).

    Raises
    ------
    InputError
        If stage 1 has not written them.
    """
    path = find_displacements(folder)
    if path is None:
        raise InputError(
            f"{folder} holds no displacement fields (w.h5): set `save_w: true` in flow_options and "
            "run stage 1 again."
        )
    frames, height, width = field_shape(path)
    fields = np.empty((frames, height, width, 2), np.float32)
    start = 0
    for block in iter_fields(path):
        fields[start : start + len(block)] = block
        start += len(block)
    return fields


def load_field(path: Path) -> Image:
    """Read a `w_to_reference.npz`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray, float64, shape (H, W, 2)
        Stage-2 field, pixels, backward map centre(y, x) = recording(y + v, x + u).

    Raises
    ------
    InputError
        If the file does not exist.
    """
    field = read_field(_needed(path))
    if field is None:
        raise InputError(f"{path} cannot be read: delete it and run stage 2 again.")
    return field


def movie_average(reader: Reader) -> Image:
    """Average a movie over its frames.

    Parameters
    ----------
    reader : Reader
        The movie, streamed.

    Returns
    -------
    ndarray, float64, shape (H, W, C)
        The mean.
    """
    mean = RunningMean()
    for frames in _chunks(reader):
        for frame in frames:
            mean.add(frame)
    return mean.mean()


def frame_correlation(reader: Reader, average: Image, border: int = BORDER) -> Image:
    """Correlate every frame with an image.

    Parameters
    ----------
    reader : Reader
        The movie, streamed.
    average : ndarray, float64, shape (H, W, C)
        The image.
    border : int, default 12
        Pixels left out at each side; less if the frame is small.

    Returns
    -------
    ndarray, float64, shape (T,)
        Pearson's r, mean over the channels; 0 where a frame or the image is constant.
    """
    template = interior(average, border)
    template = template - template.mean(axis=(0, 1))
    length = np.sqrt((template**2).sum(axis=(0, 1)))
    result = []
    for frames in _chunks(reader):
        values = interior(frames.astype(np.float64), border)
        values = values - values.mean(axis=(1, 2), keepdims=True)
        product = (values * template).sum(axis=(1, 2))
        norm = np.sqrt((values**2).sum(axis=(1, 2))) * length
        r = np.divide(product, norm, out=np.zeros_like(product), where=norm > 0)
        result.append(r.mean(axis=1))
    return np.concatenate(result)


def crispness(average: Image, border: int = BORDER) -> float:
    """Return the Frobenius norm of the gradient of an image.

    Parameters
    ----------
    average : ndarray, float64, shape (H, W, C)
        The image.
    border : int, default 12
        Pixels left out at each side; less if the image is small.

    Returns
    -------
    float
        Grey values per pixel, mean over the channels.
    """
    inner = interior(average, border)
    rows, cols = np.gradient(inner, axis=(0, 1))
    return float(np.sqrt((rows**2 + cols**2).sum(axis=(0, 1))).mean())


def interior(images: NDArray[Any], border: int = BORDER) -> NDArray[Any]:
    """Cut the border off images.

    Parameters
    ----------
    images : ndarray, shape (..., H, W, C)
        One image or several, of any number type.
    border : int, default 12
        Pixels to cut off at each side; at most a quarter of the height and width.

    Returns
    -------
    ndarray
        A view of `images`.
    """
    height, width = images.shape[-3:-1]
    rows, cols = min(border, height // 4), min(border, width // 4)
    return images[..., rows : height - rows, cols : width - cols, :]


def _chunks(reader: Reader) -> Iterator[NDArray[Any]]:
    for start in range(0, reader.shape[0], _CHUNK):
        yield reader.read(start, min(start + _CHUNK, reader.shape[0]))


def _needed(path: Path | None, wanted: Path | None = None) -> Path:
    if path is None or not path.is_file():
        raise InputError(f"{wanted or path} does not exist: run the session up to its stage first.")
    return path
