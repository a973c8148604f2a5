"""The aligned videos of stage 3: corrected frames in the centre's grid."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.backend_registry import BACKENDS, get_backend
from pyflowreg.core.backend_types import Warps
from pyflowreg.core.compilation.log import compile_log
from pyflowreg.core.numerics import to_dtype
from pyflowreg.core.threads import Behind, ahead
from pyflowreg.core.warping import align_sequence
from pyflowreg.errors import InputError
from pyflowreg.io import Reader, open_reader, open_writer
from pyflowreg.motion_correction.progress import Progress
from pyflowreg.session.averages import temporal_average
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.discovery import Recording, centre_index, discover_recordings
from pyflowreg.session.outputs import RecordingPaths, find_compensated, recording_paths
from pyflowreg.session.records import Record, is_younger, video_record
from pyflowreg.session.stage1_compensate import threads_of
from pyflowreg.session.stage2_between_avgs import (
    field_fingerprint,
    saved_field,
    saved_fingerprint,
)

logger = logging.getLogger(__name__)

Field = NDArray[np.float64]

BLOCKS_IN_MEMORY = 5
"""One is being read, one is ready, one is warped into another, and one is being written."""


def required(found: Path | None, paths: RecordingPaths, what: str) -> Path:
    """Return a file of stage 1 that was looked for.

    Parameters
    ----------
    found : Path or None
        The file, or None.
    paths : RecordingPaths
        Files of the recording.
    what : str
        What the file is, for the message.

    Returns
    -------
    Path
        `found`.

    Raises
    ------
    InputError
        If it is None.
    """
    if found is None:
        raise InputError(f"{paths.name} has no {what} in {paths.folder}; run stage 1 first.")
    return found


def align_sequence_video(
    compensated: Path,
    output: Path,
    displacement: Field,
    reference_average: NDArray[Any],
    *,
    chunk_size: int = 64,
    output_format: str = "TIFF",
    threads: int = 1,
    backend: Warps | None = None,
) -> Path:
    """Write a corrected recording in the centre's grid.

    Parameters
    ----------
    compensated : Path
        Corrected frames of stage 1.
    output : Path
        Video to write; it appears when it is complete.
    displacement : ndarray
        Field of the recording in pixels, (H, W, 2).
    reference_average : ndarray
        The centre's temporal average, (H, W, C): fills samples outside the recording.
    chunk_size : int
        Frames held in memory.
    output_format : {'TIFF', 'HDF5'}
        Format of the video.
    threads : int
        Frames warped at the same time.
    backend : Warps, optional
        A flow backend that warps; by default compiled kernels on the CPU do.

    Returns
    -------
    Path
        `output`.

    Raises
    ------
    InputError
        If the frames cannot be read or do not fit the field.
    """
    with open_reader(compensated) as reader:
        if reader.shape[1:3] != displacement.shape[:2]:
            raise InputError(
                f"{compensated} holds frames of {reader.shape[1]} x {reader.shape[2]} pixels, the "
                f"displacement has {displacement.shape[0]} x {displacement.shape[1]}; "
                "run stages 1 and 2 again."
            )
        fill = to_dtype(reference_average, reader.dtype)
        with (
            open_writer(
                output, shape=reader.shape, dtype=reader.dtype, format=output_format
            ) as writer,
            Progress(output.name, reader.shape[0]) as progress,
            Behind() as behind,
        ):
            done = 0
            for frames in ahead(_blocks(reader, _block_length(chunk_size, threads))):
                if backend is None:
                    aligned = align_sequence(frames, displacement, fill, "cubic", threads)
                else:
                    warped = backend.warp_frames(frames, displacement, fill, frames.dtype, threads)
                    aligned = warped.frames
                behind.submit(writer.write, aligned)
                done += len(frames)
                compile_log.report()
                progress.update(done)
    return output


def _block_length(chunk_size: int, threads: int) -> int:
    """Frames that are warped together: blocks are read, warped and written at the same time."""
    length = max(chunk_size // BLOCKS_IN_MEMORY, 1)
    return max(length // threads, 1) * threads if length >= threads else length


def _blocks(reader: Reader, length: int) -> Generator[NDArray[Any], None, None]:
    for start in range(0, reader.shape[0], length):
        yield reader.read(start, min(start + length, reader.shape[0]))


def _follows(
    config: SessionConfig, paths: RecordingPaths, middle: RecordingPaths, fixed: NDArray[Any]
) -> bool | None:
    """Whether the saved field is stage 2's for these averages and settings; None: not its own."""
    saved = saved_fingerprint(paths.w_to_reference)
    if saved is None:
        return None
    is_centre = paths.name == middle.name
    return saved == field_fingerprint(config, fixed, temporal_average(paths), is_centre)


def _is_current(
    paths: RecordingPaths, sources: Sequence[Path], record: Record, follows: bool | None
) -> bool:
    """Whether the aligned video is younger than all it is made from, and complete.

    The age of a field that follows from the sources says nothing: it may have been made again.
    """
    if follows and not record.path.is_file():
        return False
    if not is_younger(paths.aligned, sources if follows else [*sources, paths.w_to_reference]):
        return False
    try:
        with open_reader(paths.aligned) as video, open_reader(sources[0]) as frames:
            return bool(video.shape == frames.shape and video.dtype == frames.dtype)
    except InputError:
        return False


def _warping_backend(config: SessionConfig) -> Warps | None:
    """Return the session's backend if it warps."""
    if not BACKENDS[config.flow_backend].warps:
        return None
    backend = get_backend(config.flow_backend, config.used_backend_params)
    return backend if isinstance(backend, Warps) else None


def align_recording(
    config: SessionConfig,
    recording: Recording,
    *,
    centre: Recording | None = None,
    displacement: Field | None = None,
    threads: int | None = None,
) -> Path:
    """Write one corrected recording in the session's reference grid.

    Parameters
    ----------
    config : SessionConfig
        The session; with `resume`, a video younger than its sources is left as it is.
    recording : Recording
        One of its recordings.
    centre : Recording, optional
        The centre; by default from the settings.
    displacement : ndarray, optional
        Field (H, W, 2); by default the one saved by stage 2.
    threads : int, optional
        Frames warped at the same time; by default what `config.n_workers` says.

    Returns
    -------
    Path
        The video.

    Raises
    ------
    InputError
        If results of stage 1 or 2 are missing or cannot be read.
    """
    if centre is None:
        recordings = discover_recordings(config)
        centre = recordings[centre_index(config, recordings)]
    paths, middle = (recording_paths(config, entry.name) for entry in (recording, centre))
    compensated = required(find_compensated(paths.folder), paths, "corrected frames")
    reference = temporal_average(middle)
    record = video_record(config, recording.name, centre.name)
    follows = _follows(config, paths, middle, reference)
    sources = [compensated, middle.temporal_average]
    if config.resume and displacement is None and _is_current(paths, sources, record, follows):
        logger.info("%s is already aligned.", recording.name)
        return paths.aligned
    record.withdraw()
    video = align_sequence_video(
        compensated,
        paths.aligned,
        saved_field(paths) if displacement is None else displacement,
        reference,
        chunk_size=config.align_chunk_size,
        output_format=config.align_output_format,
        threads=threads or threads_of(config),
        backend=_warping_backend(config),
    )
    if displacement is not None:
        # Older than its sources: it is not what the saved field gives, and made again with that.
        made = compensated.stat().st_mtime_ns - 1
        os.utime(video, ns=(made, made))
    elif follows is False:
        logger.warning(
            "%s was found with other settings or averages; run stage 2, then stage 3 again.",
            paths.w_to_reference,
        )
    else:
        record.write()
    return video
