"""The aligned videos of stage 3: corrected frames in the centre's grid."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.backend_registry import BACKENDS, check_backend, get_backend
from pyflowreg.core.backend_types import Warps
from pyflowreg.core.compilation.log import compile_log
from pyflowreg.core.numerics import to_dtype
from pyflowreg.core.threads import Behind, ahead
from pyflowreg.core.warping import align_sequence
from pyflowreg.errors import InputError
from pyflowreg.io import Reader, open_reader, open_writer
from pyflowreg.io.atomic import remove_leftovers, scratch_folder
from pyflowreg.io.failures import remove_file
from pyflowreg.io.space import check_space, video_bytes
from pyflowreg.motion_correction.progress import Progress
from pyflowreg.motion_correction.statistics import RunningMean
from pyflowreg.session.averages import temporal_average
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.contents import contents_of, wrong
from pyflowreg.session.discovery import Recording, centre_index, discover_recordings
from pyflowreg.session.locks import video_lock
from pyflowreg.session.outputs import ALIGNED_SUFFIX, RecordingPaths, recording_paths
from pyflowreg.session.path_safety import check_paths
from pyflowreg.session.records import Record, keep_younger, video_record
from pyflowreg.session.saved_fields import (
    check_own_field,
    field_identity,
    saved_field,
    saved_fingerprint,
)
from pyflowreg.session.sources import corrected, video_sources
from pyflowreg.session.stage1_compensate import threads_of
from pyflowreg.session.stage1_files import Stage1Files, check_other_programs
from pyflowreg.session.stage2_between_avgs import field_fingerprint
from pyflowreg.session.times import date_after

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
    check: Callable[[NDArray[np.float64]], None] | None = None,
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
    check : callable, optional
        Gets the mean of the corrected frames, (H, W, C); the video appears unless it raises.
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
        mean = RunningMean()
        need = video_bytes(reader.shape, reader.dtype.itemsize, output_format)
        for folder in filter(None, (output.parent, scratch_folder())):
            check_space(folder, need, f"The aligned video {output.name}", largest=need)
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
                if check is not None:
                    mean.add_all(frames)
                done += len(frames)
                compile_log.report()
                progress.update(done)
            if check is not None:
                check(mean.mean())
    return output


def _block_length(chunk_size: int, threads: int) -> int:
    """Frames that are warped together: blocks are read, warped and written at the same time."""
    length = max(chunk_size // BLOCKS_IN_MEMORY, 1)
    return max(length // threads, 1) * threads if length >= threads else length


def _blocks(reader: Reader, length: int) -> Generator[NDArray[Any], None, None]:
    for start in range(0, reader.shape[0], length):
        yield reader.read(start, min(start + length, reader.shape[0]))


def field_follows(
    config: SessionConfig, paths: RecordingPaths, middle: RecordingPaths, fixed: NDArray[Any]
) -> bool | None:
    """Tell whether a saved field is stage 2's for these averages and settings.

    Parameters
    ----------
    config : SessionConfig
        The session.
    paths, middle : RecordingPaths
        Files of the recording and of the centre.
    fixed : ndarray
        Temporal average of the centre, (H, W, C).

    Returns
    -------
    bool or None
        None for the field of another program, which nobody knows.
    """
    saved = saved_fingerprint(paths.w_to_reference)
    if saved is None:
        return None
    check_own_field(paths)
    is_centre = paths.name == middle.name
    return saved == field_fingerprint(config, fixed, temporal_average(paths), is_centre)


def _is_complete(paths: RecordingPaths, record: Record, compensated: Path) -> bool:
    """Whether the aligned video is complete, and what was written."""
    problem = wrong(paths.results, record.files, paths.aligned)
    if problem is not None:
        logger.warning("%s %s; it is made again.", paths.aligned, problem)
        return False
    try:
        with open_reader(paths.aligned) as video, open_reader(compensated) as frames:
            return bool(video.shape == frames.shape and video.dtype == frames.dtype)
    except InputError:
        return False


def _warping_backend(config: SessionConfig) -> Warps | None:
    """Return the session's backend if it warps."""
    if not BACKENDS[config.flow_backend].warps:
        return None
    backend = get_backend(config.flow_backend, config.used_backend_params)
    return backend if isinstance(backend, Warps) else None


def check_warping(config: SessionConfig) -> None:
    """Make sure that the session's backend is available, if it warps.

    Raises
    ------
    BackendError
        If it is not.
    """
    if BACKENDS[config.flow_backend].warps:
        check_backend(config.flow_backend, config.used_backend_params, on_this_machine=True)


def _remove_outdated(config: SessionConfig, name: str, centre: str, sources: Any) -> None:
    """Remove the video in another format, unless it was made of the same."""
    other = config.model_copy()
    other.align_output_format = "HDF5" if config.align_output_format == "TIFF" else "TIFF"
    record = video_record(other, name, centre)
    video = recording_paths(other, name).aligned
    if record.family() and record.sources != sources:
        _remove(video, record)
        logger.info("%s was made with other settings or frames, and is removed.", video)
    elif video.exists() and not record.family():
        logger.warning("%s stays: nothing tells with which settings it was made.", video)


def _remove(video: Path, record: Record) -> None:
    """Remove a video of ours that is outdated; those of other programs have no record.

    In this order: what was killed in between is done by the next run, in whatever format. A video
    without its record would stay beside the new ones.
    """
    if record.family():
        remove_file(video)
    record.withdraw()


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
    BackendError
        If the flow backend warps, and is not available.
    """
    check_warping(config)
    if centre is None:
        recordings = discover_recordings(config)
        centre = recordings[centre_index(config, recordings)]
    check_paths(config, [recording, centre])
    with video_lock(config, recording.name):
        return _align(config, recording, centre, displacement, threads or threads_of(config))


def _align(
    config: SessionConfig,
    recording: Recording,
    centre: Recording,
    displacement: Field | None,
    threads: int,
) -> Path:
    """Make sure that the aligned video of a recording is there, and its record."""
    paths, middle = (recording_paths(config, entry.name) for entry in (recording, centre))
    check_other_programs(config, [recording])
    files = Stage1Files(paths)
    compensated = required(files.compensated(), paths, "corrected frames")
    reference = temporal_average(middle)
    record = video_record(config, recording.name, centre.name)
    videos = [paths.aligned.with_suffix(suffix) for suffix in ALIGNED_SUFFIX.values()]
    remove_leftovers([record.path, *videos])
    given = displacement is not None
    follows = None if given else field_follows(config, paths, middle, reference)
    field = field_identity(paths.w_to_reference)
    sources = video_sources(corrected(paths), corrected(middle), field)
    kept = config.resume and displacement is None and follows is not False
    if kept and record.sources == sources and _is_complete(paths, record, compensated):
        logger.info("%s is already aligned.", recording.name)
        keep_younger([paths.aligned, record.path], [compensated, middle.temporal_average])
        return paths.aligned
    _remove(paths.aligned, record)
    if displacement is not None:
        # Not what the saved field gives, and made again with that.
        return _write_video(config, files, compensated, displacement, reference, threads)
    saved = saved_field(paths, (reference.shape[0], reference.shape[1]))
    video = _write_video(config, files, compensated, saved, reference, threads)
    date_after(video, [compensated, middle.temporal_average, paths.w_to_reference])
    if follows is False:
        logger.warning(
            "%s was found with other settings or averages; run stage 2, then stage 3 again.",
            paths.w_to_reference,
        )
        return video
    _remove_outdated(config, recording.name, centre.name, sources)
    record.write(sources, contents_of(paths.results, [], [video]))
    return video


def _write_video(
    config: SessionConfig,
    files: Stage1Files,
    compensated: Path,
    field: Field,
    reference: NDArray[np.float64],
    threads: int,
) -> Path:
    """Write the video of a recording, unless its frames are not those that stage 1 wrote."""
    average = temporal_average(files.paths)
    if average.shape != reference.shape:
        raise InputError(
            f"the average of {files.paths.name} has shape {average.shape}, that of the centre "
            f"{reference.shape}; all must be equal. Run stage 1 again."
        )
    with files.faults():
        return align_sequence_video(
            compensated,
            files.paths.aligned,
            field,
            reference,
            chunk_size=config.align_chunk_size,
            output_format=config.align_output_format,
            backend=_warping_backend(config),
            threads=threads,
            check=lambda mean: files.check_frames(compensated, average, mean),
        )
